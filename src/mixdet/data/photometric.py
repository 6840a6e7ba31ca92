"""The strong view: colours, blur and erased patches, drawn for each image and applied to a whole batch on any device.

Parameters of Unbiased Teacher's code, which MUM keeps: colour jitter (0.4, 0.4, 0.4, 0.1) with chance 0.8, grey with
0.2, Gaussian blur of sigma U(0.1, 2) with 0.5, and three erased patches of noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from mixdet.data import opencv
from mixdet.data.blur import blur, blur_radius, gaussian
from mixdet.data.strong import Drawn
from mixdet.structures import Batch

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as in Pillow and torchvision
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
ATTEMPTS = 10  # of an erased patch to fit into the image, as in torchvision


@dataclass(frozen=True)
class Erase:
    """One pass of RandomErasing (Zhong et al. 2020).

    Attributes:
        p: chance of a patch.
        area: its smallest and largest share of the image.
        ratio: its smallest and largest height over width; log-uniform.
    """

    p: float
    area: tuple[float, float]
    ratio: tuple[float, float]

    def draw(self, height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int]:
        """(x1, y1, x2, y2) in whole pixels; all 0 for none. The same number of draws whatever comes out."""
        draws = torch.rand(1 + 4 * ATTEMPTS, generator=generator).tolist()
        if draws[0] >= self.p:
            return 0, 0, 0, 0
        low, high = (math.log(side) for side in self.ratio)
        for attempt in range(ATTEMPTS):
            a, r, y, x = draws[1 + 4 * attempt : 5 + 4 * attempt]
            area = height * width * (self.area[0] + a * (self.area[1] - self.area[0]))
            ratio = math.exp(low + r * (high - low))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < h < height and 0 < w < width:
                top, left = int(y * (height - h + 1)), int(x * (width - w + 1))
                return left, top, left + w, top + h
        return 0, 0, 0, 0


@dataclass(frozen=True, eq=False)
class Photometric(Drawn):
    """What was drawn for the strong view of B images.

    Attributes:
        order: (B, 4) int64, in which order brightness, contrast, saturation and hue change.
        factors: (B, 4) their factors; hue as a part of the circle. (1, 1, 1, 0) changes nothing.
        grey: (B,) bool.
        sigmas: (B,) of the blur in pixels; 0 for none.
        patches: (B, P, 4) int64 xyxy erased one after the other; empty ones are none.
        noise: (B,) int64, seed of the noise that fills them.
        exact: (B,) bool, as in ``PhotometricView``.
    """

    order: Tensor
    factors: Tensor
    grey: Tensor
    sigmas: Tensor
    patches: Tensor
    noise: Tensor
    exact: Tensor

    @staticmethod
    def stack(drawn: Sequence[Photometric]) -> Photometric:
        """Of B images, from those of one image each."""
        return Photometric(*(torch.cat([getattr(d, field.name) for d in drawn]) for field in fields(Photometric)))

    def apply(self, batch: Batch) -> Batch:
        """The view of ``batch`` that was drawn: same geometry, same instances; padding keeps its colour."""
        sizes = batch.sizes.tolist()
        images = (_changed_exactly if bool(self.exact.any()) else _changed)(batch.images, sizes, self)
        for i, (image, (height, width)) in enumerate(zip(images, sizes, strict=True)):
            self._erase(i, image.permute(1, 2, 0))
            image[:, height:] = batch.pad_colour[:, None, None]
            image[:, :, width:] = batch.pad_colour[:, None, None]
        return replace(batch, images=images)

    def apply_to_bytes(self, images: Tensor, sizes: Tensor) -> Tensor | None:
        """Up to two levels from ``apply``; None without OpenCV, on a GPU, and if an image is ``exact``."""
        if opencv.cv2 is None or images.device.type != "cpu" or bool(self.exact.any()):
            return None
        changed = torch.empty(images.shape, dtype=torch.uint8)
        inside = [
            (before[:height, :width].numpy(), after[:height, :width].numpy())
            for before, after, (height, width) in zip(images, changed, sizes.tolist(), strict=True)
        ]
        means = torch.tensor([opencv.mean_colour(before) for before, _ in inside]) / 255
        maps = colour_maps(self, means)
        maps[:, :, 3] *= 255
        for i, ((before, after), sigma) in enumerate(zip(inside, self.sigmas.tolist(), strict=True)):
            opencv.recolour_and_blur(before, maps[i].numpy(), gaussian(sigma, *before.shape[:2]), after)
            self._erase(i, changed[i])
        return changed

    def _erase(self, i: int, pixels: Tensor) -> None:
        """Patches of noise, uniform in 8-bit levels, on image ``i``: (H, W, 3) uint8, or float in [0, 1]; in place."""
        generator = torch.Generator().manual_seed(int(self.noise[i]))
        for x1, y1, x2, y2 in self.patches[i].tolist():
            if x2 > x1:
                patch = pixels[y1:y2, x1:x2]
                noise = _random_bytes(patch.numel(), generator).to(pixels.device, non_blocking=True)
                patch.copy_(noise.view(patch.shape))
                if pixels.is_floating_point():
                    patch.div_(255)


@dataclass(frozen=True)
class PhotometricView:
    """Colours, blur and erased patches: what ``Photometric`` is drawn from; geometry stays (an ``Augmentation``).

    Attributes:
        jitter_p: chance of colour jitter.
        brightness, contrast, saturation: factors are drawn from U(1 - it, 1 + it), at least 0.
        hue: shift is drawn from U(-it, it), in circles.
        grey_p: chance of no colour.
        blur_p: chance of blur.
        sigma: of the blur, in pixels: U(low, high).
        erase: patches of uniform noise, one after the other. (In the reference they are normal noise whose bytes wrap
            around, which is nearly uniform.)
        exact: torchvision's own colour operations, each clamped, with its HSV hue, and its blur, image by image. The
            default is one affine map of colours an image, clamped once, in which hue turns about the grey axis.
    """

    jitter_p: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey_p: float = 0.2
    blur_p: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    erase: tuple[Erase, ...] = (
        Erase(0.7, (0.05, 0.2), (0.3, 3.3)),
        Erase(0.5, (0.02, 0.2), (0.1, 6.0)),
        Erase(0.3, (0.02, 0.2), (0.05, 8.0)),
    )
    exact: bool = False

    def draw(self, height: int, width: int, generator: torch.Generator) -> Photometric:
        """Parameters for one image of that size; always the same number of draws."""
        order = torch.randperm(4, generator=generator)
        jitter, grey, blur, *u = torch.rand(8, generator=generator).tolist()
        spans = (self.brightness, self.contrast, self.saturation)
        factors = [max(0.0, 1 - span) + x * (1 + span - max(0.0, 1 - span)) for span, x in zip(spans, u, strict=False)]
        factors.append((2 * u[3] - 1) * self.hue)
        if jitter >= self.jitter_p:
            factors = [1.0, 1.0, 1.0, 0.0]
        sigma = self.sigma[0] + u[4] * (self.sigma[1] - self.sigma[0]) if blur < self.blur_p else 0.0
        patches = [erase.draw(height, width, generator) for erase in self.erase]
        return Photometric(
            order[None],
            torch.tensor([factors]),
            torch.tensor([grey < self.grey_p]),
            torch.tensor([sigma]),
            torch.tensor([patches], dtype=torch.int64).view(1, len(patches), 4),
            torch.randint(2**62, (1,), generator=generator),
            torch.tensor([self.exact]),
        )


def _changed(images: Tensor, sizes: list[list[int]], drawn: Photometric) -> Tensor:
    """Colours in one map an image, then blur."""
    means = torch.stack([image[:, :h, :w].mean((1, 2)) for image, (h, w) in zip(images, sizes, strict=True)])  # (B, 3)
    maps = colour_maps(drawn, means.cpu()).to(images)
    changed = torch.baddbmm(maps[:, :, 3:], maps[:, :, :3], images.flatten(2)).clamp_(0, 1).view_as(images)
    rows = zip(changed, sizes, drawn.grey.tolist(), drawn.sigmas.tolist(), strict=True)
    for image, (height, width), is_grey, sigma in rows:
        if sigma > 0:
            blur((image[:1] if is_grey else image)[:, :height, :width], sigma)
            if is_grey:
                image[1:] = image[0]
    return changed


def colour_maps(drawn: Photometric, means: Tensor) -> Tensor:
    """The affine colour map of each image: x -> M x + t.

    Contrast moves towards the mean grey of what the operations before it made of the image, which an affine map knows
    from the image's own mean.

    Args:
        drawn: for B images.
        means: (B, 3) mean colour of each image.

    Returns:
        (B, 3, 4) M and t.
    """
    grey = np.array(GREY)
    maps = np.empty((len(means), 3, 4), np.float32)
    rows = zip(drawn.order.tolist(), drawn.factors.tolist(), drawn.grey.tolist(), means.numpy(), strict=True)
    for i, (order, factors, is_grey, mean) in enumerate(rows):
        mapped = np.eye(3, 4)
        for operation in order:
            factor = factors[operation]
            if operation == BRIGHTNESS:
                mapped *= factor
            elif operation == CONTRAST:
                level = grey @ (mapped[:, :3] @ mean + mapped[:, 3])
                mapped *= factor
                mapped[:, 3] += (1 - factor) * level
            elif operation == SATURATION:
                mapped = factor * mapped + (1 - factor) * (grey @ mapped)
            else:
                mapped = _hue_turn(factor) @ mapped
        maps[i] = grey @ mapped if is_grey else mapped  # three equal rows if grey
    return torch.from_numpy(maps)


def _hue_turn(circles: float) -> NDArray[np.float64]:
    """(3, 3) turn of colours about the grey axis, red towards green: HSV's at every third of the circle."""
    cos, sin = math.cos(2 * math.pi * circles), math.sin(2 * math.pi * circles)
    keep, ahead, behind = (1 + 2 * cos) / 3, (1 - cos) / 3 - sin / math.sqrt(3), (1 - cos) / 3 + sin / math.sqrt(3)
    return np.array([[keep, ahead, behind], [behind, keep, ahead], [ahead, behind, keep]])


