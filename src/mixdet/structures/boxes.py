"""Boxes under affine maps, and what is left to see of them."""

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


def transform_boxes(boxes: Tensor, affine: Tensor) -> Tensor:
    """The bounding boxes of (M, 4) xyxy boxes under an affine map.

    Args:
        boxes: (M, 4).
        affine: (3, 3), or (M, 3, 3) for a map a box; exact for scaling, flips, shifts and quarter turns.
    """
    x1, y1, x2, y2 = boxes.unbind(1)
    x, y = torch.stack([x1, x2, x1, x2], 1), torch.stack([y1, y1, y2, y2], 1)  # (M, 4): the corners
    a, b, c = affine[..., 0, :, None].unbind(-2)  # (1,) or (M, 1) each
    d, e, f = affine[..., 1, :, None].unbind(-2)
    x, y = a * x + b * y + c, d * x + e * y + f
    return torch.stack([x.amin(1), y.amin(1), x.amax(1), y.amax(1)], 1)


def cut_to_image(boxes: Tensor, limits: Tensor, ignored: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes cut to their image, and which of them still are objects there: a quarter or more is seen.

    Args:
        boxes: (M, 4) xyxy.
        limits: width, height, width, height of the image: (4,), or (M, 4) for an image a box.
        ignored: (M,) bool; of these any visible rest stays.

    Returns:
        (M, 4) boxes and (M,) bool.
    """
    cut = torch.minimum(boxes.clamp(min=0), limits)
    seen = area(cut)
    return cut, (seen > 0) & (ignored | (seen >= MIN_VISIBLE * area(boxes)))
