"""Batches as they leave a worker: bytes and flat arrays, which travel fast; and how examples become one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mixdet.data import opencv
from mixdet.data.strong import Drawn, stacked
from mixdet.errors import MixdetError
from mixdet.structures import Batch, Instances, Views


class PackedImages(NamedTuple):
    """Images in one geometry, as they leave a worker: bytes and flat arrays.

    Attributes:
        images: (B, H, W, 3) uint8, a pixel's channels side by side as in files; zero-padded.
        sizes: (B, 2) int64 valid (height, width).
        affines: (B, 3, 3).
        names: of the images.
        counts: instances of each image, or None for an unlabelled stream.
        boxes, labels, ignored: of all instances in order.
    """

    images: Tensor
    sizes: Tensor
    affines: Tensor
    names: list[str]
    counts: list[int] | None
    boxes: Tensor
    labels: Tensor
    ignored: Tensor

    def to_batch(self, device: torch.device | str, pad_colour: Tensor) -> Batch:
        """On ``device``, in [0, 1], with ``pad_colour`` beyond each image."""
        sizes = self.sizes.to(device, non_blocking=True)
        images = opencv.planes(self.images.to(device, non_blocking=True)).float().div_(255)
        colour = pad_colour.to(device)[:, None, None]
        for image, (height, width) in zip(images, self.sizes.tolist(), strict=True):
            image[:, height:] = colour
            image[:, :, width:] = colour
        instances = None
        if self.counts is not None:
            parts = zip(
                *(torch.split(t.to(device), self.counts) for t in (self.boxes, self.labels, self.ignored)), strict=True
            )
            instances = [Instances(boxes, labels, ignored=ignored) for boxes, labels, ignored in parts]
        ids = tuple(frozenset({name}) for name in self.names)
        return Batch(images, sizes, instances, None, self.affines.to(device), ids, pad_colour.to(device))  # type: ignore[arg-type]


class PackedBatch(NamedTuple):
    """The views of a batch as they leave a worker.

    Attributes:
        weak: the weak view.
        own: by name, the views of another geometry, and those that were drawn already (``changed_on_cpu``).
        drawn: by name, what is still to be done to each view beside the weak one.
    """

    weak: PackedImages
    own: dict[str, PackedImages]
    drawn: dict[str, Drawn]

    def to_views(self, device: torch.device | str, pad_colour: Tensor) -> Views:
        """The weak view and those drawn from it or beside it, as ``PackedImages.to_batch``."""
        packed = self.changed_on_cpu() if torch.device(device).type == "cpu" else self
        weak = packed.weak.to_batch(device, pad_colour)
        views = {name: own.to_batch(device, pad_colour) for name, own in packed.own.items()}
        views |= {name: drawn.apply(views.get(name, weak)) for name, drawn in packed.drawn.items()}
        return Views(weak=weak, **{name: views[name] for name in self.drawn})

    def changed_on_cpu(self) -> PackedBatch:
        """With those views among ``own``, as bytes, that are drawn so on a CPU; the rest is left in ``drawn``."""
        own, left = dict(self.own), {}
        for name, drawn in self.drawn.items():
            base = self.own.get(name, self.weak)
            images = drawn.apply_to_bytes(base.images, base.sizes)
            if images is None:
                left[name] = drawn
            else:
                own[name] = base._replace(images=images)
        return PackedBatch(self.weak, own, left)


class Seen(NamedTuple):
    """One image in one geometry: pixels, annotations or None, and the (3, 3) affine from the original."""

    image: Tensor
    instances: Instances | None
    affine: Tensor


class Example(NamedTuple):
    """One image as a worker reads it: the weak view, those of a geometry of their own, and what was drawn for each."""

    name: str
    weak: Seen
    own: dict[str, Seen]
    drawn: dict[str, Drawn]


class Collate:
    """Examples -> ``PackedBatch`` on the smallest canvas that is a multiple of ``stride``; a fault is handed on."""

    def __init__(self, stride: int) -> None:
        self.stride = stride

    def __call__(self, read: list[Example | MixdetError]) -> PackedBatch | MixdetError:
        examples: list[Example] = []
        for example in read:
            if isinstance(example, MixdetError):
                return example
            examples.append(example)
        names = [example.name for example in examples]
        own = {name: self._packed(names, [e.own[name] for e in examples]) for name in examples[0].own}
        drawn = {name: stacked([e.drawn[name] for e in examples]) for name in examples[0].drawn}
        return PackedBatch(self._packed(names, [e.weak for e in examples]), own, drawn)

    def _packed(self, names: list[str], seen: list[Seen]) -> PackedImages:
        sizes = torch.tensor([one.image.shape[-2:] for one in seen])
        height, width = (int(-(-side // self.stride) * self.stride) for side in sizes.amax(0).tolist())
        images = torch.empty(len(seen), height, width, 3, dtype=torch.uint8)
        for canvas, one in zip(images, seen, strict=True):
            _, own_height, own_width = one.image.shape
            canvas[:own_height, :own_width] = one.image.permute(1, 2, 0)
            canvas[own_height:] = 0
            canvas[:, own_width:] = 0
        labelled = [one.instances for one in seen if one.instances is not None]
        merged = Instances.concat(labelled) if labelled else Instances.empty()
        return PackedImages(
            images,
            sizes,
            torch.stack([one.affine for one in seen]),
            names,
            [len(i) for i in labelled] if labelled else None,
            merged.boxes,
            merged.labels,
            merged.ignored,
        )
