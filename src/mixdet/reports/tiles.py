"""How many tiles an object lies in: MUM's N_O (supplement B, Table 8), and the N_T that keeps it in range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixdet.data.dataset import DetectionDataset
from mixdet.errors import MixdetError

RANGE = (1.2, 2.5)
"""N_O that helps, as the paper found it on COCO: below, images are hardly mixed; above, objects are torn apart."""
SIZES = {
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, float("inf")),
    "all": (0, float("inf")),
}
"""Areas in pixels of the original image, as COCO groups them."""


@dataclass(frozen=True)
class TilesPerObject:
    """N_O of a data set.

    Attributes:
        num_tiles: the N_T looked at.
        counts: objects of each size.
        means: size -> N_O for each of ``num_tiles``; NaN where there is no such object.
    """

    num_tiles: tuple[int, ...]
    counts: dict[str, int]
    means: dict[str, tuple[float, ...]]

    def fitting(self, size: str) -> tuple[int, ...]:
        """The N_T that keep the N_O of objects of ``size`` within ``RANGE``."""
        return tuple(
            n for n, mean in zip(self.num_tiles, self.means[size], strict=True) if RANGE[0] <= mean <= RANGE[1]
        )


def tiles_per_object(dataset: DetectionDataset, num_tiles: Sequence[int]) -> TilesPerObject:
    """N_O by object size, for each N_T; crowd boxes are left out.

    Tiles are equal parts of the image, so that N_O does not change when the image is resized.

    Raises:
        MixdetError: more tiles along a side than an image has pixels.
    """
    if len(dataset) and max(num_tiles) > (most := int(dataset.sizes.max())):
        raise MixdetError(f"num_tiles = {max(num_tiles)}: the largest image is {most} pixels long; cut it into fewer")
    real = ~dataset.crowd
    boxes, areas = dataset.boxes[real].astype(np.float64), dataset.areas[real]
    sizes = dataset.sizes[dataset.image_index[real]].astype(np.float64)
    groups = {name: (areas >= low) & (areas < high) for name, (low, high) in SIZES.items()}
    touched = [tiles_touched(boxes, sizes, n) for n in num_tiles]
    return TilesPerObject(
        tuple(num_tiles),
        {name: int(group.sum()) for name, group in groups.items()},
        {
            name: tuple(float(t[group].mean()) if group.any() else float("nan") for t in touched)
            for name, group in groups.items()
        },
    )


def tiles_touched(boxes: NDArray[np.float64], sizes: NDArray[np.float64], num_tiles: int) -> NDArray[np.int64]:
    """(M,) tiles that each box lies in.

    Args:
        boxes: (M, 4) xyxy inside their images.
        sizes: (M, 2) (height, width) of the image of each.
        num_tiles: N_T, equal tiles along each side.
    """
    limits = sizes[:, ::-1]
    first = np.floor(boxes[:, :2] * num_tiles / limits).astype(np.int64)
    last = np.ceil(boxes[:, 2:] * num_tiles / limits).astype(np.int64) - 1
    touched: NDArray[np.int64] = (np.maximum(last, first) - first + 1).prod(axis=1)
    return touched
