"""``python -m benchmarks.strong_view``: how far the strong view is from torchvision's operations, in pixels.

Prints the differences in 8-bit levels, with OpenCV also those of the view in bytes from the same in [0, 1], and draws
docs/images/strong_view.jpg.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from mixdet.data.photometric import HUE, Photometric, PhotometricView
from mixdet.data.scenes import scenes
from mixdet.reports.drawing import contact_sheet
from mixdet.structures import Batch, keyed_generator

PICTURE = Path("docs/images/strong_view.jpg")
SCENES, DRAWS = 64, 4  # measured: every scene so often
SHOWN = (10, 18, 50, 44, 36)  # from little difference to the most
WIDTH = 224  # pixels of a scene's longer side
ROWS = ("default, exact", "the same without hue", "default in bytes, in [0, 1]")
FACTOR = 4  # by which the differences are shown larger


def difference(image: Tensor, drawn: Photometric) -> tuple[Tensor, Tensor, Tensor]:
    """(3, h, w) exact view, default view and their difference in 8-bit levels."""
    exact, default = (in_floats(image, replace(drawn, exact=torch.tensor([flag]))) for flag in (True, False))
    return exact, default, (exact - default).abs() * 255


def in_floats(image: Tensor, drawn: Photometric) -> Tensor:
    """(3, h, w) view in [0, 1]."""
    batch = Batch(image[None].float() / 255, torch.tensor([image.shape[1:]]), None, pad_colour=torch.zeros(3))
    return drawn.apply(batch).images[0]


def rounding(image: Tensor, drawn: Photometric) -> Tensor | None:
    """(3, h, w) difference of the view in bytes from that in [0, 1], in 8-bit levels; None without OpenCV."""
    octets = drawn.apply_to_bytes(image.permute(1, 2, 0)[None], torch.tensor([image.shape[1:]]))
    return None if octets is None else (octets[0].permute(2, 0, 1) - 255 * in_floats(image, drawn)).abs()


def without_hue(drawn: Photometric) -> Photometric:
    factors = drawn.factors.clone()
    factors[:, HUE] = 0
    return replace(drawn, factors=factors)


def measured() -> str:
    """Lines of a Markdown table."""
    dataset, view = scenes("photo", count=SCENES, size=WIDTH), replace(PhotometricView(), erase=())
    levels: dict[str, list[Tensor]] = {name: [] for name in ROWS}
    for i in range(SCENES):
        image = dataset.image(i)
        for draw in range(DRAWS):
            drawn = view.draw(image.shape[1], image.shape[2], keyed_generator(0, i, draw))
            found = difference(image, drawn)[2], difference(image, without_hue(drawn))[2], rounding(image, drawn)
            for row, one in zip(levels.values(), found, strict=True):
                row += [] if one is None else [one.flatten()]
    lines = ["| | mean | 95th percentile | largest | images off by more than 8 on average |", "| --- |" + " --- |" * 4]
    for name, images in levels.items():
        if images:
            pixels, far = torch.cat(images), sum(float(one.mean()) > 8 for one in images) / len(images)
            tail, most = float(pixels.kthvalue(int(0.95 * len(pixels))).values), float(pixels.max())
            lines.append(f"| {name} | {float(pixels.mean()):.2f} | {tail:.1f} | {most:.1f} | {far:.0%} |")
    return "\n".join(lines)


def picture() -> Image.Image:
    """A row for each view, a column for each scene."""
    dataset, view = scenes("photo", count=SCENES, size=WIDTH), replace(PhotometricView(), jitter_p=1.0, grey_p=0.0)
    views: dict[str, list[Image.Image]] = {"weak view": [], "exact": [], "default": [], f"difference x {FACTOR}": []}
    captions: list[str] = []
    for i in SHOWN:
        image = dataset.image(i)
        drawn = view.draw(image.shape[1], image.shape[2], keyed_generator(0, i))
        exact, fast, levels = difference(image, drawn)
        for row, tile in zip(views.values(), (image, exact, fast, (levels * FACTOR / 255).clamp(max=1)), strict=True):
            row.append(to_pil_image(tile))
        captions.append(f", hue {float(drawn.factors[0, HUE]):+.2f}: {float(levels.mean()):.1f}")
    *above, last = ([name] * len(SHOWN) for name in views)
    names = [*chain(*above), *(name + more for name, more in zip(last, captions, strict=True))]
    return contact_sheet(list(chain(*views.values())), len(SHOWN), names)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(measured())
    picture().save(PICTURE, quality=62)
