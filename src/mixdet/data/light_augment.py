"""Instant Teaching's strong view: small holes, and one by one rare, mild changes of pixels. Geometry stays.

Zhou et al., "Instant-Teaching: An End-to-End Semi-Supervised Object Detection Framework", CVPR 2021, with the
parameters of its code. There the view is resized and flipped anew: give it a geometry of its own (``StrongView``).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from mixdet.data.strong import Drawn
from mixdet.structures import Batch

HOLES, HOLE = 8, 8  # how many, and their side in pixels
HOLES_P, RARE = 0.5, 0.2  # chance of the holes, and of each of the other changes
BRIGHTER = (0.1, 0.3)  # brightness and contrast are raised by U(0.1, 0.3)
RGB_SHIFT = 10 / 255
HUE, SATURATION, VALUE = 20 / 180, 30 / 255, 20 / 255  # largest shifts in HSV
JPEG = (85, 95)
WINDOW = 3  # side of the blur's and the median's window


@dataclass(frozen=True, eq=False)
class LightlyAugmented(Drawn):
    """What was drawn for the strong view of B images; 0 changes nothing.

    Attributes:
        holes: (B, ``HOLES``, 4) int64 xyxy, black; empty ones are none.
        brighter: (B, 2) brightness added, contrast raised by.
        shift: (B, 3) of red, green and blue.
        hsv: (B, 3) shifts of hue (in circles), saturation and value.
        quality: (B,) int64 of JPEG; 0 for none.
        order: (B, 3) int64 of the colour channels.
        smooth: (B,) int64: 1 mean, 2 median of a window of 3.
    """

    holes: Tensor
    brighter: Tensor
    shift: Tensor
    hsv: Tensor
    quality: Tensor
    order: Tensor
    smooth: Tensor

    @staticmethod
    def stack(drawn: Sequence[LightlyAugmented]) -> LightlyAugmented:
        """Of B images, from those of one image each."""
        return LightlyAugmented(*(torch.cat([getattr(d, f.name) for d in drawn]) for f in fields(LightlyAugmented)))

    def apply(self, batch: Batch) -> Batch:
        """The view of ``batch`` that was drawn: same geometry, same instances; padding keeps its colour."""
        images = batch.images.clone()
        for i, (height, width) in enumerate(batch.sizes.tolist()):
            crop = images[i, :, :height, :width]
            for x1, y1, x2, y2 in self.holes[i].tolist():
                crop[:, y1:y2, x1:x2] = 0
            brightness, contrast = self.brighter[i].tolist()
            x = (crop * (1 + contrast) + brightness + self.shift[i].to(crop)[:, None, None]).clamp(0, 1)
            if bool(self.hsv[i].any()):
                x = shift_hsv(x, self.hsv[i])
            if self.quality[i]:
                x = through_jpeg(x, int(self.quality[i]))
            x = x[self.order[i].to(x.device)]
            if self.smooth[i]:
                x = smoothed(x, median=int(self.smooth[i]) == 2)
            crop.copy_(x)
        return replace(batch, images=images)


@dataclass(frozen=True)
class LightAugmentView:
    """What ``LightlyAugmented`` is drawn from (an ``Augmentation``); its numbers are the published ones."""

    def draw(self, height: int, width: int, generator: torch.Generator) -> LightlyAugmented:
        """Parameters for one image of that size; always the same number of draws."""
        chance = torch.rand(6, generator=generator).tolist()
        u = torch.rand(2 * HOLES, generator=generator).tolist()
        bright, shift, hsv = (torch.rand(n, generator=generator) for n in (2, 3, 3))
        which, smooth, jpeg = torch.rand(3, generator=generator).tolist()
        order = torch.randperm(3, generator=generator)
        holes = torch.zeros(1, HOLES, 4, dtype=torch.int64)
        if chance[0] < HOLES_P:
            for k in range(HOLES):
                x, y = int(u[2 * k] * max(1, width - HOLE + 1)), int(u[2 * k + 1] * max(1, height - HOLE + 1))
                holes[0, k] = torch.tensor([x, y, min(x + HOLE, width), min(y + HOLE, height)])
        rare = [value < RARE for value in chance[1:]]
        low, high = BRIGHTER
        spans = torch.tensor([HUE, SATURATION, VALUE])
        return LightlyAugmented(
            holes,
            (low + bright * (high - low))[None] * rare[0],
            ((2 * shift - 1) * RGB_SHIFT)[None] * (rare[1] and which < 0.5),
            ((2 * hsv - 1) * spans)[None] * (rare[1] and which >= 0.5),
            torch.tensor([JPEG[0] + int(jpeg * (JPEG[1] - JPEG[0] + 1)) if rare[2] else 0]),
            (order if rare[3] else torch.arange(3))[None],
            torch.tensor([(1 if smooth < 0.5 else 2) if rare[4] else 0]),
        )


def through_jpeg(image: Tensor, quality: int) -> Tensor:
    """(3, h, w) in [0, 1], written as a JPEG of ``quality`` and read again."""
    octets = (image * 255).round().to("cpu", torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(octets).save(file, "JPEG", quality=quality)
    with Image.open(file) as written:
        return torch.from_numpy(np.array(written)).permute(2, 0, 1).to(image) / 255


def shift_hsv(image: Tensor, shifts: Tensor) -> Tensor:
    """(3, h, w) in [0, 1] with hue turned, saturation and value added to, each clamped; ``shifts`` is (3,)."""
    turn, saturate, lighten = shifts.tolist()
    turned = TF.adjust_hue(image, turn) if turn else image
    value, lowest = turned.amax(0), turned.amin(0)
    saturation = torch.where(value > 0, (value - lowest) / value.clamp(min=1e-6), 0.0)
    # colours of one hue and value lie on a line from grey: the distance from it is what saturation is
    wanted = (saturation + saturate).clamp(0, 1) * (saturation > 0)
    away = torch.where(saturation > 0, wanted / saturation.clamp(min=1e-6), 0.0)
    coloured = value - (value - turned) * away
    lighter = (value + lighten).clamp(0, 1)
    return torch.where(value > 0, coloured * (lighter / value.clamp(min=1e-6)), lighter).clamp(0, 1)


def smoothed(image: Tensor, *, median: bool) -> Tensor:
    """(3, h, w) with each pixel the mean, or the median, of its window; edges repeated."""
    edge = WINDOW // 2
    padded = F.pad(image[None], (edge, edge, edge, edge), mode="replicate")[0]
    windows = padded.unfold(1, WINDOW, 1).unfold(2, WINDOW, 1).flatten(3)  # (3, h, w, 9)
    return windows.median(dim=3).values if median else windows.mean(dim=3)
