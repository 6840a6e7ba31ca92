"""Swin-T (Liu et al. 2021, "Swin Transformer"), as a body for images of any size.

timm's parts and parameter names, but not its attention step: a map whose sides are no multiples of the window is padded
*before* it is shifted. timm pads the shifted map, and its mask then misses the seam where the shift wraps around: the
top row of a 128-pixel image attends to the bottom row.
"""

from __future__ import annotations

from typing import ClassVar

import timm
import torch
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from mixdet.detectors.bodies import NORM_EPS, Body

WINDOW, SHIFT = 7, 3  # cells; every second block shifts its windows
DROP_PATH = 0.2  # of the last block, growing linearly from 0 at the first; while training only
FORBIDDEN = -100.0  # added to the logits of cells that lie together only because the shift wrapped around


class SwinTinyBody(Body):
    """timm's ``swin_tiny_patch4_window7_224`` without its head, parameter names unchanged: depths 2, 2, 6, 2.

    Each output has a layer norm on its way to the pyramid (``level_norms``); no pretrained weights hold them.
    """

    stages: ClassVar = {
        "stem": ("patch_embed",),
        "stride4": ("layers.0",),
        "stride8": ("layers.1",),
        "stride16": ("layers.2",),
        "stride32": ("layers.3",),
    }
    level_norms: ClassVar = True
    channels = (96, 192, 384, 768)
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self) -> None:
        super().__init__()
        network = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, drop_path_rate=DROP_PATH)
        self.patch_embed = nn.Sequential()
        self.patch_embed.add_module("proj", network.get_submodule("patch_embed.proj"))
        self.patch_embed.add_module("norm", LayerNorm2d(self.channels[0], eps=NORM_EPS))
        self.layers = nn.ModuleList(SwinStage(stage) for stage in network.get_submodule("layers").children())


class SwinStage(nn.Module):
    """Patches merged two by two (not in the first stage), then blocks that attend within windows, plain and shifted.

    Args:
        stage: timm's, whose parts are taken over.
    """

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.downsample = stage.get_submodule("downsample")
        blocks = stage.get_submodule("blocks").children()
        self.blocks = nn.ModuleList(SwinBlock(block, shift=SHIFT * (i % 2)) for i, block in enumerate(blocks))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h', w'); channels come last within."""
        x = self.downsample(x.permute(0, 2, 3, 1))
        seams = window_seams(x.shape[1], x.shape[2], x.device)
        for block in self.blocks:
            x = block(x, seams)
        return x.permute(0, 3, 1, 2)


class SwinBlock(nn.Module):
    """Attention within windows and a perceptron, each added to what it read.

    Args:
        block: timm's, whose parts are taken over.
        shift: cells by which windows are shifted.
    """

    def __init__(self, block: nn.Module, shift: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.drop_path1 = (block.get_submodule(n) for n in ("norm1", "attn", "drop_path1"))
        self.norm2, self.mlp, self.drop_path2 = (block.get_submodule(n) for n in ("norm2", "mlp", "drop_path2"))
        self.shift = shift

    def forward(self, x: Tensor, seams: Tensor) -> Tensor:
        """(B, h, w, C) -> the same; ``seams`` from ``window_seams``."""
        x = x + self.drop_path1(self.attended(self.norm1(x), seams))
        added: Tensor = self.drop_path2(self.mlp(self.norm2(x)))
        return x + added

    def attended(self, x: Tensor, seams: Tensor) -> Tensor:
        """(B, h, w, C) -> the same; cells beyond the map, up to a multiple of the window, are zeros."""
        _, height, width, channels = x.shape
        x = F.pad(x, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
        padded = x.roll((-self.shift, -self.shift), (1, 2))
        found: Tensor = self.attn(windows_of(padded), seams if self.shift else None)  # (B windows, 49, C)
        rows, columns = padded.shape[1] // WINDOW, padded.shape[2] // WINDOW
        found = found.view(-1, rows, columns, WINDOW, WINDOW, channels).transpose(2, 3).reshape(padded.shape)
        return found.roll((self.shift, self.shift), (1, 2))[:, :height, :width]


def windows_of(x: Tensor) -> Tensor:
    """(B, h, w, C), sides multiples of 7 -> (B * windows, 49, C), windows row by row."""
    batch, height, width, channels = x.shape
    cut = x.reshape(batch, height // WINDOW, WINDOW, width // WINDOW, WINDOW, channels)
    return cut.transpose(2, 3).reshape(-1, WINDOW * WINDOW, channels)


def window_seams(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """(windows, 49, 49) to add to the attention of a shifted map of ``height`` x ``width`` cells.

    ``FORBIDDEN`` between cells that were not neighbours before the shift, 0 elsewhere.
    """
    rows, columns = (_parts(side, device) for side in (height, width))
    parts = windows_of((3 * rows[:, None] + columns)[None, :, :, None])[..., 0]  # (windows, 49)
    return FORBIDDEN * (parts[:, :, None] != parts[:, None, :]).float()


def _parts(side: int, device: torch.device | str) -> Tensor:
    """For each cell of a padded and shifted side: 0, or 1 in the last window, or 2 where that has wrapped around."""
    padded = side + -side % WINDOW
    cells = torch.arange(padded, device=device)
    return (cells >= padded - WINDOW).long() + (cells >= padded - SHIFT).long()
