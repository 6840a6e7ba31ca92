"""What is where in a drawn scene: sizes, shapes, colours and depth, before any style.

A layout is a function of (seed, split, index), the size and the difficulty. It does not know the style, so that the
same scene exists in all of them. An object's box is the full extent of its shape, seen or covered, clipped to the
image; an object less than ``MIN_VISIBLE`` of which can be seen is taken out of the scene, so that neither pixels nor
annotations have it.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mixdet.data.scenes.shapes import SHAPES, Part, Shape, clutter

CLASSES: tuple[str, ...] = tuple(SHAPES)
MAX_OBJECTS = 12
MIN_VISIBLE = 0.3  # of the whole shape's area; the rest is covered by nearer things or beyond the image
MIN_SIDE = 4.0  # pixels of a box; below it an object is taken out of the scene

NO_CLASS = -1
_EMPTY_SHARE = 0.05
_RASTER, _MARGIN = 64, 20  # cells along the image's longer side, and around it, when visibility is counted

# Usual hues (of [0, 1)) of a class. Half of the objects have one of them, the others any: colour helps, shape decides.
_HUES: dict[str, tuple[float, ...]] = {
    "car": (0.0, 0.6),
    "fish": (0.07, 0.55),
    "house": (0.1, 0.02),
    "key": (0.13, 0.6),
    "mug": (0.55, 0.98),
    "star": (0.14, 0.85),
    "tree": (0.33, 0.08),
    "umbrella": (0.97, 0.75),
}


@dataclass(frozen=True, eq=False)
class Item:
    """One thing of a scene: an object of a class, or clutter.

    Attributes:
        parts: polygons in the image's pixels, drawn in order.
        colours: (4, 3) RGB in [0, 1]: body, accent, dark, light (the tones of the parts).
        label: position in ``CLASSES``, or ``NO_CLASS``.
        extent: x0, y0, x1, y1 of the whole shape in pixels, not clipped.
    """

    parts: Shape
    colours: NDArray[np.float64]
    label: int
    extent: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Layout:
    """A scene of ``size`` (height, width) pixels; items are drawn in order, far to near."""

    size: tuple[int, int]
    items: tuple[Item, ...]

    @property
    def labels(self) -> list[int]:
        """One an object, far to near."""
        return [item.label for item in self.items if item.label != NO_CLASS]

    @property
    def boxes(self) -> list[tuple[float, float, float, float]]:
        """Their xyxy in pixels, one an object, in the order of ``labels``."""
        return [_clip(item.extent, self.size) for item in self.items if item.label != NO_CLASS]


def draw_layout(rng: np.random.Generator, size: int, difficulty: float) -> Layout:
    """Draw a scene.

    Args:
        rng: where all its numbers come from.
        size: pixels of the longer side; the other one has 3/4 of it or more.
        difficulty: from 0 (large, upright, apart, little clutter) to 1 (small ones too, at any angle, crowded,
            much clutter). The number of objects does not depend on it.
    """
    short = round(size * rng.uniform(0.75, 1))
    shape = (size, short) if rng.random() < 0.5 else (short, size)
    count = 0 if rng.random() < _EMPTY_SHARE else 1 + int(MAX_OBJECTS * rng.random() ** 2)
    near: list[tuple[float, Item]] = []  # depth and item
    centres: list[tuple[float, float, float]] = []
    for _ in range(count):
        item = _object(rng, shape, difficulty, count, centres)
        if item is not None:
            near.append((rng.random(), item))
    for _ in range(int(rng.integers(0, round(4 + 8 * difficulty)))):
        near.append((rng.uniform(-2, 0.4), _clutter(rng, shape)))  # mostly behind the objects
    items = [item for _, item in sorted(near, key=lambda pair: pair[0])]
    return Layout(shape, tuple(without_hidden(items, shape)))


def _object(
    rng: np.random.Generator,
    size: tuple[int, int],
    difficulty: float,
    count: int,
    centres: list[tuple[float, float, float]],
) -> Item | None:
    """An object that keeps its distance from ``centres`` (x, y, long side), to which it is added; None if full."""
    longer = max(size)
    label = int(rng.integers(len(CLASSES)))
    smallest, largest = 0.2 - 0.11 * difficulty, 0.62 / count**0.3
    side = longer * smallest * (largest / smallest) ** rng.random()
    angle = np.pi * difficulty * rng.uniform(-1, 1)
    parts = SHAPES[CLASSES[label]](rng)
    flip = -1 if rng.random() < 0.5 else 1
    colours = _colours(rng, CLASSES[label])
    gap = 0.5 - 0.2 * difficulty
    for _ in range(8):
        x, y = (rng.uniform(0.3 * side, length - 0.3 * side) for length in (size[1], size[0]))
        if all(np.hypot(x - a, y - b) > gap * (side + other) for a, b, other in centres):
            centres.append((x, y, side))
            return place(parts, colours, label, x, y, side, angle, flip)
    return None


def _clutter(rng: np.random.Generator, size: tuple[int, int]) -> Item:
    side = max(size) * rng.uniform(0.06, 0.35)
    x, y = rng.uniform(0, size[1]), rng.uniform(0, size[0])
    return place(clutter(rng), _colours(rng, None), NO_CLASS, x, y, side, rng.uniform(0, 2 * np.pi), 1)


def place(
    parts: Shape,
    colours: NDArray[np.float64],
    label: int,
    x: float,
    y: float,
    side: float,
    angle: float,
    flip: int,
) -> Item:
    """The shape, its longer side ``side`` pixels before it is turned, with the middle of its frame at (x, y)."""
    points = np.concatenate([part.points for part in parts])
    low, high = points.min(0), points.max(0)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[flip * cos, flip * sin], [-sin, cos]]) * (side / (high - low).max())
    points = (points - (low + high) / 2) @ turn + (x, y)
    x0, y0 = points.min(0).tolist()
    x1, y1 = points.max(0).tolist()
    ends = np.cumsum([len(part.points) for part in parts]).tolist()
    moved = tuple(Part(points[end - len(part.points) : end], part.tone) for part, end in zip(parts, ends, strict=True))
    return Item(moved, colours, label, (x0, y0, x1, y1))


def _colours(rng: np.random.Generator, name: str | None) -> NDArray[np.float64]:
    """(4, 3) RGB of a thing's tones."""
    hue = rng.random()
    if name is not None and rng.random() < 0.5:
        hue = _HUES[name][rng.integers(len(_HUES[name]))] + rng.uniform(-0.03, 0.03)
    saturation, value = rng.uniform(0.3, 0.95), rng.uniform(0.5, 0.95)
    body = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    second = (hue + rng.uniform(0.15, 0.85)) % 1
    accent = colorsys.hsv_to_rgb(second, rng.uniform(0.2, 0.9), rng.uniform(0.4, 1))
    dark = colorsys.hsv_to_rgb(rng.random(), 0.4, rng.uniform(0.12, 0.3))
    light = colorsys.hsv_to_rgb(rng.random(), 0.12, rng.uniform(0.85, 1))
    return np.array([body, accent, dark, light])


