"""Streams: endless, sharded batches, the same for any number of workers and processes."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mixdet.data.dataset import DetectionDataset
from mixdet.data.geometry import WeakView
from mixdet.data.photometric import Photometric, StrongView
from mixdet.data.plan import BatchPlan, aspect_groups, class_balanced
from mixdet.errors import MixdetError
from mixdet.structures import Batch, Instances, Views, keyed_generator, keyed_seed


class PackedBatch(NamedTuple):
    """A batch as it leaves a worker: bytes and flat arrays.

    Attributes:
        images: (B, 3, H, W) uint8, zero-padded.
        sizes: (B, 2) int64 valid (height, width).
        affines: (B, 3, 3).
        names: of the images.
        counts: instances of each image, or None for an unlabelled stream.
        boxes, labels, ignored: of all instances in order.
        photometric: what was drawn for each view that shares this one's geometry.
    """

    images: Tensor
    sizes: Tensor
    affines: Tensor
    names: list[str]
    counts: list[int] | None
    boxes: Tensor
    labels: Tensor
    ignored: Tensor
    photometric: dict[str, Photometric]

    def to_views(self, device: torch.device | str, pad_colour: Tensor) -> Views:
        """The weak view and those drawn from it, as ``to_batch``."""
        weak = self.to_batch(device, pad_colour)
        return Views(weak=weak, **{name: drawn.apply(weak) for name, drawn in self.photometric.items()})

    def to_batch(self, device: torch.device | str, pad_colour: Tensor) -> Batch:
        """On ``device``, in [0, 1], with ``pad_colour`` beyond each image."""
        sizes = self.sizes.to(device, non_blocking=True)
        images = self.images.to(device, non_blocking=True).float() / 255
        height, width = images.shape[-2:]
        if bool((self.sizes != torch.tensor([height, width])).any()):
            rows = torch.arange(height, device=device)[None, :, None] >= sizes[:, 0, None, None]  # (B, H, 1)
            columns = torch.arange(width, device=device)[None, None, :] >= sizes[:, 1, None, None]
            images = torch.where((rows | columns)[:, None], pad_colour.to(device)[None, :, None, None], images)
        instances = None
        if self.counts is not None:
            parts = zip(
                *(torch.split(t.to(device), self.counts) for t in (self.boxes, self.labels, self.ignored)), strict=True
            )
            instances = [Instances(boxes, labels, ignored=ignored) for boxes, labels, ignored in parts]
        ids = tuple(frozenset({name}) for name in self.names)
        return Batch(images, sizes, instances, None, self.affines.to(device), ids, pad_colour.to(device))  # type: ignore[arg-type]


class Example(NamedTuple):
    """One image as a worker reads it: its weak view, and what was drawn for the others."""

    image: Tensor
    instances: Instances | None
    affine: Tensor
    name: str
    photometric: dict[str, Photometric]


class ViewedImages(Dataset[Example | MixdetError]):
    """Position of a stream -> views of its image; all randomness keyed by the position."""

    def __init__(
        self,
        dataset: DetectionDataset,
        view: WeakView,
        labeled: bool,
        seed: int,
        strong: Mapping[str, StrongView] = MappingProxyType({}),
    ) -> None:
        self.dataset = dataset
        self.view = view
        self.labeled = labeled
        self.seed = seed
        self.strong = dict(strong)

    def __getitem__(self, key: tuple[int, int]) -> Example | MixdetError:
        """Views of one image, or why there are none; ``key`` is (position in the stream, index in the data set)."""
        position, index = key
        instances = self.dataset.instances(index) if self.labeled else None
        generator = keyed_generator(self.seed, position)
        try:
            image = self.dataset.image(index)
        except MixdetError as fault:  # raised in a worker it would arrive as the text of a traceback
            return fault
        image, instances, affine = self.view(image, instances, generator)
        drawn = {
            name: strong.draw(image.shape[1], image.shape[2], keyed_generator(self.seed, name, position))
            for name, strong in self.strong.items()
        }
        return Example(image, instances, affine, self.dataset.images.name(index), drawn)


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
        sizes = torch.tensor([example.image.shape[-2:] for example in examples])
        height, width = (int(-(-side // self.stride) * self.stride) for side in sizes.amax(0).tolist())
        images = torch.zeros(len(examples), 3, height, width, dtype=torch.uint8)
        for canvas, example in zip(images, examples, strict=True):
            canvas[:, : example.image.shape[1], : example.image.shape[2]] = example.image
        labelled = [example.instances for example in examples if example.instances is not None]
        merged = Instances.concat(labelled) if labelled else Instances.empty()
        return PackedBatch(
            images,
            sizes,
            torch.stack([example.affine for example in examples]),
            [example.name for example in examples],
            [len(i) for i in labelled] if labelled else None,
            merged.boxes,
            merged.labels,
            merged.ignored,
            {name: Photometric.stack([e.photometric[name] for e in examples]) for name in examples[0].photometric},
        )


class ShardSampler(Sampler[list[tuple[int, int]]]):
    """Keys of the batches of one process: its shards of every step, from ``start`` on, without end."""

    def __init__(self, plan: BatchPlan, shards: int, own: range, start: int) -> None:
        self.plan = plan
        self.shards = shards
        self.own = own
        self.start = start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step, size = self.start, self.plan.batch_size
        while True:
            for shard in self.own:
                number = step * self.shards + shard
                yield [(number * size + offset, index) for offset, index in enumerate(self.plan.batch(number))]
            step += 1


def stream_batches(
    dataset: DetectionDataset,
    view: WeakView,
    *,
    name: str,
    labeled: bool,
    strong: Mapping[str, StrongView] = MappingProxyType({}),
    batch_size: int,
    shards: int,
    own_shards: range,
    start: int,
    stride: int,
    seed: int,
    aspect_grouping: bool = True,
    balanced: bool = False,
    workers: int = 0,
) -> Iterator[PackedBatch]:
    """An endless stream of shards: one ``PackedBatch`` for each of ``own_shards`` of each step.

    Image and augmentation of position p are functions of (seed, name, p): neither workers, nor processes, nor where a
    run was interrupted changes them.

    Args:
        dataset: what is read; annotations only if ``labeled``.
        view: the weak view.
        name: of the stream; part of every key.
        labeled: whether annotations are read.
        strong: further views, drawn from the weak one.
        batch_size: images a step, over all shards.
        shards: how many shards a step is cut into.
        own_shards: those of this process.
        start: first step.
        stride: canvas sides are multiples of it.
        seed: of the run.
        aspect_grouping: landscape and portrait images in batches of their own.
        balanced: images of rare classes more often (``class_balanced``).
        workers: loader processes; 0 reads in this one.
    """
    size = batch_size // shards
    indices = class_balanced(dataset) if balanced else np.arange(len(dataset))
    groups: list[NDArray[np.int64]] = aspect_groups(dataset.sizes, size, indices) if aspect_grouping else [indices]
    plan = BatchPlan(groups, size, keyed_seed(seed, name, "plan"))
    loader = DataLoader(
        ViewedImages(dataset, view, labeled, keyed_seed(seed, name, "view"), strong),
        batch_sampler=ShardSampler(plan, shards, own_shards, start),
        collate_fn=Collate(stride),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_leave_at_once,
    )
    return _batches(loader)


def evaluation_batches(
    dataset: DetectionDataset, view: WeakView, *, batch_size: int, stride: int, workers: int = 0
) -> Iterator[PackedBatch]:
    """All images of ``dataset`` once, in order, without annotations."""
    keys = [[(i, i) for i in range(s, min(s + batch_size, len(dataset)))] for s in range(0, len(dataset), batch_size)]
    loader = DataLoader(
        ViewedImages(dataset, view, labeled=False, seed=0),
        batch_sampler=keys,
        collate_fn=Collate(stride),
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_leave_at_once,
    )
    return _batches(loader)


def _leave_at_once(worker: int) -> None:
    """End this worker, when its time comes, as a forked one ends: without taking the interpreter down.

    A stream has no end, so a worker is always stopped while a thread of it sends the next batch. An interpreter that
    finalizes kills that thread inside of PyTorch's C++ code, which up to Python 3.13 can abort the process.
    """
    atexit.register(os._exit, 0)


def _batches(loader: DataLoader[Example | MixdetError]) -> Iterator[PackedBatch]:
    """What the loader makes.

    Raises:
        MixdetError: an image that cannot be read.
    """
    for batch in loader:
        if isinstance(batch, MixdetError):
            raise batch
        yield batch
