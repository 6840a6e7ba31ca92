"""From a teacher's detections to labels: which are kept, and what is to be seen of it in the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from mixdet.structures import Batch, Detections, Detector, Instances, as_module
from mixdet.teaching.reproject import reproject

SCORE_BINS = 10

Threshold = Callable[[Detections], Tensor]
"""Detections of one image -> (D,) bool: those that become labels."""


@dataclass(frozen=True)
class FixedThreshold:
    """Detections with a score above one number (Unbiased Teacher and MUM: 0.7)."""

    score: float

    def __call__(self, detections: Detections) -> Tensor:
        return detections.scores > self.score


@dataclass(frozen=True)
class LeastThreshold:
    """Detections with a score of at least one number (Instant Teaching: 0.9)."""

    score: float

    def __call__(self, detections: Detections) -> Tensor:
        return detections.scores >= self.score


@dataclass(frozen=True)
class FallbackThreshold:
    """At or above ``score``, or at the image's best score where that is lower: STAC's code keeps one box at least."""

    score: float

    def __call__(self, detections: Detections) -> Tensor:
        if len(detections) == 0:
            return torch.zeros_like(detections.scores, dtype=torch.bool)
        return detections.scores >= detections.scores.amax().clamp(max=self.score)


@dataclass(frozen=True, eq=False)
class ClassThresholds:
    """Above a number for each class.

    Attributes:
        scores: (K,).
    """

    scores: Tensor

    def __call__(self, detections: Detections) -> Tensor:
        return detections.scores > self.scores.to(detections.scores.device)[detections.labels]


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """What a teacher says of a batch.

    Attributes:
        instances: of each image of ``batch``, in its pixels; trust 1.
        notes: "pseudo_boxes" an image; "pseudo_boxes_of_class", (K,) an image; "pseudo_passed", detections an image
            that passed the threshold; "pseudo_scores", detections an image in each tenth of [0, 1], passed or not.
        batch: what it was asked about.
    """

    instances: list[Instances]
    notes: dict[str, Tensor]
    batch: Batch

    def on(self, batch: Batch, *, box_loss: bool = True, skip_empty: bool = False) -> Batch:
        """``batch``, another view of the same images, with these labels in its pixels.

        Args:
            batch: the student's view, in the geometry of the teacher's or in one of its own (``reproject``).
            box_loss: whether boxes are learned from, or only what is in them.
            skip_empty: of images without a label nothing is taught, nor by their share of a blended image (of a pasted
                one that of the whole, unless the rectangle spans it); otherwise they are background.
        """
        instances = reproject(self.instances, self.batch, batch)
        if not box_loss:
            instances = [found.without_box_loss() for found in instances]
        if skip_empty:
            instances = [found if len(found) else Instances.unknown(found.boxes.device) for found in instances]
        return batch.with_instances(instances)


def pseudo_label(teacher: Detector, batch: Batch, threshold: Threshold) -> PseudoLabels:
    """Labels for the images of ``batch``, which may be unlabelled: the detections that pass ``threshold``.

    An image without any such detection gets truly empty instances: it is a negative image, not a fake box.

    Args:
        teacher: may be the student itself; it is asked as in evaluation (``asking``).
        batch: the weak view; its instances are not read.
        threshold: which detections to keep.
    """
    with asking(teacher):
        return kept(teacher.predict(teacher.features(batch.images), batch), threshold, teacher.num_classes, batch)


@contextmanager
def asking(*teachers: Detector) -> Iterator[None]:
    """No gradients, and ``teachers`` in eval mode; every module gets its own mode back.

    Weights that autocast has cast meanwhile are forgotten: up to PyTorch 2.9 a network that goes on to learn would find
    them again, and get no gradient.
    """
    training = [module for teacher in teachers for module in as_module(teacher).modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        torch.clear_autocast_cache()
        for module in training:
            module.training = True


def kept(detections: Sequence[Detections], threshold: Threshold, num_classes: int, batch: Batch) -> PseudoLabels:
    """The detections in ``batch``, of ``num_classes`` classes, that pass ``threshold``, as labels."""
    chosen = [found.select(threshold(found)) for found in detections]
    images, boxes = max(len(chosen), 1), sum(len(found) for found in chosen)
    labels = torch.cat([found.labels for found in chosen]) if chosen else torch.zeros(0, dtype=torch.int64)
    scores = torch.cat([found.scores for found in detections]) if detections else torch.zeros(0)
    bins = (scores * SCORE_BINS).long().clamp(0, SCORE_BINS - 1)
    notes = {
        "pseudo_boxes": torch.tensor(boxes / images),
        "pseudo_passed": torch.tensor(boxes / images),
        "pseudo_boxes_of_class": torch.bincount(labels, minlength=num_classes) / images,
        "pseudo_scores": torch.bincount(bins, minlength=SCORE_BINS) / images,
    }
    return PseudoLabels([Instances(found.boxes, found.labels) for found in chosen], notes, batch)
