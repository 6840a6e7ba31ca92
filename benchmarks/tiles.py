"""Un-mixing feature tiles against a gather with an index of every element (the way of MUM's code)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.harness import Row, interleaved, milliseconds
from mixdet.mixing import draw_tiles, mix_tiles, unmix_tiles

CANVASES = ((480, 736), (800, 1344))
STRIDES = (4, 8, 16, 32)
IMAGES, CHANNELS, TILES = 4, 64, 4


def levels(height: int, width: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.rand(IMAGES, CHANNELS, height // s, width // s, generator=generator, requires_grad=True) for s in STRIDES
    ]


def full_index(source: Tensor, level: Tensor) -> Tensor:
    """(B, C, h, w) int64 from (B, H / 32, W / 32): each cell's number repeated over its pixels and channels."""
    scale = level.shape[-2] // source.shape[-2]
    cells = source.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    return cells[:, None].repeat(1, CHANNELS, 1, 1)


def rows(rounds: int | None) -> Iterator[Row]:
    for height, width in CANVASES:
        maps = levels(height, width)
        tiles = draw_tiles((IMAGES, 3, height, width), IMAGES, TILES, torch.Generator().manual_seed(0))
        gradients = [torch.ones_like(m) for m in maps]

        def ours(maps=maps, gradients=gradients, tiles=tiles) -> None:
            torch.autograd.grad([unmix_tiles(m, tiles) for m in maps], maps, gradients)

        def theirs(maps=maps, gradients=gradients, tiles=tiles) -> None:
            torch.autograd.grad([m.gather(0, full_index(tiles.inverse, m)) for m in maps], maps, gradients)

        with torch.no_grad():
            for m in maps:
                assert torch.equal(unmix_tiles(m, tiles), m.gather(0, full_index(tiles.inverse, m)))
            off = max(float((unmix_tiles(mix_tiles(m, tiles), tiles) - m).abs().max()) for m in maps)
        ratios, a, b = interleaved(ours, theirs, rounds or 9)
        note = f"{milliseconds(a, b)}; p2 to p5, {CHANNELS} channels"
        yield Row(f"un-mixing, forward and backward / full-index gather, {height} x {width}", ratios, 0.80, note=note)
        share = (tiles.source.nbytes + tiles.inverse.nbytes) / sum(m.nbytes for m in maps)
        yield Row(f"index bytes / feature bytes, {height} x {width}", (share,), 0.01, note=f"round trip off by {off:g}")
