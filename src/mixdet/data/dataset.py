"""A whole data set in a dozen arrays: what every reader produces and every loader reads.

Annotations are kept packed, not as Python objects: a list of dicts costs gigabytes once every worker process has
touched its reference counts, and travels slowly to spawned workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mixdet.structures import Instances

Policy = Literal["keep", "drop", "ignore"]

_SHAPES = {
    "category_ids": (("K",), np.int64),
    "image_ids": (("N",), np.int64),
    "sizes": (("N", 2), np.int32),
    "offsets": (("N+1",), np.int64),
    "boxes": (("M", 4), np.float32),
    "labels": (("M",), np.int64),
    "areas": (("M",), np.float32),
    "crowd": (("M",), np.bool_),
    "difficult": (("M",), np.bool_),
    "ignored": (("M",), np.bool_),
}
_ANNOTATIONS = ("boxes", "labels", "areas", "crowd", "difficult", "ignored")


class ImageSource(Protocol):
    """Where pixels come from. Must pickle small: it travels to every worker process."""

    def __len__(self) -> int: ...

    def read(self, i: int) -> Tensor:
        """(3, H, W) uint8 RGB, as displayed."""
        ...

    def name(self, i: int) -> str:
        """Unique and readable: a file name where there is a file."""
        ...


@dataclass(frozen=True, eq=False)
class SelectedImages:
    """The images of ``source`` at ``indices`` (int64), in that order."""

    source: ImageSource
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, i: int) -> Tensor:
        return self.source.read(int(self.indices[i]))

    def name(self, i: int) -> str:
        return self.source.name(int(self.indices[i]))


@dataclass(frozen=True, eq=False, repr=False)
class DetectionDataset:
    """N images of K classes with M annotations, sorted by image; images without annotations are ordinary members.

    Attributes:
        name: short, readable; used in messages.
        images: the N images.
        classes: K names; label k is ``classes[k]``.
        category_ids: (K,) int64, the ids the files use, for export.
        image_ids: (N,) int64, the ids the files use, for export.
        sizes: (N, 2) int32, (height, width) as displayed.
        offsets: (N + 1,) int64; annotations ``offsets[i]:offsets[i + 1]`` belong to image i.
        boxes: (M, 4) float32, absolute-pixel xyxy.
        labels: (M,) int64 in [0, K).
        areas: (M,) float32, square pixels (of the mask where the files say so, else of the box).
        crowd: (M,) bool, as annotated, whatever the policy; evaluation reads it.
        difficult: (M,) bool, as annotated, whatever the policy; evaluation reads it.
        ignored: (M,) bool: never positive in training. Readers set it for crowd and difficult annotations.
        notes: what a reader repaired or found odd, one line each, for the log.
    """

    name: str
    images: ImageSource
    classes: tuple[str, ...]
    category_ids: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    sizes: NDArray[np.int32]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    areas: NDArray[np.float32]
    crowd: NDArray[np.bool_]
    difficult: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n, m, k = len(self.images), len(self.labels), len(self.classes)
        lengths: dict[str | int, int] = {"K": k, "N": n, "N+1": n + 1, "M": m, 2: 2, 4: 4}
        for field, (dims, dtype) in _SHAPES.items():
            array, shape = getattr(self, field), tuple(lengths[d] for d in dims)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"{self.name}: {field} is {array.dtype}{array.shape}, expected {np.dtype(dtype)}{shape} "
                    f"for {n} images, {k} classes and {m} annotations"
                )
        if self.offsets[0] != 0 or self.offsets[-1] != m or (np.diff(self.offsets) < 0).any():
            raise ValueError(f"{self.name}: offsets must ascend from 0 to {m}")
        if ((self.labels < 0) | (self.labels >= k)).any():
            raise ValueError(f"{self.name}: labels must lie in [0, {k})")

    @classmethod
    def from_rows(
        cls,
        name: str,
        images: ImageSource,
        classes: Sequence[str],
        *,
        sizes: ArrayLike,
        image_index: ArrayLike,
        boxes: ArrayLike,
        labels: ArrayLike,
        category_ids: ArrayLike | None = None,
        image_ids: ArrayLike | None = None,
        areas: ArrayLike | None = None,
        crowd: ArrayLike | None = None,
        difficult: ArrayLike | None = None,
        notes: Sequence[str] = (),
    ) -> DetectionDataset:
        """From one row an annotation, in any order of images; the order within an image is kept.

        Args:
            name: as in the class, like every argument not listed here.
            images: N images.
            classes: K names.
            sizes: (N, 2) (height, width).
            image_index: (M,) the position in [0, N) of each annotation's image.
            boxes: (M, 4) xyxy.
            labels: (M,) in [0, K).
            category_ids: (K,); 1..K if not given.
            image_ids: (N,); 1..N if not given.
            areas: (M,); the boxes' areas if not given.
            crowd: (M,); none if not given. Crowd and difficult annotations are ``ignored``.
            difficult: (M,); none if not given.
        """
        index = np.asarray(image_index, np.int64).reshape(-1)
        order = np.argsort(index, kind="stable")
        box = np.asarray(boxes, np.float32).reshape(-1, 4)
        if areas is None:
            areas = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        is_crowd = np.zeros(len(index), bool) if crowd is None else np.asarray(crowd, bool)
        is_difficult = np.zeros(len(index), bool) if difficult is None else np.asarray(difficult, bool)
        counts = np.bincount(index, minlength=len(images))
        return cls(
            name,
            images,
            tuple(classes),
            np.asarray(np.arange(1, len(classes) + 1) if category_ids is None else category_ids, np.int64),
            np.asarray(np.arange(1, len(images) + 1) if image_ids is None else image_ids, np.int64),
            np.asarray(sizes, np.int32).reshape(-1, 2),
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            box[order],
            np.asarray(labels, np.int64).reshape(-1)[order],
            np.asarray(areas, np.float32).reshape(-1)[order],
            is_crowd[order],
            is_difficult[order],
            (is_crowd | is_difficult)[order],
            tuple(notes),
        )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return (
            f"DetectionDataset({self.name}: {len(self)} images, {len(self.labels)} boxes, {len(self.classes)} classes)"
        )

    def image(self, i: int) -> Tensor:
        """(3, H, W) uint8 RGB of image ``i``, as displayed."""
        return self.images.read(self._position(i))

    def instances(self, i: int) -> Instances:
        """The annotations of image ``i``, on the CPU, in the pixels of ``image(i)``."""
        i = self._position(i)
        rows = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        return Instances(
            torch.from_numpy(self.boxes[rows].copy()),
            torch.from_numpy(self.labels[rows].copy()),
            ignored=torch.from_numpy(self.ignored[rows].copy()),
        )

    @property
    def image_index(self) -> NDArray[np.int64]:
        """(M,) the position of each annotation's image."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    def boxes_an_image(self) -> NDArray[np.float64]:
        """(K,) mean number of boxes an image of each class, without ignored ones."""
        return np.bincount(self.labels[~self.ignored], minlength=len(self.classes)) / len(self)

    def subset(self, indices: Sequence[int] | NDArray[np.int64] | Tensor) -> DetectionDataset:
        """The images at ``indices`` (positions in [0, N), each at most once), in that order; classes are kept."""
        at = np.asarray(indices, np.int64).reshape(-1)
        if ((at < 0) | (at >= len(self))).any():
            raise IndexError(f"{self.name}: subset positions must lie in [0, {len(self)}), got {at.min()}..{at.max()}")
        if len(np.unique(at)) != len(at):
            raise ValueError(f"{self.name}: subset positions repeat; names and ids would no longer be unique")
        images = SelectedImages(self.images, at)
        if isinstance(self.images, SelectedImages):  # a subset of a subset reads from the whole
            images = SelectedImages(self.images.source, self.images.indices[at])
        counts = np.diff(self.offsets)[at]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][at] - offsets[:-1], counts)
        return replace(
            self,
            images=images,
            image_ids=self.image_ids[at],
            sizes=self.sizes[at],
            offsets=offsets,
            **{field: getattr(self, field)[rows] for field in _ANNOTATIONS},
        )

    def with_policy(self, *, crowd: Policy, difficult: Policy) -> DetectionDataset:
        """What training sees of crowd and of difficult annotations; sets ``ignored`` anew, keeps both raw flags.

        Args:
            crowd: "keep" as normal instances, "drop" the annotations, or "ignore": kept, but ``ignored``.
            difficult: likewise. An annotation that is both follows the stricter one: drop, then ignore.

        Returns:
            The data set under this policy. Dropped annotations are gone: start from the one that was read.
        """
        for field, policy in (("crowd", crowd), ("difficult", difficult)):
            if policy not in get_args(Policy):
                raise ValueError(f"{field}: {policy!r} is not one of {', '.join(get_args(Policy))}")
        kept, ignored = np.ones(len(self.labels), bool), np.zeros(len(self.labels), bool)
        for flag, policy in ((self.crowd, crowd), (self.difficult, difficult)):
            if policy == "drop":
                kept &= ~flag
            elif policy == "ignore":
                ignored |= flag
        counts = np.bincount(self.image_index[kept], minlength=len(self))
        return replace(
            self,
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            **{field: getattr(self, field)[kept] for field in _ANNOTATIONS if field != "ignored"},
            ignored=ignored[kept],
        )

    def fingerprint(self) -> str:
        """Tells whether a data set has changed: a hash of names, sizes, boxes, labels and flags (not of pixels)."""
        digest = hashlib.blake2b(digest_size=12)
        for name in self.classes:
            digest.update(name.encode() + b"\0")
        for i in range(len(self)):
            digest.update(self.images.name(i).encode("utf-8", "surrogateescape") + b"\0")
        for array in (self.sizes, self.offsets, self.boxes, self.labels, self.ignored):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _position(self, i: int) -> int:
        if not 0 <= i < len(self):
            raise IndexError(f"{self.name}: image {i} of {len(self)}")
        return int(i)
