"""What every method is: networks, data streams, and one ``losses``."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import nn

from mixdet.structures import Detector, Losses, Step, Stream, Views

LabeledViews = Literal["weak", "strong", "both"]
LABELED_VIEWS: dict[LabeledViews, tuple[str, ...]] = {
    "weak": ("weak",),
    "strong": ("strong",),
    "both": ("weak", "strong"),
}
"""Which views of labelled images a student sees: one, or both in one batch."""


class Method(nn.Module):
    """One paper's training method. The only base class: no method inherits from another.

    ``state_dict()`` is the checkpoint; parameters with ``requires_grad`` are the optimizer's. What a later phase needs
    exists from step 0 and enters the loss later.

    Attributes:
        streams: the data streams it reads, set by its constructor.
        idle_parameters: whether some trainable parameter gets no gradient in some step (DDP has to look for it then).
    """

    streams: tuple[Stream, ...] = ()
    idle_parameters: ClassVar[bool] = False

    def losses(self, *, step: Step, **views: Views) -> Losses:
        """The losses of one shard: the paper's Algorithm box. One keyword a stream."""
        raise TypeError(f"{type(self).__name__} defines no losses")

    def forward(self, *, step: Step, **views: Views) -> Losses:
        """``losses``, so that DistributedDataParallel can wrap the method."""
        return self.losses(step=step, **views)

    def after_step(self, step: Step) -> None:
        """Called once after each optimizer step: moving averages and copies live here."""

    def lr_scale(self, parameter_name: str) -> float:
        """Factor on the learning rate of one parameter."""
        return 1.0

    def detectors(self) -> dict[str, Detector]:
        """The networks that can predict, by name; a teacher before its student."""
        raise TypeError(f"{type(self).__name__} names no detectors")
