"""Choices among the detections of trained networks before they are written down as labels (Multi Phase Learning)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from mixdet.structures import Detections

TWICE = 0.3  # IoU of two agreed boxes of one class above which they are one object


def easiest(scores: Sequence[Tensor], share: float = 0.5) -> Tensor:
    """The images with the highest mean score of their labels: what a network is surest of.

    An image without a label has no mean and is never among them, so that fewer than ``share`` may be found. Of images
    with the same mean the first are taken.

    Args:
        scores: of the labels of each of N images, (D_i,).
        share: of all N images, in (0, 1]; their number is rounded, halves up.

    Returns:
        (M,) int64 positions, ascending.
    """
    if not 0 < share <= 1:
        raise ValueError(f"easiest: share {share} is not in (0, 1]")
    means = torch.tensor([float(s.double().mean()) if len(s) else -1.0 for s in scores], dtype=torch.float64)
    count = min(int(share * len(scores) + 0.5), int((means >= 0).sum()))
    return means.argsort(descending=True, stable=True)[:count].sort().values


def agreed(first: Detections, second: Detections, iou: float = 0.5) -> Detections:
    """The boxes that two networks found in one image, each as the surer of the two has it.

    A pair agrees where the class is the same and the IoU above ``iou``; its box with the higher score is kept, the
    first's where both are equal. What is kept of several pairs and overlaps (IoU above 0.3, same class) is one object.

    Args:
        first, second: of the same image.
        iou: overlap of a pair.

    Returns:
        Best score first.
    """
    pairs = (box_iou(first.boxes, second.boxes) > iou) & (first.labels[:, None] == second.labels)  # (D1, D2)
    surer = first.scores[:, None] >= second.scores
    kept = torch.cat([(pairs & surer).any(dim=1), (pairs & ~surer).any(dim=0)])
    return suppress(Detections.concat([first, second]).select(kept), TWICE)


def suppress(detections: Detections, iou: float, limit: int | None = None) -> Detections:
    """The ``limit`` best, best first, without what overlaps a better box of its class by more than ``iou``."""
    best = batched_nms(detections.boxes, detections.scores, detections.labels, iou)
    return detections.select(best[:limit])
