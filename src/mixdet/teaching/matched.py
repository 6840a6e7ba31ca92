"""Thresholds that follow the teacher: of each class, so that pseudo boxes are as frequent as labelled ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mixdet.structures import Detections, Instances
from mixdet.teaching.class_thresholds import GRID, nearest_thresholds, score_counts

EXPECTED = 5.0
"""Boxes of a class that the images which count should have, before its threshold follows: of fewer it would be that of
one lucky box, or of none."""


class MatchedThresholds(nn.Module):
    """A ``Threshold`` with a number for each class, solved anew each step (the rule of LabelMatch, Chen et al. 2022).

    Labelled images say how many boxes of a class an image has; what the teacher has found of late says above which
    score it finds as many. A fixed number that is right for a teacher of 118,000 photographs keeps half of the objects,
    or none, where the teacher has seen twenty; what is missing is then taught as background.

    What is shown to it counts from the next ``commit`` on, in all processes, so that labels do not depend on how shards
    are dealt to processes. Its counts are part of its method's ``state_dict``.

    Args:
        num_classes: K.
        start: threshold of a class until ``EXPECTED`` boxes of it should have been found.
        decay: of what was found, a step: at 0.99 some hundred steps count.
    """

    found: Tensor
    images: Tensor
    labeled_boxes: Tensor
    labeled_images: Tensor
    scores: Tensor

    def __init__(self, num_classes: int, start: float, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("found", torch.zeros(num_classes, len(GRID) + 1, dtype=torch.float64))
        self.register_buffer("images", torch.zeros((), dtype=torch.float64))
        self.register_buffer("labeled_boxes", torch.zeros(num_classes, dtype=torch.float64))
        self.register_buffer("labeled_images", torch.zeros((), dtype=torch.float64))
        self.register_buffer("scores", torch.full((num_classes,), start))
        self._new: dict[str, Tensor] = {}  # since the last commit; no buffers, which DDP would take from one process

    def forward(self, detections: Detections) -> Tensor:
        """(D,) bool, which detections of one image become labels; the image counts from the next ``commit`` on."""
        self._count("found", score_counts(detections.scores, detections.labels, len(self.scores)))
        self._count("images", torch.ones_like(self.images))
        return detections.scores > self.scores.to(detections.scores.device)[detections.labels]

    def expect(self, instances: Sequence[Instances]) -> None:
        """Count what labelled images have; ignored boxes are none."""
        labels = torch.cat([of_image.labels[~of_image.ignored] for of_image in instances])
        self._count("labeled_boxes", torch.bincount(labels, minlength=len(self.scores)))
        self._count("labeled_images", torch.full_like(self.labeled_images, len(instances)))

    def commit(self) -> None:
        """Let what was seen since the last call count, in all processes; each of them calls this once a step."""
        for name, decay in (("found", self.decay), ("images", self.decay), ("labeled_boxes", 1), ("labeled_images", 1)):
            total: Tensor = getattr(self, name)
            new = self._new.pop(name, torch.zeros_like(total))
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(new)
            total.mul_(decay).add_(new)
        wanted = self.labeled_boxes / self.labeled_images.clamp(min=1)
        solved = nearest_thresholds(self.found, self.images, wanted).to(self.scores)
        self.scores.copy_(torch.where(self.images * wanted >= EXPECTED, solved, self.scores))

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._new = {}  # of a step that a rollback undoes

    def _count(self, name: str, count: Tensor) -> None:
        known = self._new.get(name, torch.zeros_like(getattr(self, name)))
        self._new[name] = known + count.to(known)
