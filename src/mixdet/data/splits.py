"""Which images of a data set keep their labels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mixdet.data.check import nearest
from mixdet.data.dataset import DetectionDataset
from mixdet.data.images import quoted
from mixdet.errors import MixdetError

SplitRule = Literal["cover", "uniform"]


def labeled_subset(
    dataset: DetectionDataset,
    *,
    seed: int,
    fraction: float | None = None,
    count: int | None = None,
    rule: SplitRule = "cover",
) -> NDArray[np.int64]:
    """Images to label: first a few that show every class, the others uniform without replacement.

    The order is that of a hash of (seed, image name), so a split depends neither on the order of the file nor on the
    version of a random number generator or the process that asks, and of two splits with one seed the smaller is part
    of the larger. The images that cover the classes are taken greedily, the one with most classes not yet seen next.
    Classes without any box (ignored ones do not count) are not asked for.

    Args:
        dataset: N images.
        seed: of the hash.
        fraction: share of the N images, in (0, 1], rounded to at least one image. Either this or ``count``.
        count: number of images, in [1, N].
        rule: "cover" as above; "uniform": uniform among the images that have a box, ``fraction`` of those rounded down,
            as in COCO-Standard (Unbiased Teacher's lists), where a rare class may be missing.

    Returns:
        (n,) positions, ascending.

    Raises:
        MixdetError: if the share or number is out of range, or too small to show every class.
    """
    if (fraction is None) == (count is None):
        raise ValueError("labeled_subset: give either fraction or count")
    with_boxes = set(dataset.image_index[~dataset.ignored].tolist())
    if fraction is not None:
        if not 0 < fraction <= 1:
            raise MixdetError(f"{dataset.name}: fraction = {fraction}: must be in (0, 1]")
        exact = fraction * len(with_boxes) + 1e-9  # 0.29 of 100 is a little less than 29 in binary
        count = max(1, int(exact) if rule == "uniform" else round(fraction * len(dataset)))
    if count is None or not 1 <= count <= len(dataset):
        there = len(dataset)
        raise MixdetError(
            f"{dataset.name}: {count} labelled images were asked for; it has {there}: ask for 1 to {there}"
        )
    order = _shuffled(dataset, seed)
    if rule == "uniform":
        order = [i for i in order if i in with_boxes]
        if count > len(order):
            raise MixdetError(f"{dataset.name}: count = {count}: only {len(order)} images have a box")
    cover = _cover(dataset, order) if rule == "cover" else []
    if len(cover) > count:
        raise MixdetError(
            f"{dataset.name}: {count} labelled images cannot show all classes that have boxes; "
            f"ask for at least {len(cover)}"
        )
    taken = set(cover)
    rest = [i for i in order if i not in taken]
    return np.array(sorted(cover + rest[: count - len(cover)]), np.int64)


def held_out(
    dataset: DetectionDataset,
    taken: NDArray[np.int64],
    *,
    seed: int,
    fraction: float | None = None,
    count: int | None = None,
) -> NDArray[np.int64]:
    """Images to validate on, uniform without replacement among those that are not ``taken``.

    They come from the end of the hash order that labelled images are drawn from the beginning of: a larger labelled
    split of the same seed, drawn by the rule "cover", keeps them, as long as there are enough others.

    Args:
        dataset: N images.
        taken: positions of the labelled ones.
        seed: of the hash, as in ``labeled_subset``.
        fraction: share of the N images, rounded to at least one image. Either this or ``count``.
        count: number of images.

    Returns:
        (n,) positions, ascending.

    Raises:
        MixdetError: if there are not so many.
    """
    if (fraction is None) == (count is None):
        raise ValueError("held_out: give either fraction or count")
    wanted = max(1, round(fraction * len(dataset))) if fraction is not None else count
    known = set(taken.tolist())
    rest = [i for i in _shuffled(dataset, seed) if i not in known]
    if wanted is None or wanted > len(rest):
        raise MixdetError(
            f"{dataset.name}: {len(known)} of {len(dataset)} images are labelled ones for training, which leaves "
            f"{len(rest)}, and {wanted} are asked for to validate on; ask for fewer of either"
        )
    return np.array(sorted(rest[len(rest) - wanted :]), np.int64)


def folds_of(dataset: DetectionDataset, folds: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(kept, held out) positions of each of ``folds`` parts, every image held out once; the order is a seed's hash.

    Raises:
        MixdetError: one fold, or more than images.
    """
    if folds == 0:
        return []
    if not 2 <= folds <= len(dataset):
        raise MixdetError(f"{dataset.name}: folds = {folds}: must be 0 or in [2, {len(dataset)}], the number of images")
    order = np.array(_shuffled(dataset, seed), np.int64)
    parts = [np.sort(order[number::folds]) for number in range(folds)]
    return [(np.setdiff1d(order, held), held) for held in parts]


def select_files(dataset: DetectionDataset, names: Sequence[str]) -> NDArray[np.int64]:
    """Positions of the images called ``names``, in that order.

    Args:
        dataset: whose ``images.name(i)`` is looked up.
        names: each at most once.

    Returns:
        (n,) positions.

    Raises:
        MixdetError: for an unknown name (with the nearest one) or a repeated one.
    """
    known = {dataset.images.name(i): i for i in range(len(dataset))}
    positions: dict[str, int] = {}
    for name in names:
        if name not in known:
            alike = nearest(name, known)
            hint = f"did you mean {quoted(alike)}?" if alike else f"its names look like {quoted(next(iter(known), ''))}"
            raise MixdetError(f"{dataset.name}: has no image {quoted(repr(name))}; {hint}")
        if name in positions:
            raise MixdetError(f"{dataset.name}: image {quoted(repr(name))} is named twice; name it once")
        positions[name] = known[name]
    return np.fromiter(positions.values(), np.int64, len(positions))


def _shuffled(dataset: DetectionDataset, seed: int) -> list[int]:
    return sorted(range(len(dataset)), key=lambda i: _key(seed, dataset.images.name(i)))


def _key(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{name}".encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _cover(dataset: DetectionDataset, order: Sequence[int]) -> list[int]:
    """Few images that show every class between them; among equals the first in ``order``."""
    shown = np.zeros((len(dataset), len(dataset.classes)), bool)
    real = ~dataset.ignored
    shown[dataset.image_index[real], dataset.labels[real]] = True
    shown = shown[list(order)]
    missing = shown.any(axis=0)
    cover = []
    while missing.any():
        best = int((shown & missing).sum(axis=1).argmax())
        cover.append(order[best])
        missing &= ~shown[best]
    return cover
