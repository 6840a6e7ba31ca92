"""The weak view: resize, flip and crop, with the affine that undoes them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from mixdet.structures import Detections, Instances
from mixdet.structures.boxes import cut_to_image, transform_boxes


@dataclass(frozen=True)
class WeakView:
    """Resize by the short side, keep the aspect ratio, flip with a chance, crop (detectron2's ResizeShortestEdge ...).

    Attributes:
        short_sides: the short side is drawn from these, an image at a time (one number: no multi-scale).
        long_side: the long side never exceeds it; the short side gives way.
        flip: chance of a horizontal flip.
        crop: smallest share of either side that is left, each drawn from U(crop, 1); 1 leaves all. What lies outside is
            gone: boxes shrink to what is seen of them, and instances of which less than a quarter is seen are left out.
    """

    short_sides: tuple[int, ...]
    long_side: int
    flip: float = 0.0
    crop: float = 1.0

    def __call__(
        self, image: Tensor, instances: Instances | None, generator: torch.Generator
    ) -> tuple[Tensor, Instances | None, Tensor]:
        """View of one image.

        Args:
            image: (3, h, w) uint8.
            instances: its annotations, or None.
            generator: of the short side, the flip and the crop; the first two are drawn whatever the settings.

        Returns:
            The (3, h', w') uint8 view, its instances, and the (3, 3) affine from original to view pixels.
        """
        choice, chance = torch.rand(2, generator=generator).tolist()
        short = self.short_sides[min(int(choice * len(self.short_sides)), len(self.short_sides) - 1)]
        height, width = image.shape[-2:]
        new_height, new_width = resized(height, width, short, self.long_side)
        flipped, grows = chance < self.flip, new_height > height
        if flipped and grows:  # the smaller of both images is flipped
            image = image.flip(-1)
        if (new_height, new_width) != (height, width):
            image = resize(image, [new_height, new_width], InterpolationMode.BILINEAR, antialias=True)
        affine = torch.diag(torch.tensor([new_width / width, new_height / height, 1.0]))
        if flipped:
            image = image if grows else image.flip(-1)
            affine = torch.tensor([[-1.0, 0.0, new_width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ affine
        if instances is not None:
            instances = replace(instances, boxes=transform_boxes(instances.boxes, affine))
        return self._cropped(image, instances, affine, generator) if self.crop < 1 else (image, instances, affine)

    def _cropped(
        self, image: Tensor, instances: Instances | None, affine: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Instances | None, Tensor]:
        draws = torch.rand(4, generator=generator).tolist()
        sides = image.shape[-2:]
        height, width = (
            max(1, round(side * (self.crop + u * (1 - self.crop)))) for side, u in zip(sides, draws[:2], strict=True)
        )
        top, left = (int(u * (side - cut + 1)) for side, cut, u in zip(sides, (height, width), draws[2:], strict=True))
        image = image[:, top : top + height, left : left + width].contiguous()
        moved = torch.tensor([[1.0, 0.0, -left], [0.0, 1.0, -top], [0.0, 0.0, 1.0]]) @ affine
        return image, None if instances is None else inside(instances.shifted(-left, -top), height, width), moved


def inside(instances: Instances, height: int, width: int) -> Instances:
    """What is to be seen of instances in an image: boxes cut to it, those seen to less than a quarter left out.

    Of ignored instances any visible rest stays.
    """
    limits = instances.boxes.new_tensor([width, height, width, height])
    boxes, keep = cut_to_image(instances.boxes, limits, instances.ignored)
    return replace(instances, boxes=boxes).select(keep)


def resized(height: int, width: int, short: int, long: int) -> tuple[int, int]:
    """Size with the short side at ``short``, or the long side at ``long`` if it would exceed it; at least 1 pixel."""
    scale = min(short / min(height, width), long / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def to_original(detections: Detections, affine: Tensor) -> Detections:
    """Detections in a view's pixels, back in the pixels of its original."""
    inverse = torch.linalg.inv(affine.cpu()).to(detections.boxes)
    return replace(detections, boxes=transform_boxes(detections.boxes, inverse))
