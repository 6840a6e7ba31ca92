"""STAC's strong view: one colour operation, one affine of the image or within one object, and erased squares.

Sohn et al., "A Simple Semi-Supervised Learning Framework for Object Detection", 2020, section 3.3 and its code. Unlike
the strong view of Unbiased Teacher it moves objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from mixdet.data.geometry import inside
from mixdet.data.strong import Drawn
from mixdet.structures import Batch, Instances
from mixdet.structures.boxes import transform_boxes

COLOURS = (
    "identity",
    "autocontrast",
    "equalize",
    "solarize",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "posterize",
)
LEVELS = 10
WHOLE = (0.1, 0.1, 30.0, 30.0)  # of the image: shift in x and y (shares of its sides), rotation and shear (degrees)
WITHIN = (0.05, 0.05, 10.0, 10.0)  # of one object's box
WITHIN_P = 0.5  # chance that one object is warped, and not the whole image
SQUARES = 5
LARGEST_SQUARE = 0.2  # of the image's longer side
GREY = 125 / 255  # what comes into view, and what squares are filled with


@dataclass(frozen=True, eq=False)
class RandAugmented(Drawn):
    """What was drawn for the strong view of B images.

    Attributes:
        colour: (B,) int64 index into ``COLOURS``.
        level: (B,) int64 from 1 to 9, negative where the operation takes away.
        colour_first: (B,) bool, whether the colour changes before the geometry.
        within: (B,) in [0, 1), which object is warped, or negative for the whole image.
        affine: (B, 4) shift in x and y as shares, rotation and shear in degrees; one of them is not 0.
        squares: (B, ``SQUARES``, 4) int64 xyxy; empty ones are none.
    """

    colour: Tensor
    level: Tensor
    colour_first: Tensor
    within: Tensor
    affine: Tensor
    squares: Tensor

    @staticmethod
    def stack(drawn: Sequence[RandAugmented]) -> RandAugmented:
        """Of B images, from those of one image each."""
        return RandAugmented(*(torch.cat([getattr(d, f.name) for d in drawn]) for f in fields(RandAugmented)))

    def apply(self, batch: Batch) -> Batch:
        """The view of ``batch`` that was drawn: instances and ``affines`` are moved; padding keeps its colour.

        An image of which no instance would be left stays as it is. Within one object only pixels move, not its box.
        """
        images = batch.images.clone()
        instances = None if batch.instances is None else list(batch.instances)
        affines = None if batch.affines is None else batch.affines.clone()
        for i, (height, width) in enumerate(batch.sizes.tolist()):
            crop = images[i, :, :height, :width]
            known = None if instances is None else instances[i]
            seen, moved, matrix = self._one(i, crop, known)
            if known is not None and len(known) and moved is not None and not len(moved):
                continue
            crop.copy_(seen)
            for x1, y1, x2, y2 in self.squares[i].tolist():
                crop[:, y1:y2, x1:x2] = GREY
            if instances is not None and moved is not None:
                instances[i] = moved
            if affines is not None:
                affines[i] = matrix.to(affines) @ affines[i]
        return replace(batch, images=images, instances=instances, affines=affines)

    def _one(self, i: int, image: Tensor, known: Instances | None) -> tuple[Tensor, Instances | None, Tensor]:
        """Pixels, instances and (3, 3) affine of image ``i`` after colour and geometry."""
        if self.colour_first[i]:
            image = change_colour(image, COLOURS[self.colour[i]], int(self.level[i]))
        height, width = image.shape[1:]
        matrix, moved = torch.eye(3), known
        if self.within[i] < 0:
            matrix = affine_about((0, 0, width, height), self.affine[i].tolist())
            image = warp(image, matrix)
            if known is not None:
                boxes = transform_boxes(known.boxes, matrix.to(known.boxes))
                moved = inside(replace(known, boxes=boxes), height, width)
        elif known is not None and bool((~known.ignored).any()):
            boxes = known.boxes[~known.ignored].round().long()
            x1, y1, x2, y2 = boxes[int(self.within[i] * len(boxes))].tolist()
            x1, y1 = min(x1, width - 1), min(y1, height - 1)  # a box of half a pixel at the edge rounds to nothing
            x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
            image = image.clone()
            part = image[:, y1:y2, x1:x2]
            part.copy_(warp(part, affine_about((0, 0, x2 - x1, y2 - y1), self.affine[i].tolist())))
        if not self.colour_first[i]:
            image = change_colour(image, COLOURS[self.colour[i]], int(self.level[i]))
        return image, moved, matrix


@dataclass(frozen=True)
class RandAugmentView:
    """What ``RandAugmented`` is drawn from (an ``Augmentation``); its numbers are the published ones."""

    def draw(self, height: int, width: int, generator: torch.Generator) -> RandAugmented:
        """Parameters for one image of that size; always the same number of draws."""
        colour, kind = (int(torch.randint(n, (1,), generator=generator)) for n in (len(COLOURS), len(WHOLE)))
        level, count = (int(torch.randint(1, n, (1,), generator=generator)) for n in (LEVELS, SQUARES + 1))
        sign, order, whole, amount, which, *places = torch.rand(5 + 3 * SQUARES, generator=generator).tolist()
        within = whole < WITHIN_P
        affine = [0.0] * len(WHOLE)
        affine[kind] = (2 * amount - 1) * (WITHIN if within else WHOLE)[kind]
        squares = torch.zeros(1, SQUARES, 4, dtype=torch.int64)
        for k in range(count):
            side = round(places[3 * k] * LARGEST_SQUARE * max(height, width))
            x, y = int(places[3 * k + 1] * width) - side // 2, int(places[3 * k + 2] * height) - side // 2
            squares[0, k] = torch.tensor([max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)])
        return RandAugmented(
            torch.tensor([colour]),
            torch.tensor([level if sign < 0.5 else -level]),
            torch.tensor([order < 0.5]),
            torch.tensor([which if within else -1.0]),
            torch.tensor([affine]),
            squares,
        )


def change_colour(image: Tensor, operation: str, level: int) -> Tensor:
    """One colour operation on a (3, h, w) image in [0, 1].

    Args:
        image: changed nowhere.
        operation: of ``COLOURS``.
        level: 1 to 9, negative to take away where an operation can; on the scale of torchvision's RandAugment: factors
            1 +- 0.9 level / 10, solarize above 1 - |level| / 10, posterize to 8 - 4 |level| / 10 bits.
    """
    strength = level / LEVELS
    if operation in ("posterize", "equalize"):
        octets = (image * 255).round().to(torch.uint8)
        bits = 8 - round(4 * abs(strength))
        changed: Tensor = TF.equalize(octets) if operation == "equalize" else TF.posterize(octets, bits)
        return changed.to(image.dtype) / 255
    changes: dict[str, Callable[[], Tensor]] = {
        "identity": lambda: image,
        "autocontrast": lambda: TF.autocontrast(image),
        "solarize": lambda: TF.solarize(image, 1 - abs(strength)),
        "color": lambda: TF.adjust_saturation(image, 1 + 0.9 * strength),
        "contrast": lambda: TF.adjust_contrast(image, 1 + 0.9 * strength),
        "brightness": lambda: TF.adjust_brightness(image, 1 + 0.9 * strength),
        "sharpness": lambda: TF.adjust_sharpness(image, 1 + 0.9 * strength),
    }
    return changes[operation]()


def affine_about(region: tuple[float, float, float, float], amounts: Sequence[float]) -> Tensor:
    """(3, 3) affine of pixels: rotation and shear about the middle of ``region`` (xyxy), then a shift.

    Args:
        region: what is turned, and what the shift is a share of.
        amounts: shift in x and y as shares of the region's sides, rotation and shear in degrees.
    """
    x1, y1, x2, y2 = region
    shift_x, shift_y, turn, shear = amounts
    angle = math.radians(turn)
    rotation = torch.tensor(
        [[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0], [0, 0, 1]]
    )
    sheared = torch.tensor([[1.0, math.tan(math.radians(shear)), 0.0], [0, 1, 0], [0, 0, 1]])
    back, to = torch.eye(3), torch.eye(3)
    middle = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2])
    to[:2, 2] = -middle
    back[:2, 2] = middle + torch.tensor([shift_x * (x2 - x1), shift_y * (y2 - y1)])
    return back @ rotation @ sheared @ to


def warp(image: Tensor, matrix: Tensor, fill: float = GREY) -> Tensor:
    """A (3, h, w) image under a (3, 3) affine of its pixels, bilinear; ``fill`` comes in from outside."""
    height, width = image.shape[1:]
    inverse = torch.linalg.inv(matrix.cpu().double())
    # normalised coordinates run from -1 to 1 between the outer edges of the image
    normal = torch.tensor([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]], dtype=torch.float64)
    theta = (normal @ inverse @ torch.linalg.inv(normal))[:2].to(image)
    grid = F.affine_grid(theta[None], [1, 3, height, width], align_corners=False)
    return F.grid_sample(image[None] - fill, grid, align_corners=False)[0] + fill