def _clip(extent: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = extent
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(size[1])), min(y1, float(size[0]))


def without_hidden(items: list[Item], size: tuple[int, int]) -> list[Item]:
    """``items`` (far to near) without the objects that are too small or hidden by what remains in front of them."""
    cell = max(size) / _RASTER
    rows, columns = (round(length / cell) for length in size)
    cells = rows + 2 * _MARGIN, columns + 2 * _MARGIN
    free = np.zeros(cells, bool)
    free[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = True
    kept = []
    for item in reversed(items):
        mask = _mask(item, cell, cells)
        x0, y0, x1, y1 = _clip(item.extent, size)
        visible = np.count_nonzero(mask & free) >= MIN_VISIBLE * np.count_nonzero(mask)
        if item.label == NO_CLASS or (visible and min(x1 - x0, y1 - y0) >= MIN_SIDE):
            kept.append(item)
            free &= ~mask
    return kept[::-1]


def _mask(item: Item, cell: float, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(rows, columns) cells that the item covers, were it alone."""
    raster = Image.new("L", shape[::-1])
    draw = ImageDraw.Draw(raster)
    for part in item.parts:
        draw.polygon((part.points / cell + (_MARGIN - 0.5)).ravel().tolist(), fill=1)
    return np.asarray(raster).astype(bool)
