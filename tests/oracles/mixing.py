"""Slow, literal forms of mixing: one pixel, one box at a time, from the equations alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Box = tuple[int, int, int, int]


def common_canvas(shapes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Supplement A: dimensions equal to the maximum height and width of the original images."""
    return max(h for h, _ in shapes), max(w for _, w in shapes)


def placed_pixel(image: np.ndarray, height: int, width: int, y: int, x: int) -> np.ndarray | None:
    """The pixel of ``image`` (3, h, w), centre-aligned on (height, width), at (y, x); None where it does not reach."""
    _, h, w = image.shape
    y, x = y - (height - h) // 2, x - (width - w) // 2
    return image[:, y, x] if 0 <= y < h and 0 <= x < w else None


def per_pixel(height: int, width: int, pixel: Callable[[int, int], np.ndarray | None]) -> np.ndarray:
    out = np.zeros((3, height, width))
    for y in range(height):
        for x in range(width):
            value = pixel(y, x)
            if value is not None:
                out[:, y, x] = value
    return out


def blend(first: np.ndarray, second: np.ndarray, lam: float) -> np.ndarray:
    """Eq. 5: x = lam x_i + (1 - lam) x_j, zeros where an image does not reach."""
    height, width = common_canvas([first.shape[1:], second.shape[1:]])
    black = np.zeros(3)

    def pixel(y: int, x: int) -> np.ndarray:
        a, b = (placed_pixel(image, height, width, y, x) for image in (first, second))
        return lam * (black if a is None else a) + (1 - lam) * (black if b is None else b)

    return per_pixel(height, width, pixel)


def owners(images: Sequence[np.ndarray], belongs: Callable[[int, int], int]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels where ``belongs`` says which image each comes from, and whose pixel it is (-1: nobody's, black)."""
    height, width = common_canvas([image.shape[1:] for image in images])
    owner = np.full((height, width), -1)

    def pixel(y: int, x: int) -> np.ndarray | None:
        value = placed_pixel(images[belongs(y, x)], height, width, y, x)
        owner[y, x] = -1 if value is None else belongs(y, x)
        return value

    return per_pixel(height, width, pixel), owner


def paste(first: np.ndarray, second: np.ndarray, rectangle: Box) -> tuple[np.ndarray, np.ndarray]:
    """CutMix: the second image's pixels inside the rectangle, where it has any; else the first's."""
    x1, y1, x2, y2 = rectangle
    height, width = common_canvas([first.shape[1:], second.shape[1:]])

    def belongs(y: int, x: int) -> int:
        inside = x1 <= x < x2 and y1 <= y < y2
        return int(inside and placed_pixel(second, height, width, y, x) is not None)

    return owners((first, second), belongs)


def mosaic(images: Sequence[np.ndarray], centre_x: int, centre_y: int) -> tuple[np.ndarray, np.ndarray]:
    """Four images, one a tile around the centre."""
    return owners(images, lambda y, x: 2 * int(y >= centre_y) + int(x >= centre_x))


def seen_box(box: Box, visible: np.ndarray) -> tuple[int, Box | None]:
    """How many pixels of an integer box are visible (H, W), and their bounding box."""
    x1, y1, x2, y2 = box
    height, width = visible.shape
    seen = [
        (x, y) for y in range(y1, y2) for x in range(x1, x2) if 0 <= y < height and 0 <= x < width and visible[y, x]
    ]
    if not seen:
        return 0, None
    xs, ys = [x for x, _ in seen], [y for _, y in seen]
    return len(seen), (min(xs), min(ys), max(xs) + 1, max(ys) + 1)


def soft_cross_entropy(logits: np.ndarray, target: np.ndarray) -> float:
    """-sum y log f(x), eq. 9, for one sample (C,)."""
    shifted = logits - logits.max()
    return float(-(target * (shifted - np.log(np.exp(shifted).sum()))).sum())


def soft_binary_cross_entropy(logits: np.ndarray, target: np.ndarray) -> float:
    """The mean over classes of -y log p - (1 - y) log(1 - p), for one sample (C,)."""
    p = 1 / (1 + np.exp(-logits))
    return float(-(target * np.log(p) + (1 - target) * np.log(1 - p)).mean())
