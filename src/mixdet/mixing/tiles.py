"""Mix image tiles, un-mix feature tiles (MUM).

Kim et al., "MUM: Mix Image Tiles and UnMix Feature Tiles for Semi-Supervised Object Detection", section 3.2: every
image of a group is cut into tiles; at each tile position the group's images swap tiles by a permutation of their own;
what a network makes of the mixed images is put back by the inverse permutations.

Borders lie on cells of the coarsest convolutional stride, so that un-mixing any level down to that stride is the exact
inverse for every padded size and every number of tiles. The authors cut equal tiles and resize the levels that do not
divide: ``mode="reference"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from mixdet.structures import Detector, Features, Staged

TileMode = Literal["aligned", "reference"]
NECK, BACKBONE = "neck", "backbone"


@dataclass(frozen=True, eq=False)
class Tiles:
    """Where the tiles of a batch of B mixed images come from.

    Attributes:
        source: (B, R, C) int64; cell (r, c) of mixed image b comes from image ``source[b, r, c]``. Cells are those of
            the coarsest stride (aligned) or the tiles themselves (reference).
        inverse: (B, R, C) int64; cell (r, c) of image b went to mixed image ``inverse[b, r, c]``.
        mode: "aligned": a map whose sides are no multiples of R and C is refused; "reference": it is resized
            bilinearly to the next smaller multiple, and back.
    """

    source: Tensor
    inverse: Tensor
    mode: TileMode = "aligned"

    def to(self, device: torch.device | str) -> Tiles:
        return Tiles(self.source.to(device), self.inverse.to(device), self.mode)


def draw_tiles(
    shape: Sequence[int],
    group_size: int = 4,
    num_tiles: int = 4,
    generator: torch.Generator | None = None,
    *,
    stride: int = 32,
    mode: TileMode = "aligned",
    device: torch.device | str = "cpu",
) -> Tiles:
    """Draw who swaps which tile with whom: a permutation of its own for each tile position and group.

    Args:
        shape: (B, ..., H, W) of the padded images.
        group_size: N_G, images that swap tiles; groups are consecutive images, the last may be smaller, and an image
            alone keeps its tiles.
        num_tiles: N_T, tiles along each side; where there are fewer cells, one tile a cell.
        generator: CPU generator; None for the global one.
        stride: coarsest stride at which features are un-mixed; H and W are multiples of it. "aligned" cuts at cells
            floor(i h / N_T + 1/2), h = H / stride.
        mode: "aligned", or "reference" for the authors' N_T equal tiles.
        device: where the maps go.

    Raises:
        ValueError: numbers below 1, an unknown mode, or sides that are no multiples of ``stride``.
    """
    batch, height, width = shape[0], shape[-2], shape[-1]
    if group_size < 1 or num_tiles < 1:
        raise ValueError(f"draw_tiles: group_size {group_size} and num_tiles {num_tiles} must be at least 1")
    if mode not in get_args(TileMode):
        raise ValueError(f"draw_tiles: mode {mode!r} is not one of {', '.join(get_args(TileMode))}")
    if mode == "aligned" and (height % stride or width % stride):
        raise ValueError(f"draw_tiles: {height} x {width} images are no multiples of stride {stride}")
    permutations = torch.cat(
        [
            first + torch.rand(min(group_size, batch - first), num_tiles, num_tiles, generator=generator).argsort(dim=0)
            for first in range(0, batch, group_size)
        ]
    )  # (B, N_T, N_T)
    inverse = permutations.argsort(dim=0)
    if mode == "aligned":
        rows, columns = (_tile_of_cell(side, num_tiles, stride) for side in (height, width))
        permutations, inverse = (p[:, rows[:, None], columns] for p in (permutations, inverse))  # (B, h, w)
    return Tiles(permutations.to(device), inverse.to(device), mode)


def mix_tiles(images: Tensor, tiles: Tiles) -> Tensor:
    """(B, C, H, W) mixed images: each tile used once and at its own place (MUM, section 3.2; m in Algorithm 1)."""
    return _moved(images, tiles.source, tiles.inverse, tiles.mode)


def unmix_tiles(feature: Tensor, tiles: Tiles) -> Tensor:
    """(B, C, h, w) features of the images that were mixed, from those of the mixed ones (u in Algorithm 1).

    Args:
        feature: a level of the mixed canvas.
        tiles: that the images were mixed by.

    Raises:
        ValueError: a level finer or coarser than ``tiles`` can tell apart.
    """
    return _moved(feature, tiles.inverse, tiles.source, tiles.mode)


@dataclass(frozen=True)
class TileMix:
    """MUM's augmentation: what to draw, and where in a network to un-mix.

    Attributes:
        group_size: N_G.
        num_tiles: N_T.
        p: chance that a batch is mixed at all; one draw a batch.
        unmix_at: "neck": each level of the FPN (the paper's released runs); "backbone": the body's outputs, before the
            FPN; or the name of a stage of the body: what later stages and the FPN read is un-mixed.
        mode: of ``draw_tiles``.
    """

    group_size: int = 4
    num_tiles: int = 4
    p: float = 1.0
    unmix_at: str = NECK
    mode: TileMode = "aligned"

    def draw(self, shape: Sequence[int], stride: int, generator: torch.Generator) -> Tiles | None:
        """Tiles for (B, ..., H, W) images, on the CPU; None where this batch stays unmixed."""
        mixed = float(torch.rand((), generator=generator)) < self.p
        tiles = draw_tiles(shape, self.group_size, self.num_tiles, generator, stride=stride, mode=self.mode)
        return tiles if mixed else None

    def features(self, detector: Detector, images: Tensor, generator: torch.Generator) -> Features:
        """Features of (B, 3, H, W) ``images`` as ``detector`` sees them in mixed tiles: u(f_b(m(images)))."""
        tiles = self.draw(images.shape, detector.stride, generator)
        if tiles is None:
            return detector.features(images)
        tiles = tiles.to(images.device)
        return unmixed_features(detector, mix_tiles(images, tiles), tiles, self.unmix_at)


def unmixed_features(detector: Detector, mixed: Tensor, tiles: Tiles, unmix_at: str = NECK) -> Features:
    """Features of the images in ``mixed``, un-mixed on the way.

    Args:
        detector: whose ``features`` are taken; tapped between its stages (``Staged``) unless ``unmix_at`` is "neck".
        mixed: (B, 3, H, W) from ``mix_tiles``.
        tiles: that it was mixed by.
        unmix_at: as in ``TileMix``.

    Raises:
        ValueError: no such place, or a detector without stages.
    """
    if unmix_at == NECK:
        return {name: unmix_tiles(level, tiles) for name, level in detector.features(mixed).items()}
    if not isinstance(detector, Staged):
        raise ValueError(f"unmix_at: {unmix_at!r} needs a detector with stages, not {type(detector).__name__}")
    if unmix_at not in (BACKBONE, *detector.stages):
        raise ValueError(f"unmix_at: {unmix_at!r} is not one of {', '.join((NECK, BACKBONE, *detector.stages))}")
    last = len(detector.stages) - 1 if unmix_at == BACKBONE else list(detector.stages).index(unmix_at)
    x, maps = detector.normalize(mixed), {}
    for index, name in enumerate(detector.stages):
        x = detector.stage(name, x)
        maps[name] = unmix_tiles(x, tiles) if index <= last else x  # the neck reads stages before ``unmix_at`` too
        if index == last:
            x = maps[name]
    return detector.neck(maps)


class _Move(torch.autograd.Function):
    """(B, C, h, w) -> the same, each cell from another image of the batch; its backward is the inverse move."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, source: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(source, inverse)
        return _gather(x, source)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        source, inverse = ctx.saved_tensors
        return _Move.apply(gradients[0], inverse, source), None, None


def _gather(x: Tensor, source: Tensor) -> Tensor:
    """One gather on cells, with the index expanded, not stored: (B, h, w) numbers for (B, C, H, W)."""
    batch, channels, height, width = x.shape
    rows, columns = source.shape[1:]
    cells = x.reshape(batch, channels, rows, height // rows, columns, width // columns)
    index = source[:, None, :, None, :, None].expand_as(cells)
    return cells.gather(0, index).view(batch, channels, height, width)


def _moved(x: Tensor, source: Tensor, inverse: Tensor, mode: TileMode) -> Tensor:
    size, grid = tuple(x.shape[-2:]), tuple(source.shape[1:])
    if len(x) != len(source):
        raise ValueError(f"tiles of {len(source)} images do not fit {len(x)}")
    if size[0] % grid[0] == 0 and size[1] % grid[1] == 0:
        return _Move.apply(x, source, inverse)  # type: ignore[no-any-return]
    if mode == "aligned":
        raise ValueError(
            f"a map of {size[0]} x {size[1]} cannot be cut into {grid[0]} x {grid[1]} cells; un-mix finer levels and "
            "derive this one from them"
        )
    even = [max(side // cells, 1) * cells for side, cells in zip(size, grid, strict=True)]
    resized = F.interpolate(x, even, mode="bilinear", align_corners=False)
    moved: Tensor = _Move.apply(resized, source, inverse)
    return F.interpolate(moved, size, mode="bilinear", align_corners=False)


def tile_borders(side: int, num_tiles: int, stride: int = 32, mode: TileMode = "aligned") -> list[int]:
    """Pixels at which a side of ``side`` pixels is cut, 0 and ``side`` included; equal cuts are one.

    "aligned": multiples of ``stride``, the cells floor(i h / num_tiles + 1/2) of h = side / stride. "reference": equal.
    """
    if mode == "reference":
        return sorted({i * side // num_tiles for i in range(num_tiles + 1)})
    cells = side // stride
    return sorted({stride * ((2 * i * cells + num_tiles) // (2 * num_tiles)) for i in range(num_tiles + 1)})


def _tile_of_cell(side: int, num_tiles: int, stride: int) -> Tensor:
    """(side / stride,) the tile each cell is in."""
    inner = torch.tensor(tile_borders(side, num_tiles, stride)[1:-1], dtype=torch.int64)
    return torch.bucketize(torch.arange(0, side, stride), inner, right=True)
