"""Which images make up batch n of an endless stream: a function of n, with no queue and nothing dropped."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mixdet.data.dataset import DetectionDataset
from mixdet.structures import keyed_seed


class BatchPlan:
    """Batches of an endless, shuffled stream.

    Each group of images (landscape and portrait, say) is shuffled anew every epoch and read as one endless sequence
    that is cut into batches, so that a batch may straddle two epochs of its group. The batches that an epoch completes
    are shuffled among each other.

    Args:
        groups: dataset indices of each group; none empty. An index that stands there twice is read twice an epoch.
        batch_size: images a batch.
        seed: of all shuffles.
    """

    def __init__(self, groups: list[NDArray[np.int64]], batch_size: int, seed: int) -> None:
        self.groups = groups
        self.batch_size = batch_size
        self.seed = seed
        self._permutation = lru_cache(maxsize=4 * len(groups))(self._permute)
        self._order = lru_cache(maxsize=2)(self._order_epoch)

    def batch(self, number: int) -> list[int]:
        """Dataset indices of batch ``number`` (0, 1, ...)."""
        epoch = self._epoch_of(number)
        group, nth = self._order(epoch)[number - self._batches_before(epoch)]
        size = len(self.groups[group])
        positions = range(nth * self.batch_size, (nth + 1) * self.batch_size)
        return [int(self._permutation(group, p // size)[p % size]) for p in positions]

    def _batches_before(self, epoch: int) -> int:
        return sum(epoch * len(group) // self.batch_size for group in self.groups)

    def _epoch_of(self, number: int) -> int:
        low, high = 0, (number + 1) * self.batch_size + 1  # an epoch completes at least 1 / batch_size of a batch
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._batches_before(middle) <= number else (low, middle)
        return low

    def _order_epoch(self, epoch: int) -> list[tuple[int, int]]:
        batches = [
            (index, nth)
            for index, group in enumerate(self.groups)
            for nth in range(epoch * len(group) // self.batch_size, (epoch + 1) * len(group) // self.batch_size)
        ]
        order = np.random.default_rng(keyed_seed(self.seed, "order", epoch)).permutation(len(batches))
        return [batches[i] for i in order]

    def _permute(self, group: int, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng(keyed_seed(self.seed, "group", group, epoch))
        return rng.permutation(self.groups[group])


def aspect_groups(
    sizes: NDArray[np.int32], batch_size: int, indices: NDArray[np.int64] | None = None
) -> list[NDArray[np.int64]]:
    """Landscape and portrait images apart, so that a canvas fits them; one group if either would not fill a batch.

    Args:
        sizes: (N, 2) height and width of each image.
        batch_size: images a batch.
        indices: positions in [0, N) to group, repeats allowed; all of them if not given.
    """
    indices = np.arange(len(sizes)) if indices is None else indices
    landscape = sizes[indices, 1] > sizes[indices, 0]
    groups = [indices[landscape], indices[~landscape]]
    if min(len(group) for group in groups) < batch_size:
        return [indices]
    return groups


def class_balanced(dataset: DetectionDataset) -> NDArray[np.int64]:
    """Positions of all images, those of rare classes several times (Gupta et al. 2019, LVIS: repeat factor sampling).

    Image i comes max over its classes c of sqrt(f_max / f_c) times, rounded, where f_c is the share of the images that
    show c; images without boxes come once. LVIS compares with a threshold where we compare with the most common class.
    """
    shown = np.zeros((len(dataset), len(dataset.classes)), bool)
    real = ~dataset.ignored
    shown[dataset.image_index[real], dataset.labels[real]] = True
    share = shown.mean(axis=0)
    factor = np.sqrt(share.max(initial=0) / np.where(share > 0, share, 1))
    repeats = np.where(shown, factor, 1.0).max(axis=1, initial=1.0).round().astype(np.int64)
    return np.repeat(np.arange(len(dataset)), repeats)
