"""The classes of the drawn scenes as compound silhouettes, and the shapes of no class that clutter them.

A shape is a tuple of parts, drawn in order, in its own frame: about [-1, 1] in x and y, y downwards. Every edge is a
polygon's, so that the box of a rotated shape is exactly the range of its vertices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (n, 2)

BODY, ACCENT, DARK, LIGHT = range(4)


class Part(NamedTuple):
    """One polygon: (n, 2) vertices and which of its object's four colours fills it."""

    points: Points
    tone: int


Shape = tuple[Part, ...]

_CIRCLE: Points = np.stack(
    [np.cos(np.linspace(0, 2 * np.pi, 25)[:-1]), np.sin(np.linspace(0, 2 * np.pi, 25)[:-1])], axis=1
)


def _poly(*xy: tuple[float, float]) -> Points:
    return np.array(xy, np.float64)


def _rect(x0: float, y0: float, x1: float, y1: float) -> Points:
    return _poly((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _disc(x: float, y: float, rx: float, ry: float | None = None) -> Points:
    return _CIRCLE * (rx, rx if ry is None else ry) + (x, y)


def _arc(x: float, y: float, r: float, start: float, stop: float, n: int = 12) -> Points:
    """Points of an open arc, angles in degrees clockwise from +x (y is downwards)."""
    turn = np.radians(np.linspace(start, stop, n))
    return np.stack([x + r * np.cos(turn), y + r * np.sin(turn)], axis=1)


def _band(x: float, y: float, outer: float, inner: float, start: float, stop: float, n: int = 12) -> Points:
    """A ring, or a piece of one: there along ``outer``, back along ``inner``."""
    return np.concatenate([_arc(x, y, outer, start, stop, n), _arc(x, y, inner, stop, start, n)])


def car(rng: np.random.Generator) -> Shape:
    roof = rng.uniform(0.42, 0.58)
    front, back = rng.uniform(0.2, 0.45), rng.uniform(0.3, 0.6)
    wheel = rng.uniform(0.2, 0.25)
    cabin = _poly((-0.35 - back, -0.04), (-back, -roof), (front, -roof), (front + 0.3, -0.04))
    body = _poly((-1, 0), (-0.9, -0.08), (0.75, -0.08), (1, 0.06), (1, 0.36), (0.94, 0.42), (-0.94, 0.42), (-1, 0.36))
    middle = (front - back) / 2
    rear = _poly((-0.16 - back, -0.06), (0.04 - back, 0.1 - roof), (middle - 0.05, 0.1 - roof), (middle - 0.05, -0.06))
    fore = _poly((middle + 0.05, -0.06), (middle + 0.05, 0.1 - roof), (front - 0.03, 0.1 - roof), (front + 0.14, -0.06))
    wheels = [Part(_disc(x, 0.42, wheel), DARK) for x in (-0.55, 0.56)]
    hubs = [Part(_disc(x, 0.42, wheel * 0.45), LIGHT) for x in (-0.55, 0.56)]
    return (Part(cabin, BODY), Part(body, BODY), Part(rear, LIGHT), Part(fore, LIGHT), *wheels, *hubs)


def fish(rng: np.random.Generator) -> Shape:
    height, fork = rng.uniform(0.3, 0.48), rng.uniform(0.6, 0.85)
    half = height * 0.9
    tail = _poly((0.4, 0), (0.85, -half), (1, -half), (1, -half * 0.8), (fork, 0),
                 (1, half * 0.8), (1, half), (0.85, half))  # fmt: skip
    fin = _poly((-0.35, -height * 0.75), (0.05, -height * 1.5), (0.2, -height * 1.5), (0.35, -height * 0.5))
    belly = _poly((-0.2, height * 0.8), (0, height * 1.3), (0.12, height * 1.3), (0.2, height * 0.6))
    x = rng.uniform(-0.2, 0.05)
    stripe = _band(x - 0.5, 0, 0.62, 0.48, -38 * height / 0.4, 38 * height / 0.4, 8)
    eye = (Part(_disc(-0.62, -height * 0.2, 0.11), LIGHT), Part(_disc(-0.64, -height * 0.2, 0.055), DARK))
    sides = (Part(tail, ACCENT), Part(fin, ACCENT), Part(belly, ACCENT), Part(_disc(-0.25, 0, 0.75, height), BODY))
    return (*sides, Part(stripe, ACCENT), *eye)


def house(rng: np.random.Generator) -> Shape:
    half, top = rng.uniform(0.55, 0.75), rng.uniform(-0.2, 0.05)
    over = half + rng.uniform(0.12, 0.22)
    peak = top - rng.uniform(0.55, 0.75)
    chimney = _rect(half * 0.45, peak + 0.02, half * 0.45 + 0.2, top)
    roof = _poly((-over, top), (0, peak), (over, top))
    door_x = rng.uniform(-0.7, -0.3) * half
    parts = [Part(chimney, DARK), Part(_rect(-half, top - 0.02, half, 0.75), BODY), Part(roof, ACCENT)]
    parts.append(Part(_rect(door_x - 0.14, 0.75 - 0.5, door_x + 0.14, 0.75), DARK))
    window = (half * 0.15, top + 0.2, half * 0.15 + 0.36, top + 0.52)
    return (*parts, Part(_rect(*window), LIGHT))


def key(rng: np.random.Generator) -> Shape:
    bow, hole = rng.uniform(0.36, 0.44), rng.uniform(0.14, 0.2)
    half, depth = rng.uniform(0.09, 0.12), rng.uniform(0.22, 0.3)
    teeth = [_rect(x, 0, x + 0.14, half + depth * rng.uniform(0.7, 1)) for x in (0.56, 0.82)]
    ring = _band(-0.56, 0, bow, hole, 0, 360, 25)
    shaft = _rect(-0.6 + (bow + hole) / 2, -half, 0.98, half)
    return (*(Part(tooth, BODY) for tooth in teeth), Part(shaft, BODY), Part(ring, BODY))


def mug(rng: np.random.Generator) -> Shape:
    half, foot = rng.uniform(0.48, 0.6), rng.uniform(0.36, 0.5)
    height = rng.uniform(0.6, 0.75)
    handle = _band(half - 0.06, 0.02, 0.44, 0.25, -95, 95, 14)
    body = _poly((-half, -height), (half, -height), (foot + 0.03, height - 0.08), (foot - 0.06, height),
                 (-foot + 0.06, height), (-foot - 0.03, height - 0.08))  # fmt: skip
    level = rng.uniform(-0.2, 0.25)
    stripe = _rect(-half * 0.93, level, half * 0.93, level + rng.uniform(0.14, 0.3))
    rim, drink = _disc(0, -height, half, 0.16), _disc(0, -height, half * 0.84, 0.1)
    return (Part(handle, BODY), Part(body, BODY), Part(stripe, ACCENT), Part(rim, LIGHT), Part(drink, DARK))


def star(rng: np.random.Generator) -> Shape:
    waist = rng.uniform(0.4, 0.52)
    turn = np.radians(np.arange(10) * 36 - 90)
    radius = np.where(np.arange(10) % 2 == 0, 1, waist)
    outer: Points = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
    return (Part(outer, BODY), Part(outer * rng.uniform(0.45, 0.6), ACCENT))


def tree(rng: np.random.Generator) -> Shape:
    trunk = Part(_rect(-0.13, 0.3, 0.13, 1), DARK)
    wide = rng.uniform(0.55, 0.72)
    tiers = ((0.6, 1.0, 0.8), (0.2, 0.8, 0.75), (-0.2, 0.6, 0.75))  # base, width, height
    crown = [Part(_poly((-wide * w, base), (0, base - high), (wide * w, base)), BODY) for base, w, high in tiers]
    places = ((-0.35, 0.45), (0.2, 0.38), (-0.1, 0.08), (0.12, -0.32))
    baubles = [Part(_disc(x * wide / 0.65, y, 0.1), ACCENT) for x, y in places]
    return (trunk, *crown, *baubles)


def umbrella(rng: np.random.Generator) -> Shape:
    drop = rng.uniform(0.02, 0.14)
    shaft = Part(_rect(-0.05, -0.75, 0.05, 0.8), DARK)
    hook = Part(_band(0.17, 0.78, 0.22, 0.12, 180, 0, 10), DARK)
    tip = Part(_rect(-0.05, -0.98, 0.05, -0.7), DARK)
    ends = np.linspace(-1, 1, 5)
    scallops = [
        _arc((a + b) / 2, drop, 0.25, 0, -180, 6) * (1, 0.5) + (0, drop / 2)
        for a, b in zip(ends[1:], ends[:-1], strict=True)
    ]
    dome = _arc(0, drop, 1, -180, 0, 18) * (1, 0.86) + (0, 0.14 * drop)
    canopy = Part(np.concatenate([dome, *scallops[::-1]]), BODY)
    panels = [Part(np.concatenate([_poly((0, drop - 0.84)), scallops[k]]), ACCENT) for k in (0, 2)]
    return (shaft, hook, tip, canopy, *panels)


SHAPES: dict[str, Callable[[np.random.Generator], Shape]] = {
    "car": car,
    "fish": fish,
    "house": house,
    "key": key,
    "mug": mug,
    "star": star,
    "tree": tree,
    "umbrella": umbrella,
}


def clutter(rng: np.random.Generator) -> Shape:
    """A shape of no class: a blob, a stick, or a polygon of three to six corners."""
    kind = rng.integers(3)
    if kind == 0:
        turn = np.linspace(0, 2 * np.pi, 25)[:-1]
        swell = 1 + 0.25 * np.sin(2 * turn + rng.uniform(0, 6)) + 0.15 * np.sin(3 * turn + rng.uniform(0, 6))
        return (Part(_CIRCLE * swell[:, None], BODY),)
    if kind == 1:
        half = rng.uniform(0.03, 0.1)
        return (Part(_rect(-1, -half, 1, half), BODY),)
    corners = int(rng.integers(3, 7))
    turn = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
    points: Points = np.stack([np.cos(turn), rng.uniform(0.4, 1) * np.sin(turn)], axis=1)
    return (Part(points, BODY), Part(points * 0.5, ACCENT))
