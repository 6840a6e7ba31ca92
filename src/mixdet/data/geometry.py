"""The weak view: resize and flip, with the affine that undoes them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from mixdet.structures import Detections, Instances


@dataclass(frozen=True)
class WeakView:
    """Resize by the short side, keep the aspect ratio, flip with a chance (detectron2's ResizeShortestEdge).

    Attributes:
        short_sides: the short side is drawn from these, an image at a time (one number: no multi-scale).
        long_side: the long side never exceeds it; the short side gives way.
        flip: chance of a horizontal flip.
    """

    short_sides: tuple[int, ...]
    long_side: int
    flip: float = 0.0

    def __call__(
        self, image: Tensor, instances: Instances | None, generator: torch.Generator
    ) -> tuple[Tensor, Instances | None, Tensor]:
        """View of one image.

        Args:
            image: (3, h, w) uint8.
            instances: its annotations, or None.
            generator: of the short side and the flip; both are drawn whatever the settings.

        Returns:
            The (3, h', w') uint8 view, its instances, and the (3, 3) affine from original to view pixels.
        """
        choice, chance = torch.rand(2, generator=generator).tolist()
        short = self.short_sides[min(int(choice * len(self.short_sides)), len(self.short_sides) - 1)]
        height, width = image.shape[-2:]
        new_height, new_width = resized(height, width, short, self.long_side)
        if (new_height, new_width) != (height, width):
            image = resize(image, [new_height, new_width], InterpolationMode.BILINEAR, antialias=True)
        affine = torch.diag(torch.tensor([new_width / width, new_height / height, 1.0]))
        if chance < self.flip:
            image = image.flip(-1)
            affine = torch.tensor([[-1.0, 0.0, new_width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ affine
        if instances is not None:
            instances = replace(instances, boxes=transform_boxes(instances.boxes, affine))
        return image, instances, affine


def resized(height: int, width: int, short: int, long: int) -> tuple[int, int]:
    """Size with the short side at ``short``, or the long side at ``long`` if it would exceed it; at least 1 pixel."""
    scale = min(short / min(height, width), long / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def transform_boxes(boxes: Tensor, affine: Tensor) -> Tensor:
    """(M, 4) xyxy boxes under a (3, 3) affine of scaling, flips and shifts."""
    x = boxes[:, 0::2] * affine[0, 0] + affine[0, 2]  # (M, 2)
    y = boxes[:, 1::2] * affine[1, 1] + affine[1, 2]
    return torch.stack([x.amin(1), y.amin(1), x.amax(1), y.amax(1)], dim=1)


def to_original(detections: Detections, affine: Tensor) -> Detections:
    """Detections in a view's pixels, back in the pixels of its original."""
    inverse = torch.linalg.inv(affine.cpu()).to(detections.boxes)
    return replace(detections, boxes=transform_boxes(detections.boxes, inverse))
