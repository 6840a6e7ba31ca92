"""Where images go when they are mixed: blend (mixup), paste (CutMix) and mosaic.

All three place every image centre-aligned, at ((H-h)//2, (W-w)//2), on the *common canvas*, whose height and width are
the largest of the images mixed (LossMix, supplement A). What an image does not reach is black. A layout is made of
host integers only: pixels and boxes are moved afterwards, for the whole batch at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Size = tuple[int, int]  # height, width
Rect = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels of the common canvas

EMPTY: Rect = (0, 0, 0, 0)


@dataclass(frozen=True)
class Piece:
    """One image's place in a mixed one.

    Attributes:
        dx: how far its pixels and boxes move to the right.
        dy: and down.
        share: how much of the mixed image it makes up: lam or 1 - lam.
        window: the rectangle in which it is seen.
        hole: a rectangle in which another piece covers it.
        cut: whether its boxes are cut to what is seen of them: the window less the hole.
    """

    dx: int
    dy: int
    share: float
    window: Rect
    hole: Rect = EMPTY
    cut: bool = False


@dataclass(frozen=True)
class Layout:
    """The common canvas (height, width) of one mixed image and its pieces, the first image first."""

    height: int
    width: int
    pieces: tuple[Piece, ...]

    @property
    def full(self) -> bool:
        """Whether every piece fills the canvas."""
        return all(piece.window == (0, 0, self.width, self.height) for piece in self.pieces)


def alone(size: Size) -> Layout:
    """An image that is left as it is."""
    return Layout(*size, (_centred(size, *size, 1.0),))


def blend(sizes: Sequence[Size], lam: float, cut: Sequence[float]) -> Layout:
    """Mixup: x = lam * x_i + (1 - lam) * x_j (LossMix, eq. 4); ``cut`` is not looked at."""
    height, width = _common(sizes)
    first, second = sizes
    return Layout(height, width, (_centred(first, height, width, lam), _centred(second, height, width, 1.0 - lam)))


def paste(sizes: Sequence[Size], lam: float, cut: Sequence[float]) -> Layout:
    """CutMix: the rectangle ``cut`` of the second image over the first.

    The rectangle is clipped to where the second image has pixels. Shares are counted pixels, not ``lam``: the visible
    part of the rectangle over the canvas for the second image, the rest for the first.
    """
    height, width = _common(sizes)
    first, second = (_centred(size, height, width, 0.0) for size in sizes)
    x1, y1, x2, y2 = cut
    rectangle = (round(x1 * width), round(y1 * height), round(x2 * width), round(y2 * height))
    seen = _intersection(rectangle, second.window)
    share = _area(seen) / (height * width)
    first, second = (
        replace(first, share=1.0 - share, hole=seen, cut=True),
        replace(second, share=share, window=seen, cut=True),
    )
    return Layout(height, width, (first, second))


def mosaic(sizes: Sequence[Size], lam: float, cut: Sequence[float]) -> Layout:
    """Four images, each seen in one of the 2x2 tiles around a centre: ``cut`` is the first, top left, tile.

    Tiles go left to right, then down. Shares are the tiles' parts of the canvas; ``lam`` is not looked at.
    """
    height, width = _common(sizes)
    x, y = round(cut[2] * width), round(cut[3] * height)
    tiles = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    pieces = []
    for size, tile in zip(sizes, tiles, strict=True):
        piece = _centred(size, height, width, _area(tile) / (height * width))
        pieces.append(replace(piece, window=_intersection(tile, piece.window), cut=True))
    return Layout(height, width, tuple(pieces))


def _no_cuts(lam: Tensor, generator: torch.Generator) -> Tensor:
    return torch.zeros(len(lam), 4)


def _rectangles(lam: Tensor, generator: torch.Generator) -> Tensor:
    """Rectangles (B, 4) of area 1 - lam around a centre drawn anywhere, clipped to the canvas (CutMix)."""
    centre = torch.rand(len(lam), 2, generator=generator)
    half = ((1 - lam).sqrt() / 2)[:, None]
    return torch.cat([centre - half, centre + half], 1).clamp(0, 1)


def _first_tiles(lam: Tensor, generator: torch.Generator) -> Tensor:
    """Top left tiles (B, 4): the centre is drawn from the middle half of either side."""
    centre = 0.25 + 0.5 * torch.rand(len(lam), 2, generator=generator)
    return torch.cat([torch.zeros_like(centre), centre], 1)


def _add(canvas: Tensor, pixels: Tensor, share: float) -> None:
    canvas.add_(pixels, alpha=share)


def _cover(canvas: Tensor, pixels: Tensor, share: float) -> None:
    canvas.copy_(pixels)


@dataclass(frozen=True)
class Input:
    """One way to mix pixels.

    Attributes:
        layout: (sizes of the images mixed, lam, cut) -> where each goes.
        draw_cuts: (lam (B,), generator) -> cuts (B, 4) float32 xyxy relative to the common canvas, so that one draw
            serves views of different size.
        partners: how many other images an image is mixed with.
        write: (canvas, pixels, share): how pixels get onto what is there already, in place.
        opaque: whether pieces hide each other.
    """

    layout: Callable[[Sequence[Size], float, Sequence[float]], Layout]
    draw_cuts: Callable[[Tensor, torch.Generator], Tensor]
    partners: int
    write: Callable[[Tensor, Tensor, float], None]
    opaque: bool


INPUTS: dict[str, Input] = {
    "blend": Input(blend, _no_cuts, partners=1, write=_add, opaque=False),
    "paste": Input(paste, _rectangles, partners=1, write=_cover, opaque=True),
    "mosaic": Input(mosaic, _first_tiles, partners=3, write=_cover, opaque=True),
}


def _common(sizes: Sequence[Size]) -> Size:
    return max(height for height, _ in sizes), max(width for _, width in sizes)


def _centred(size: Size, height: int, width: int, share: float) -> Piece:
    dy, dx = (height - size[0]) // 2, (width - size[1]) // 2
    return Piece(dx, dy, share, (dx, dy, dx + size[1], dy + size[0]))


def _intersection(first: Rect, second: Rect) -> Rect:
    x1, y1 = max(first[0], second[0]), max(first[1], second[1])
    x2, y2 = min(first[2], second[2]), min(first[3], second[3])
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else EMPTY


def _area(rectangle: Rect) -> int:
    x1, y1, x2, y2 = rectangle
    return (x2 - x1) * (y2 - y1)
