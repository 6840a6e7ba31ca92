"""What a hole leaves of a box."""

from __future__ import annotations

import torch
from torch import Tensor

from mixdet.structures.boxes import area, intersection


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
