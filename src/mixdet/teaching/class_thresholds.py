"""A score threshold for each class, so that labels are as frequent as real ones (Multi Phase Learning, LabelMatch)."""

from __future__ import annotations

import torch
from torch import Tensor

GRID = torch.arange(10, 101) / 100
"""The thresholds that are tried: 0.1, 0.11, ... 1."""
TIE = 1e-6  # boxes; two distances that differ by less are equal, whatever the rounding of ``wanted``


def class_thresholds(scores: Tensor, labels: Tensor, images: int, wanted: Tensor) -> Tensor:
    """Thresholds above which each class has as many boxes an image as are wanted, as nearly as ``GRID`` allows.

    Of equally near thresholds the highest is taken: the fewer boxes of two counts, the surest rule for one count. A
    class without a detection, or of which none is wanted, gets 1, which no score is above.

    Args:
        scores: (N,) of all detections in all images, in [0, 1].
        labels: (N,) int64 their classes in [0, K).
        images: how many were looked at, those without a detection included.
        wanted: (K,) boxes an image of each class; in the labelled images, as a rule.

    Returns:
        (K,) float32, for ``ClassThresholds``.
    """
    if images < 1:
        raise ValueError(f"class_thresholds: images={images}; detections of at least one image are needed")
    return nearest_thresholds(score_counts(scores, labels, len(wanted)), images, wanted)


def score_counts(scores: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """(K, G + 1) detections of each class that exceed 0, 1, ... G of the thresholds of ``GRID``; arguments as above."""
    grid = GRID.to(scores.device)
    exceeded, size = torch.bucketize(scores.float(), grid), len(grid) + 1  # (N,) thresholds that each score is above
    return torch.bincount(labels * size + exceeded, minlength=num_classes * size).view(num_classes, size)


def nearest_thresholds(found: Tensor, images: int | Tensor, wanted: Tensor) -> Tensor:
    """The thresholds of ``class_thresholds`` from ``score_counts`` of ``images``; sums and fractions of counts too."""
    above = found.flip(1).cumsum(1).flip(1)[:, 1:]  # (K, G) detections above each threshold
    distance = (above - images * wanted.double()[:, None]).abs()
    nearest = distance <= distance.amin(dim=1, keepdim=True) + TIE
    grid = GRID.to(found.device)
    return grid[(nearest * torch.arange(1, len(grid) + 1, device=grid.device)).argmax(dim=1)]
