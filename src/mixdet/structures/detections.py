"""What a detector predicts for one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Detections:
    """Predictions of one image (D detections), best score first.

    A type of its own on purpose: a prediction is not supervision until a method makes it so.

    Attributes:
        boxes: (D, 4) float32, absolute-pixel xyxy of the view that was predicted on.
        labels: (D,) int64 in [0, num_classes).
        scores: (D,) in [0, 1].
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.boxes.shape != (count, 4) or self.labels.shape != (count,):
            raise ValueError(
                f"Detections: boxes {tuple(self.boxes.shape)}, labels {tuple(self.labels.shape)} "
                f"and scores {tuple(self.scores.shape)} do not belong together"
            )

    def __len__(self) -> int:
        return len(self.scores)

    def to(self, device: torch.device | str) -> Detections:
        return Detections(self.boxes.to(device), self.labels.to(device), self.scores.to(device))

    def select(self, index: Tensor) -> Detections:
        return Detections(self.boxes[index], self.labels[index], self.scores[index])

    def split(self, counts: Sequence[int]) -> list[Detections]:
        """The detections cut into parts of ``counts``, in order: what ``concat`` joined."""
        columns = (column.split(counts) for column in (self.boxes, self.labels, self.scores))
        return [Detections(*row) for row in zip(*columns, strict=True)]

    @staticmethod
    def concat(parts: Sequence[Detections]) -> Detections:
        """All detections of ``parts`` (at least one), one part after the other: no longer best first."""
        columns = ([p.boxes for p in parts], [p.labels for p in parts], [p.scores for p in parts])
        return Detections(*(torch.cat(column) for column in columns))
