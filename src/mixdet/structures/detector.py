"""What a method may ask of a detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mixdet.structures.batch import Batch
from mixdet.structures.detections import Detections
from mixdet.structures.losses import Losses
from mixdet.structures.regions import Regions

Features = dict[str, Tensor]


@runtime_checkable
class Detector(Protocol):
    """Three verbs; an ``nn.Module``. Nothing in them depends on ``training`` but dropout and batch norm.

    Attributes:
        stride: canvas sides must be multiples of it.
        pad_colour: (3,) the colour that normalises to zero.
        num_classes: K, without background.
    """

    @property
    def stride(self) -> int: ...

    @property
    def pad_colour(self) -> Tensor: ...

    @property
    def num_classes(self) -> int: ...

    def features(self, images: Tensor) -> Features:
        """Feature levels that convolutions made, finest first ("p2" ...), from (B, 3, H, W) in [0, 1]."""
        ...

    def losses(self, features: Features, batch: Batch) -> Losses:
        """The stock losses, each element multiplied by its weight; denominators stay counts."""
        ...

    def predict(self, features: Features, batch: Batch) -> list[Detections]:
        """One ``Detections`` an image, in the pixels of the batch's images."""
        ...


@runtime_checkable
class Staged(Protocol):
    """A backbone that can be tapped between its stages; ``features`` is the fold of these."""

    @property
    def stages(self) -> Sequence[str]: ...

    def normalize(self, images: Tensor) -> Tensor: ...

    def stage(self, name: str, x: Tensor) -> Tensor: ...

    def neck(self, maps: Features) -> Features: ...


@runtime_checkable
class TwoStage(Protocol):
    """The public steps of which a two-stage detector's ``losses`` and ``predict`` are made.

    Attributes:
        region_channels: D of ``region_features``.
    """

    @property
    def region_channels(self) -> int: ...

    def rpn_outputs(self, features: Features) -> Any: ...

    def rpn_losses(self, outputs: Any, batch: Batch) -> Losses: ...

    def propose(self, outputs: Any, batch: Batch, limit: Any = None) -> Regions: ...

    def sample(self, regions: Regions, batch: Batch, generator: torch.Generator | None = None) -> Regions: ...

    def region_features(self, features: Features, regions: Regions) -> Tensor: ...

    def region_outputs(self, x: Tensor) -> tuple[Tensor, Tensor]: ...

    def region_boxes(self, deltas: Tensor, regions: Regions) -> Tensor: ...

    def region_losses(self, outputs: tuple[Tensor, Tensor], regions: Regions) -> Losses: ...

    def detections(self, outputs: tuple[Tensor, Tensor], regions: Regions, batch: Batch) -> list[Detections]: ...


@runtime_checkable
class TwoStageDetector(Detector, TwoStage, Protocol):
    """A detector whose steps are public."""


def supervise(detector: Detector, batch: Batch) -> Losses:
    """``detector.losses(detector.features(batch.images), batch)``."""
    return detector.losses(detector.features(batch.images), batch)


def as_module(detector: Detector) -> nn.Module:
    """The detector as the ``nn.Module`` it is."""
    if not isinstance(detector, nn.Module):
        raise TypeError(f"{type(detector).__name__} is a detector but no torch.nn.Module")
    return detector
