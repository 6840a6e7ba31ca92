"""Pictures of annotations, mixed annotations and predictions, with Pillow alone."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mixdet.errors import MixdetError
from mixdet.reports.text import printable
from mixdet.structures import Detections, Instances

Colour = tuple[int, int, int]
Rect = tuple[float, float, float, float]

PALETTE: tuple[Colour, ...] = (
    (255, 89, 64), (38, 166, 255), (77, 214, 72), (255, 200, 20), (196, 98, 255), (0, 214, 196), (255, 105, 180),
    (166, 216, 20), (255, 150, 50), (105, 125, 255), (0, 190, 120), (235, 70, 110), (120, 220, 255), (215, 160, 95),
    (225, 140, 255), (170, 180, 30),
)  # fmt: skip
GREY: Colour = (190, 190, 190)
LARGEST = 4096  # pixels; no side is enlarged beyond
BACKGROUND: Colour = (24, 26, 30)
HEAT_OPACITY = 0.75  # where a map is hottest
WEAKEST = 0.2  # of the opacity; a weight of 0 is still to be seen


@dataclass(frozen=True)
class _Mark:
    """One box to draw: its place in the picture, name and strength in [0, 1]."""

    box: Rect
    text: str
    colour: Colour
    strength: float


def draw_instances(image: Tensor, instances: Instances, classes: Sequence[str], *, min_width: int = 400) -> Image.Image:
    """``image`` with its annotations, each as strong as it counts.

    Opacity and line width follow ``shares * cls_weights``, which the label shows where it is not 1. Ignored
    instances are grey.

    Args:
        image: (3, H, W), uint8 or float in [0, 1].
        instances: in the pixels of ``image``.
        classes: names of the labels.
        min_width: smaller images are enlarged to at least this width, by a whole factor (but to no side over 4096).
    """
    strengths = (instances.shares * instances.cls_weights).detach().cpu().tolist()
    rows = zip(instances.labels.tolist(), strengths, instances.ignored.tolist(), strict=True)
    labels = [
        (f"{_name(classes, label)} ignored", GREY, strength)
        if ignored
        else (
            _name(classes, label) + ("" if abs(strength - 1) < 0.005 else f" {strength:.2f}"),
            _colour(label),
            strength,
        )
        for label, strength, ignored in rows
    ]
    return _draw(image, instances.boxes, labels, min_width)


def draw_detections(
    image: Tensor,
    detections: Detections,
    classes: Sequence[str],
    score_threshold: float = 0.3,
    *,
    min_width: int = 400,
) -> Image.Image:
    """``image`` with the detections of at least ``score_threshold``; the more certain, the more opaque.

    Arguments as in ``draw_instances``.
    """
    shown = detections.select(detections.scores >= score_threshold)
    rows = zip(shown.labels.tolist(), shown.scores.tolist(), strict=True)
    labels = [(f"{_name(classes, label)} {score:.2f}", _colour(label), score) for label, score in rows]
    return _draw(image, shown.boxes, labels, min_width)


def draw_borders(
    picture: Image.Image, rows: Sequence[int], columns: Sequence[int], size: tuple[int, int]
) -> Image.Image:
    """A drawn image with lines where it was cut into tiles.

    Args:
        picture: of an image of ``size``, perhaps enlarged.
        rows, columns: pixels of that image at which it was cut.
        size: its (height, width).
    """
    picture, (height, width) = picture.copy(), size
    pen, thick = ImageDraw.Draw(picture), max(2, picture.width // 200)
    for y in (row * picture.height / height for row in rows if 0 < row < height):
        pen.line((0, y, picture.width, y), (255, 255, 255), thick)
    for x in (column * picture.width / width for column in columns if 0 < column < width):
        pen.line((x, 0, x, picture.height), (255, 255, 255), thick)
    return picture


def heated(image: Tensor, heat: Tensor) -> Tensor:
    """``image`` under a map of where something comes from: blue for little, red for most, the image itself for none.

    Args:
        image: (3, H, W), uint8 or float in [0, 1].
        heat: (H, W) in [0, 1].

    Returns:
        (3, H, W) uint8.
    """
    pixels, heat = image.detach().cpu(), heat.detach().cpu().float()
    pixels = pixels.clamp(0, 1) * 255 if pixels.is_floating_point() else pixels.float()
    colour = torch.stack([(1.5 - (3.5 * heat - centre).abs()).clamp(0, 1) for centre in (3, 2, 1)])
    opacity = HEAT_OPACITY * heat.sqrt()
    return (pixels * (1 - opacity) + 255 * colour * opacity).round().byte()


def contact_sheet(images: Sequence[Image.Image], columns: int, captions: Sequence[str] | None = None) -> Image.Image:
    """``images`` in rows of ``columns``, each fitted into a cell of the median size, above its caption."""
    if not images:
        raise ValueError("contact_sheet: no images")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"contact_sheet: {len(captions)} captions for {len(images)} images")
    columns = min(columns, len(images))
    width, height = (sorted(sides)[len(images) // 2] for sides in zip(*(i.size for i in images), strict=True))
    size, gap = _font_size(width), max(6, width // 40)
    band = 0 if captions is None else round(size * 1.8)
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (gap + columns * (width + gap), gap + rows * (height + band + gap)), BACKGROUND)
    pen, font = ImageDraw.Draw(sheet), _font(size)
    for k, image in enumerate(images):
        left, top = gap + k % columns * (width + gap), gap + k // columns * (height + band + gap)
        scale = min(width / image.width, height / image.height)
        fitted = image.convert("RGB").resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
        )
        sheet.paste(fitted, (left + (width - fitted.width) // 2, top + (height - fitted.height) // 2))
        if captions is not None:
            text = _fitting(printable(captions[k], 200), font, width)
            pen.text((left + width / 2, top + height + band / 2), text, (232, 232, 232), font, anchor="mm")
    return sheet


def _draw(image: Tensor, boxes: Tensor, labels: Sequence[tuple[str, Colour, float]], min_width: int) -> Image.Image:
    picture = _picture(image)
    factor = max(1, min(math.ceil(min_width / picture.width), LARGEST // max(picture.size)))
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)
    marks = []
    for box, (text, colour, strength) in zip(boxes.detach().cpu().double().tolist(), labels, strict=True):
        x1, y1, x2, y2 = (value * factor for value in box)
        if all(map(math.isfinite, (x1, y1, x2, y2, strength))) and x1 <= x2 and y1 <= y2:
            marks.append(_Mark((x1, y1, x2, y2), text, colour, min(max(strength, 0.0), 1.0)))
    marks.sort(key=lambda mark: mark.strength)  # the strong ones on top
    overlay = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(overlay)
    for mark in marks:
        _outline(pen, mark, picture.size)
    taken: list[Rect] = []
    for mark in reversed(marks):  # the strong ones choose their place first
        _label(pen, mark, picture.size, taken)
    return Image.alpha_composite(picture.convert("RGBA"), overlay).convert("RGB")


def _outline(pen: ImageDraw.ImageDraw, mark: _Mark, size: tuple[int, int]) -> None:
    widest = max(3, round(min(size) / 100))
    width, alpha = max(1, round(widest * mark.strength)), _alpha(mark.strength)
    margin = width + 2
    x1, y1, x2, y2 = (min(max(v, -margin), s + margin) for v, s in zip(mark.box, size + size, strict=True))
    pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=(0, 0, 0, alpha // 2))
    pen.rectangle((x1, y1, x2, y2), outline=(*mark.colour, alpha), width=width)


def _label(pen: ImageDraw.ImageDraw, mark: _Mark, size: tuple[int, int], taken: list[Rect]) -> None:
    """The name on a plate whose colour fades to dark with the strength; left out where other labels leave no room."""
    font = _font(_font_size(size[0]))
    pad = max(2, round(font.size / 5))
    text = _fitting(mark.text, font, size[0] - 2 * pad)
    width, height = font.getlength(text) + 2 * pad, sum(font.getmetrics()) + 1
    free = (p for p in _places(mark.box, width, height, size) if not any(_overlap(p, other) for other in taken))
    if (plate := next(free, None)) is None:
        return
    taken.append(plate)
    r, g, b = (round(dark + (c - dark) * mark.strength) for dark, c in zip(BACKGROUND, mark.colour, strict=True))
    pen.rectangle(plate, fill=(r, g, b, 225))
    ink = (0, 0, 0) if 0.299 * r + 0.587 * g + 0.114 * b > 115 else (255, 255, 255)
    pen.text((plate[0] + pad, plate[1]), text, fill=(*ink, 255), font=font)


def _places(box: Rect, width: float, height: float, size: tuple[int, int]) -> list[Rect]:
    """Where a label may go, best first: above the box, inside, below, beside it; inside the picture."""
    x1, y1, x2, y2 = box
    corners = [(x, y) for y in (y1 - height, y1, y2, y2 - height) for x in (x1, x2 - width)]
    corners += [(x, y) for x in (x2, x1 - width) for y in (y1, y2 - height)]
    limits = size[0] - width - 1, size[1] - height - 1
    kept = [(min(max(x, 0.0), limits[0]), y) for x, y in corners if 0 <= y <= limits[1]]
    return [(x, y, x + width, y + height) for x, y in kept or [(max(0.0, min(x1, limits[0])), 0.0)]]


def _picture(image: Tensor) -> Image.Image:
    pixels = image.detach().cpu()
    if pixels.is_floating_point():
        pixels = (pixels.clamp(0, 1) * 255).round().byte()
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """``text``, cut at the end until it is at most ``width`` pixels wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _overlap(a: Rect, b: Rect) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _name(classes: Sequence[str], label: int) -> str:
    return printable(classes[label]) if 0 <= label < len(classes) else f"class {label}"


def _colour(label: int) -> Colour:
    """A colour of its own for each class: the palette, then hues a golden angle apart."""
    if label < len(PALETTE):
        return PALETTE[label]
    r, g, b = colorsys.hsv_to_rgb(label * 0.618034 % 1, (0.55, 0.8)[label % 2], (1.0, 0.85, 0.7)[label % 3])
    return round(255 * r), round(255 * g), round(255 * b)


def _alpha(strength: float) -> int:
    return round(255 * (WEAKEST + (1 - WEAKEST) * strength))


def _font_size(width: int) -> int:
    return min(22, max(12, width // 32))


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise MixdetError("this Pillow was built without FreeType: install a wheel of pillow from the package index")
    return font
