"""From a teacher's detections to labels: which are kept, and what is to be seen of it in the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixdet.structures import Batch, Detections, Detector, Instances

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
        instances: of each image, in the pixels of the batch it was asked about; trust 1.
        notes: "pseudo_boxes" an image; "pseudo_kept", the share of detections that were kept; "pseudo_boxes_of_class",
            (K,) an image; "pseudo_scores", detections an image in each tenth of [0, 1], kept or not.
    """

    instances: list[Instances]
    notes: dict[str, Tensor]

    def on(self, batch: Batch, *, box_loss: bool = True, skip_empty: bool = False) -> Batch:
        """``batch``, another view of the same images in the same geometry, with these labels.

        Args:
            batch: the student's view.
            box_loss: whether boxes are learned from, or only what is in them.
            skip_empty: images without a label get weight 0; otherwise they are background.
        """
        instances = self.instances if box_loss else [found.without_box_loss() for found in self.instances]
        if not skip_empty:
            return batch.with_instances(instances)
        some = torch.tensor([float(len(found) > 0) for found in instances], device=batch.weights.device)
        return batch.with_instances(instances).with_weights(batch.weights * some)


@torch.no_grad()
def pseudo_label(teacher: Detector, batch: Batch, threshold: Threshold) -> PseudoLabels:
    """Labels for the images of ``batch``, which may be unlabelled: the detections that pass ``threshold``.

    An image without any such detection gets truly empty instances: it is a negative image, not a fake box.

    Args:
        teacher: in eval mode, or without dropout and live batch norm.
        batch: the weak view; its instances are not read.
        threshold: which detections to keep.
    """
    return kept(teacher.predict(teacher.features(batch.images), batch), threshold, teacher.num_classes)


def kept(detections: Sequence[Detections], threshold: Threshold, num_classes: int) -> PseudoLabels:
    """The detections of ``num_classes`` classes that pass ``threshold``, as labels."""
    chosen = [found.select(threshold(found)) for found in detections]
    images, boxes = max(len(chosen), 1), sum(len(found) for found in chosen)
    labels = torch.cat([found.labels for found in chosen]) if chosen else torch.zeros(0, dtype=torch.int64)
    scores = torch.cat([found.scores for found in detections]) if detections else torch.zeros(0)
    bins = (scores * SCORE_BINS).long().clamp(0, SCORE_BINS - 1)
    notes = {
        "pseudo_boxes": torch.tensor(boxes / images),
        "pseudo_kept": torch.tensor(boxes / max(len(scores), 1)),
        "pseudo_boxes_of_class": torch.bincount(labels, minlength=num_classes) / images,
        "pseudo_scores": torch.bincount(bins, minlength=SCORE_BINS) / images,
    }
    return PseudoLabels([Instances(found.boxes, found.labels) for found in chosen], notes)
