"""What is left to see of a box."""

from __future__ import annotations

import torch
from torch import Tensor

MIN_VISIBLE = 0.25  # of a box's area: an object of which less is seen is no longer one


def area(boxes: Tensor) -> Tensor:
    """(M, 4) xyxy -> (M,); 0 for a box turned inside out."""
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    return sides[:, 0] * sides[:, 1]


def intersection(boxes: Tensor, windows: Tensor) -> Tensor:
    """The part of each box (M, 4) inside its window (M, 4); area 0 where they do not meet."""
    return torch.cat([torch.maximum(boxes[:, :2], windows[:, :2]), torch.minimum(boxes[:, 2:], windows[:, 2:])], 1)


def visible_part(boxes: Tensor, holes: Tensor) -> tuple[Tensor, Tensor]:
    """The bounding box of what a hole leaves of each box, and its visible area.

    A side moves only where the hole covers the whole strip along it, the box's full height or width from edge to edge;
    a hole in a corner, in the middle or across the middle leaves the box as it is.

    Args:
        boxes: (M, 4) xyxy.
        holes: (M, 4) xyxy; area 0 for none.

    Returns:
        (M, 4) boxes inside the old ones, and (M,) the old area less the covered one.
    """
    across = (holes[:, :2] <= boxes[:, :2]) & (holes[:, 2:] >= boxes[:, 2:])  # covers all of x, all of y
    strip = across.flip(1)  # x shrinks where all of y is covered
    low = torch.where(strip & (holes[:, :2] <= boxes[:, :2]), torch.maximum(boxes[:, :2], holes[:, 2:]), boxes[:, :2])
    high = torch.where(strip & (holes[:, 2:] >= boxes[:, 2:]), torch.minimum(boxes[:, 2:], holes[:, :2]), boxes[:, 2:])
    return torch.cat([low, high], 1), area(boxes) - area(intersection(boxes, holes))
