"""Which instance an anchor or a proposal belongs to, and the instances of a batch as the two heads look at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mixdet.structures import Instances

NEGATIVE = -1
BETWEEN = -2  # neither positive nor negative


@dataclass(frozen=True, eq=False)
class Truth:
    """The instances of a batch, one image after the other, and which of them count (are not ignored).

    Attributes:
        flat: all of them.
        counts: instances of each image.
        offsets: where each image's begin.
        counted: for each image the places, within it, of those that count.
        boxes: and their boxes (M_i, 4).
        some_ignored: whether any instance of the batch is ignored.
    """

    flat: Instances
    counts: list[int]
    offsets: list[int]
    counted: tuple[Tensor, ...]
    boxes: tuple[Tensor, ...]
    some_ignored: bool

    @classmethod
    def of(cls, labels: Sequence[Instances]) -> Truth:
        flat, counts = Instances.concat(labels), [len(i) for i in labels]
        offsets = np.cumsum([0, *counts[:-1]]).tolist()
        place = torch.from_numpy(np.concatenate([np.arange(n) for n in counts])).to(flat.labels)
        boxes, sizes = flat.boxes, counts
        some_ignored = bool(flat.ignored.any())
        if some_ignored:
            keep = ~flat.ignored
            place, boxes = place[keep], boxes[keep]
            sizes = [int(part.sum()) for part in keep.cpu().split(counts)]
        return cls(flat, counts, offsets, place.split(sizes), boxes.split(sizes), some_ignored)

    def per_image(self) -> list[Instances]:
        """Each image's own instances again."""
        places = torch.arange(len(self.flat), device=self.flat.boxes.device).split(self.counts)
        return [self.flat.select(at) for at in places]


def repeated(values: Sequence[int], counts: Sequence[int], device: torch.device) -> Tensor:
    """(sum of ``counts``,) int64: each value so many times; nothing is read back from the device."""
    return torch.from_numpy(np.repeat(np.array(values, dtype=np.int64), counts)).to(device)


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """(M, R) IoU of (M, 4) and (R, 4) xyxy boxes: torchvision's numbers bit for bit, fewer operations."""
    left, top, right, bottom = boxes[:, :, None].unbind(1)  # (M, 1) each
    lefts, tops, rights, bottoms = others.unbind(1)  # (R,) each
    width = (torch.minimum(right, rights) - torch.maximum(left, lefts)).clamp_(min=0)  # (M, R)
    height = (torch.minimum(bottom, bottoms) - torch.maximum(top, tops)).clamp_(min=0)
    inter = width.mul_(height)
    union = (right - left) * (bottom - top) + (rights - lefts) * (bottoms - tops) - inter
    return inter.div_(union)


def match(quality: Tensor, positive: float, negative: float, low_quality: bool) -> Tensor:
    """The best instance of each box, as torchvision's ``Matcher`` finds it, without looking at the device.

    Args:
        quality: (M, R) IoU, M at least 1.
        positive: matched at or above it.
        negative: ``NEGATIVE`` below it, ``BETWEEN`` in between.
        low_quality: also match the boxes with which an instance has its best IoU, however low (with *their* best
            instance, which may be another).

    Returns:
        (R,) int64 row of ``quality``, or ``NEGATIVE`` or ``BETWEEN``.
    """
    best, row = quality.max(dim=0)
    matched = torch.where(best >= positive, row, torch.where(best < negative, NEGATIVE, BETWEEN))
    if low_quality:
        matched = torch.where((quality == quality.amax(dim=1, keepdim=True)).any(dim=0), row, matched)
    return matched
