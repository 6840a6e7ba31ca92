"""A batch of images with what is annotated in them. A mixed batch is a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mixdet.structures.instances import Instances


@dataclass(frozen=True, eq=False)
class Batch:
    """B images on one canvas, with their annotations.

    Attributes:
        images: (B, 3, H, W) float32 in [0, 1], padded at the bottom and right to a multiple of the detector's stride
            with ``pad_colour``.
        sizes: (B, 2) int64, the valid (height, width) of each image.
        instances: one ``Instances`` an image, or None for unlabelled images.
        weights: (B,) image weights; ones if not given.
        affines: (B, 3, 3) original pixels -> view pixels, or None once images have been mixed.
        ids: for each image the set of source images in it; how an image mixed with itself is recognised.
        pad_colour: (3,) colour of the padding: the detector's mean, so that padding normalises to zero.
    """

    images: Tensor
    sizes: Tensor
    instances: list[Instances] | None
    weights: Tensor = None  # type: ignore[assignment]  # filled in __post_init__
    affines: Tensor | None = None
    ids: tuple[frozenset[str], ...] = ()
    pad_colour: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        count = len(self.images)
        if self.images.dim() != 4 or self.sizes.shape != (count, 2):
            raise ValueError(f"Batch: images {tuple(self.images.shape)} and sizes {tuple(self.sizes.shape)} disagree")
        if self.instances is not None and len(self.instances) != count:
            raise ValueError(f"Batch: {count} images but instances for {len(self.instances)}")
        if self.weights is None:
            object.__setattr__(self, "weights", self.images.new_ones(count))
        if not self.ids:
            object.__setattr__(self, "ids", tuple(frozenset({f"#{i}"}) for i in range(count)))
        if self.pad_colour is None:
            object.__setattr__(self, "pad_colour", self.images.new_zeros(3))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def canvas(self) -> tuple[int, int]:
        """(H, W) of the padded canvas."""
        return self.images.shape[-2], self.images.shape[-1]

    @property
    def labels(self) -> list[Instances]:
        """``instances``, for code that cannot go on without them."""
        if self.instances is None:
            raise ValueError("this batch is unlabelled (instances is None): give it with_instances first")
        return self.instances

    def with_instances(self, instances: list[Instances] | None) -> Batch:
        return replace(self, instances=instances)

    def with_weights(self, weights: Tensor) -> Batch:
        return replace(self, weights=weights)

    def select(self, index: Sequence[int] | Tensor) -> Batch:
        """The images at ``index`` (int positions, in that order; repeats allowed), on the same canvas."""
        positions = [int(i) for i in index]
        at = torch.tensor(positions, dtype=torch.int64, device=self.images.device)
        return Batch(
            self.images[at],
            self.sizes[at],
            None if self.instances is None else [self.instances[i] for i in positions],
            self.weights[at],
            None if self.affines is None else self.affines[at],
            tuple(self.ids[i] for i in positions),
            self.pad_colour,
        )

    def on_canvas(self, height: int, width: int) -> Batch:
        """The same images on a canvas at least as large."""
        if (height, width) == self.canvas:
            return self
        images = self.pad_colour.view(1, 3, 1, 1).expand(len(self), 3, height, width).contiguous()
        images[:, :, : self.canvas[0], : self.canvas[1]] = self.images
        return replace(self, images=images)

    def to(self, device: torch.device | str) -> Batch:
        return Batch(
            self.images.to(device),
            self.sizes.to(device),
            None if self.instances is None else [i.to(device) for i in self.instances],
            self.weights.to(device),
            None if self.affines is None else self.affines.to(device),
            self.ids,
            self.pad_colour.to(device),
        )

    @staticmethod
    def concat(batches: Sequence[Batch]) -> Batch:
        """All images of ``batches`` in order, on the smallest canvas that holds them; all labelled or none."""
        height, width = (max(sides) for sides in zip(*(b.canvas for b in batches), strict=True))
        placed = [b.on_canvas(height, width) for b in batches]
        labelled = [b.instances is not None for b in batches]
        if any(labelled) and not all(labelled):
            raise ValueError("Batch.concat: labelled and unlabelled batches do not go together")
        affines = [b.affines for b in placed]
        return Batch(
            torch.cat([b.images for b in placed]),
            torch.cat([b.sizes for b in placed]),
            [i for b in placed for i in b.labels] if all(labelled) else None,
            torch.cat([b.weights for b in placed]),
            torch.cat([a for a in affines if a is not None]) if all(a is not None for a in affines) else None,
            tuple(i for b in placed for i in b.ids),
            placed[0].pad_colour,
        )


class Views(Mapping[str, Batch]):
    """Views of the same images by name, also as attributes: ``views.weak``, ``views.strong``."""

    def __init__(self, **views: Batch) -> None:
        self._views = dict(views)

    def __getitem__(self, name: str) -> Batch:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def joined(self, names: Sequence[str]) -> Batch:
        """The views called ``names``, one after the other, as one batch."""
        return self[names[0]] if len(names) == 1 else Batch.concat([self[name] for name in names])

    def __getattr__(self, name: str) -> Batch:
        views: dict[str, Batch] = self.__dict__.get("_views", {})
        if name not in views:
            raise AttributeError(f"no view {name!r}; this stream has {sorted(views)}")
        return views[name]
