"""Slow, literal forms of MUM's mixing: one tile at a time, from section 3.2 and what the authors' code does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Borders = Sequence[int]
From = Callable[[int, int, int], int]  # (mixed image, tile row, tile column) -> the image the tile comes from


def aligned_borders(side: int, num_tiles: int, stride: int) -> list[int]:
    """Pixels at which a side is cut: the nearest multiples of the stride, halves up; equal ones are one."""
    cells = side // stride
    return sorted({stride * int(i * cells / num_tiles + 0.5) for i in range(num_tiles + 1)})


def equal_borders(side: int, num_tiles: int) -> list[int]:
    assert side % num_tiles == 0
    return [i * side // num_tiles for i in range(num_tiles + 1)]


def mix(images: Tensor, rows: Borders, columns: Borders, source: From) -> Tensor:
    out = torch.full_like(images, torch.nan)
    for b in range(len(images)):
        for r in range(len(rows) - 1):
            for c in range(len(columns) - 1):
                tile = (..., slice(rows[r], rows[r + 1]), slice(columns[c], columns[c + 1]))
                out[b][tile] = images[source(b, r, c)][tile]
    return out


def unmix(mixed: Tensor, rows: Borders, columns: Borders, source: From) -> Tensor:
    out = torch.full_like(mixed, torch.nan)
    for b in range(len(mixed)):
        for r in range(len(rows) - 1):
            for c in range(len(columns) - 1):
                tile = (..., slice(rows[r], rows[r + 1]), slice(columns[c], columns[c + 1]))
                out[source(b, r, c)][tile] = mixed[b][tile]
    return out


def reference_unmix(mixed: Tensor, num_tiles: int, source: From) -> Tensor:
    """The authors' code: a map that does not divide is resized to the floor multiple, permuted and resized back."""
    height, width = mixed.shape[-2:]
    if height % num_tiles == 0 and width % num_tiles == 0:
        return unmix(mixed, equal_borders(height, num_tiles), equal_borders(width, num_tiles), source)
    even = [side // num_tiles * num_tiles or num_tiles for side in (height, width)]
    x = F.interpolate(mixed, size=even, mode="bilinear", align_corners=False)
    x = unmix(x, equal_borders(even[0], num_tiles), equal_borders(even[1], num_tiles), source)
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
