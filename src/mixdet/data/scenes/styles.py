"""The looks a scene can have. A style decides how things look, never what is where.

Shapes are drawn at twice the size and averaged, so that their edges are smooth. A style draws the numbers of its
ground and grain before those of the items: a scene with one thing less is the same elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from mixdet.data.scenes.layout import Item, Layout
from mixdet.data.scenes.shapes import ACCENT, BODY

Plane = NDArray[np.float32]  # (h, w)
Canvas = NDArray[np.float32]  # (h, w, 3) RGB, 0 to 1

_SCALE = 2  # drawn at this multiple, then averaged


def draw(layout: Layout, style: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(h, w, 3) RGB of the scene in one of `STYLES`; ``rng`` is for the look alone."""
    canvas = STYLES[style](layout, rng)
    return (canvas.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def photo(layout: Layout, rng: np.random.Generator) -> Canvas:
    """Lit from one side: textured ground, shaded and textured things with soft shadows, sensor noise."""
    h, w = layout.size
    longer = max(h, w)
    texture = _fractal(rng, layout.size)
    fine = _noise(rng, layout.size, longer // 3)
    grain = rng.standard_normal((h, w, 3), np.float32) * rng.uniform(0.015, 0.045)
    toward = rng.uniform(0, 2 * np.pi)
    light = np.array([np.cos(toward), np.sin(toward)])
    canvas = _ground(rng, texture, fine)
    x, y = _grid(layout.size)
    glow = (1 + rng.uniform(0.1, 0.3) * (x * light[0] + y * light[1])) * rng.uniform(0.8, 1.1)
    tint = rng.uniform(0.92, 1.06, 3).astype(np.float32)
    for item in layout.items:
        _photo_item(canvas, item, light, texture, fine, rng.uniform(0.05, 0.25, 2).astype(np.float32))
    canvas *= (glow.astype(np.float32))[..., None] * tint
    canvas += grain
    return canvas


def _ground(rng: np.random.Generator, texture: Plane, fine: Plane) -> Canvas:
    """Two near colours, mixed by noise, by wavy bands as of wood or cloth, and along an edge as of a table."""
    base = (rng.uniform(0.25, 0.8) + rng.uniform(-0.15, 0.15, (2, 3))).astype(np.float32)
    x, y = _grid(texture.shape)
    turn, waves = rng.uniform(0, np.pi), rng.uniform(2, 25)
    across = np.float32(np.cos(turn)) * x + np.float32(np.sin(turn)) * y
    bands = np.sin(np.float32(waves) * across + np.float32(rng.uniform(1, 6)) * texture)
    beyond = (30 * (across - np.float32(rng.uniform(-1.5, 1)))).clip(0, 1)
    share = 0.5 + rng.uniform(0.3, 0.8) * texture + rng.uniform(0, 0.3) * bands + rng.uniform(-0.8, 0.8) * beyond
    relief = 0.1 * texture + rng.uniform(0.02, 0.1) * fine - rng.uniform(0, 0.12) * beyond
    ground: Canvas = base[0] + (base[1] - base[0]) * share[..., None] + relief[..., None]
    return ground


def _photo_item(
    canvas: Canvas, item: Item, light: NDArray[np.float64], texture: Plane, fine: Plane, strength: NDArray[np.float32]
) -> None:
    side = max(item.extent[2] - item.extent[0], item.extent[3] - item.extent[1])
    reach = max(1.5, 0.06 * side)
    layer = _layer(item, canvas.shape, margin=math.ceil(3 * reach))
    soft = _blurred(layer.alpha, reach)
    dx, dy = np.rint(-light * reach).astype(int).tolist()
    shadow = np.roll(soft, (dy, dx), (0, 1))[layer.inside]
    target = canvas[layer.at]
    target *= (1 - 0.55 * shadow)[..., None]
    x, y = _grid(soft.shape)
    slope = (0.22 * (x * light[0] + y * light[1])).astype(np.float32)[layer.inside]
    height, width = target.shape[:2]
    wear = strength[0] * texture[:height, :width] + strength[1] * fine[layer.at]
    shade = (1 + slope + wear) * (0.62 + 0.38 * soft[layer.inside])  # darker towards the rim: things look round
    target += layer.alpha[layer.inside][..., None] * (layer.colour[layer.inside] * shade[..., None] - target)


def clipart(layout: Layout, rng: np.random.Generator) -> Canvas:
    """Flat, saturated colours with dark outlines, on a pale patterned ground."""
    h, w = layout.size
    pen = max(h, w) / 100 * _SCALE
    image = Image.new("RGB", (w * _SCALE, h * _SCALE))
    draw_on = ImageDraw.Draw(image)
    _pattern(draw_on, image.size, rng)
    for item in layout.items:
        for part in item.parts:
            points = (part.points * _SCALE - 0.5).ravel().tolist()
            draw_on.line([*points, *points[:4]], (30, 26, 34), round(pen), "curve")
            colour = item.colours[part.tone]
            draw_on.polygon(points, _rgb(_vivid(colour) if part.tone in (BODY, ACCENT) else colour))
    return _values(image.reduce(_SCALE))


def _pattern(draw_on: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    """A pale ground: plain, stripes, dots or hills."""
    w, h = size
    paper, ink = 1 - rng.uniform(0, 0.22, 3), 1 - rng.uniform(0.02, 0.32, 3)
    draw_on.rectangle((0, 0, w, h), _rgb(paper))
    kind, step = rng.integers(4), max(w, h) * rng.uniform(0.06, 0.15)
    if kind == 1:
        for x in np.arange(-h, w, 2 * step):
            draw_on.polygon([x, h, x + step, h, x + step + h, 0, x + h, 0], _rgb(ink))
    elif kind == 2:
        for x in np.arange(step / 2, w, step):
            for y in np.arange(step / 2, h, step):
                draw_on.ellipse((x - step / 5, y - step / 5, x + step / 5, y + step / 5), _rgb(ink))
    elif kind == 3:
        for base in (0.45, 0.7):
            across = np.linspace(0, w, 24)
            crest = h * (base + 0.1 * np.sin(across / w * rng.uniform(3, 9) + rng.uniform(0, 6)))
            points = np.stack([across, crest], axis=1).ravel().tolist()
            draw_on.polygon([*points, w, h, 0, h], _rgb(ink * (base + 0.4)))


def watercolor(layout: Layout, rng: np.random.Generator) -> Canvas:
    """Pale washes on grained paper: pigment pools unevenly, gathers at wavering edges and bleeds beyond them."""
    h, w = layout.size
    longer = max(h, w)
    rough, flow = _noise(rng, layout.size, longer // 2), _fractal(rng, layout.size)
    waver = _noise(rng, layout.size, longer // 9)
    paper = 1 - rng.uniform(0, 0.04, 3) * (1, 1.2, 2)
    canvas: Canvas = np.tile(paper.astype(np.float32), (h, w, 1))
    for _ in range(2):
        pigment = rng.uniform(0.03, 0.3, 3).astype(np.float32)
        depth = 12 * (_noise(rng, layout.size, 3) + 0.15 * flow + 0.03 * waver + rng.uniform(-0.1, 0.2))
        wash = depth.clip(0, 1) * (0.75 + flow) + 0.3 * (1 - abs(depth - 1)).clip(0, 1)  # darker at its edge
        canvas *= 1 - wash[..., None] * pigment
    for item in layout.items:
        _watercolor_item(canvas, item, flow, waver, rng.uniform(0.8, 1.05))
    canvas += (0.05 * rough)[..., None]
    return canvas


def _watercolor_item(canvas: Canvas, item: Item, flow: Plane, waver: Plane, strength: float) -> None:
    reach = max(canvas.shape) / 150
    layer = _layer(item, canvas.shape, margin=math.ceil(6 * reach))
    near, far = (_blurred(layer.alpha, reach * k)[layer.inside] for k in (1, 3))
    body = ((near + 1.2 * waver[layer.at] * near * (1 - near) - 0.4) * 2.5 + 0.5).clip(0, 1)
    absorbed = (1 - layer.colour[layer.inside]) * 0.88  # what the pigment takes from the paper's white
    target = canvas[layer.at]
    target *= 1 - (0.35 * far * (1 - body))[..., None] * absorbed  # the bleed
    load = strength * (0.85 + 0.9 * flow[layer.at]) + 0.9 * body * (1 - near)
    stain = 1 - load[..., None] * absorbed
    target += body[..., None] * (stain * (0.25 * target + 0.75) - target)


STYLES: dict[str, Callable[[Layout, np.random.Generator], Canvas]] = {
    "photo": photo,
    "clipart": clipart,
    "watercolor": watercolor,
}


class _Layer(NamedTuple):
    """An item alone, on a piece of plane that may reach beyond the image.

    Attributes:
        colour: (h, w, 3) flat colours; beyond the item its body's, so that soft edges do not darken.
        alpha: (h, w) coverage.
        inside: which rows and columns of the piece are in the image.
        at: where in the image these are.
    """

    colour: Canvas
    alpha: Plane
    inside: tuple[slice, slice]
    at: tuple[slice, slice]


def _layer(item: Item, size: tuple[int, ...], margin: int) -> _Layer:
    x0, y0 = (math.floor(low) - margin for low in item.extent[:2])
    w, h = math.ceil(item.extent[2]) + margin - x0, math.ceil(item.extent[3]) + margin - y0
    image = Image.new("RGB", (w * _SCALE, h * _SCALE), _rgb(item.colours[BODY]))
    mask = Image.new("L", image.size)
    draw_on, cut = ImageDraw.Draw(image), ImageDraw.Draw(mask)
    for part in item.parts:
        points = ((part.points - (x0, y0)) * _SCALE - 0.5).ravel().tolist()
        draw_on.polygon(points, _rgb(item.colours[part.tone]))
        cut.polygon(points, 255)
    inside = slice(max(0, -y0), min(h, size[0] - y0)), slice(max(0, -x0), min(w, size[1] - x0))
    at = slice(max(0, y0), min(size[0], y0 + h)), slice(max(0, x0), min(size[1], x0 + w))
    return _Layer(_values(image.reduce(_SCALE)), _values(mask.reduce(_SCALE)), inside, at)


def _rgb(colour: NDArray[np.float64]) -> tuple[int, int, int]:
    r, g, b = (colour.clip(0, 1) * 255).astype(int).tolist()
    return r, g, b


def _vivid(colour: NDArray[np.float64]) -> NDArray[np.float64]:
    """The colour, brighter and more saturated."""
    vivid: NDArray[np.float64] = (colour + 0.5 * (colour - colour.mean())) * (0.95 / max(colour.max(), 0.5))
    return vivid


def _grid(size: tuple[int, int]) -> tuple[Plane, Plane]:
    """Coordinates x (1, w) and y (h, 1), each from -1 to 1."""
    h, w = size
    return np.linspace(-1, 1, w, dtype=np.float32)[None], np.linspace(-1, 1, h, dtype=np.float32)[:, None]


def _noise(rng: np.random.Generator, size: tuple[int, int], cells: int) -> Plane:
    """(h, w) smooth noise of about [-0.5, 0.5] with ``cells`` bumps across."""
    coarse = Image.fromarray(rng.random((cells + 1, cells + 1), np.float32) - 0.5)
    noise: Plane = np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC), np.float32)
    return noise


def _fractal(rng: np.random.Generator, size: tuple[int, int]) -> Plane:
    """(h, w) noise of about [-0.5, 0.5] at three scales."""
    noise: Plane = 0.5 * _noise(rng, size, 4) + 0.3 * _noise(rng, size, 11) + 0.3 * _noise(rng, size, 28)
    return noise


def _blurred(alpha: Plane, radius: float) -> Plane:
    image = Image.fromarray((alpha * 255).astype(np.uint8))
    return _values(image.filter(ImageFilter.GaussianBlur(radius)))


def _values(image: Image.Image) -> NDArray[np.float32]:
    values: NDArray[np.float32] = np.asarray(image, np.float32) / np.float32(255)
    return values
