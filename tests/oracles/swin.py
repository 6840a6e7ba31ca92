"""A slow, literal form of attention within windows (Liu et al. 2021, section 3.2): one set of neighbours at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def window_attention(attention: nn.Module, x: Tensor, window: int, shift: int) -> Tensor:
    """(h, w, C) -> (h, w, C). Cells attend to those of their window and to nothing else.

    Windows are cut at ``shift``, ``shift + window``, ...; the map is continued with zeros up to a multiple of
    ``window``, and a window that a border of that canvas cuts is as large as what is left of it.

    Args:
        attention: with ``qkv``, ``proj``, ``num_heads`` and ``relative_position_bias_table``, one row for each
            offset (dy, dx), dy first.
        x: the map.
        window: side of a window.
        shift: where the first cut is.
    """
    height, width, channels = x.shape
    rows, columns = (-(-side // window) * window for side in (height, width))
    canvas = x.new_zeros(rows, columns, channels)
    canvas[:height, :width] = x
    windows: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for r in range(rows):
        for c in range(columns):
            windows.setdefault(((r - shift) // window, (c - shift) // window), []).append((r, c))
    out = torch.full_like(canvas, torch.nan)
    for cells in windows.values():
        here = torch.stack([canvas[cell] for cell in cells])
        query, key, value = attention.qkv(here).chunk(3, dim=-1)
        offsets = [[(r - s + window - 1) * (2 * window - 1) + c - d + window - 1 for s, d in cells] for r, c in cells]
        bias = attention.relative_position_bias_table[torch.tensor(offsets)]  # (cells, cells, heads)
        heads = []
        for head in range(attention.num_heads):
            part = slice(head * channels // attention.num_heads, (head + 1) * channels // attention.num_heads)
            size = part.stop - part.start
            logits = query[:, part] @ key[:, part].T / size**0.5 + bias[:, :, head]
            heads.append(logits.softmax(dim=1) @ value[:, part])
        for cell, found in zip(cells, attention.proj(torch.cat(heads, dim=-1)), strict=True):
            out[cell] = found
    return out[:height, :width]