def _changed_exactly(images: Tensor, sizes: list[list[int]], drawn: Photometric) -> Tensor:
    """Torchvision's operations, image by image."""
    changed = images.clone()
    adjust = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)
    rows = zip(
        changed,
        sizes,
        drawn.order.tolist(),
        drawn.factors.tolist(),
        drawn.grey.tolist(),
        drawn.sigmas.tolist(),
        strict=True,
    )
    for image, (height, width), order, factors, grey, sigma in rows:
        crop = image[:, :height, :width]
        x = crop
        for operation in order:
            if factors[operation] != (0.0 if operation == HUE else 1.0):
                x = adjust[operation](x, factors[operation])
        if grey:
            x = TF.rgb_to_grayscale(x, num_output_channels=3)
        radius = blur_radius(sigma, height, width)
        if sigma > 0 and radius > 0:
            x = TF.gaussian_blur(x, [2 * radius + 1] * 2, [sigma, sigma])
        crop.copy_(x)
    return changed


def _random_bytes(count: int, generator: torch.Generator) -> Tensor:
    """(count,) uint8, eight of a draw."""
    words = torch.empty(-(-count // 8), dtype=torch.int64)
    return words.random_(torch.iinfo(torch.int64).min, None, generator=generator).view(torch.uint8)[:count]
