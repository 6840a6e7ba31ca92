"""Streams: endless, sharded batches, the same for any number of workers and processes."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import get_all_start_methods
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from mixdet.data.dataset import DetectionDataset
from mixdet.data.geometry import WeakView
from mixdet.data.packing import Collate, Example, PackedBatch, Seen
from mixdet.data.plan import BatchPlan, aspect_groups, class_balanced
from mixdet.data.strong import StrongView
from mixdet.errors import MixdetError
from mixdet.structures import keyed_generator, keyed_seed


class ViewedImages(Dataset[Example | MixdetError]):
    """Position of a stream -> views of its image; all randomness keyed by the position."""

    def __init__(
        self,
        dataset: DetectionDataset,
        view: WeakView,
        labeled: bool,
        seed: int,
        strong: Mapping[str, StrongView] = MappingProxyType({}),
        substitute: bool = False,
    ) -> None:
        self.dataset = dataset
        self.view = view
        self.labeled = labeled
        self.seed = seed
        self.strong = dict(strong)
        self.substitute = substitute
        self.unreadable: set[int] = set()

    def __getitem__(self, key: tuple[int, int]) -> Example | MixdetError:
        """Views of one image, or why there are none; ``key`` is (position in the stream, index in the data set).

        With ``substitute`` the next image that is readable stands in for one that is not, and a line on stderr says so.
        """
        position, index = key
        found = self._viewed(position, index)
        if isinstance(found, Example) or not self.substitute:
            return found
        if index not in self.unreadable:
            self.unreadable.add(index)
            print(f"mixdet: {found}; another unlabelled image stands in for it", file=sys.stderr)
        others = (self._viewed(position, (index + n) % len(self.dataset)) for n in range(1, len(self.dataset)))
        return next((other for other in others if isinstance(other, Example)), found)

    def _viewed(self, position: int, index: int) -> Example | MixdetError:
        instances = self.dataset.instances(index) if self.labeled else None
        try:
            image = self.dataset.image(index)
        except MixdetError as fault:  # raised in a worker it would arrive as the text of a traceback
            return fault
        weak = Seen(*self.view(image, instances, keyed_generator(self.seed, position)))
        own = {
            name: Seen(*strong.geometry(image, instances, keyed_generator(self.seed, name, "geometry", position)))
            for name, strong in self.strong.items()
            if strong.geometry is not None
        }
        drawn = {}
        for name, strong in self.strong.items():
            height, width = own.get(name, weak).image.shape[1:]
            drawn[name] = strong.augmentation.draw(height, width, keyed_generator(self.seed, name, position))
        return Example(self.dataset.images.name(index), weak, own, drawn)


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


WorkerStart = Literal["spawn", "fork"]


@dataclass(frozen=True)
class Workers:
    """Processes that read images, for each process that uses them. They change no batch.

    Attributes:
        count: how many; 0 reads in the process that asks.
        start: "spawn" works everywhere; "fork" starts at once, but not on Windows, and a lock that another thread holds
            at that moment is never opened in the worker.
    """

    count: int = 0
    start: WorkerStart = "spawn"

    def __post_init__(self) -> None:
        if self.start not in get_all_start_methods():
            raise MixdetError(f"data.worker_start: this platform has no {self.start!r}; use spawn")

    def settings(self) -> dict[str, Any]:
        """Of a ``DataLoader``."""
        if self.count == 0:
            return {}
        return {"num_workers": self.count, "multiprocessing_context": self.start, "worker_init_fn": _leave_at_once}


HERE = Workers()


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
    workers: Workers = HERE,
) -> Iterator[PackedBatch]:
    """An endless stream of shards: one ``PackedBatch`` for each of ``own_shards`` of each step.

    Image and augmentation of position p are functions of (seed, name, p): neither workers, nor processes, nor where a
    run was interrupted changes them.

    Args:
        dataset: what is read; annotations only if ``labeled``.
        view: the weak view.
        name: of the stream; part of every key.
        labeled: whether annotations are read.
        strong: further views by name.
        batch_size: images a step, over all shards.
        shards: how many shards a step is cut into.
        own_shards: those of this process.
        start: first step.
        stride: canvas sides are multiples of it.
        seed: of the run.
        aspect_grouping: landscape and portrait images in batches of their own.
        balanced: images of rare classes more often (``class_balanced``).
        workers: loader processes.
    """
    size = batch_size // shards
    indices = class_balanced(dataset) if balanced else np.arange(len(dataset))
    groups: list[NDArray[np.int64]] = aspect_groups(dataset.sizes, size, indices) if aspect_grouping else [indices]
    plan = BatchPlan(groups, size, keyed_seed(seed, name, "plan"))
    loader = DataLoader(
        ViewedImages(dataset, view, labeled, keyed_seed(seed, name, "view"), strong, substitute=not labeled),
        batch_sampler=ShardSampler(plan, shards, own_shards, start),
        collate_fn=Collate(stride),
        pin_memory=torch.cuda.is_available(),
        **workers.settings(),
    )
    return _batches(loader)


def evaluation_batches(
    dataset: DetectionDataset, view: WeakView, *, batch_size: int, stride: int, workers: Workers = HERE
) -> Iterator[PackedBatch]:
    """All images of ``dataset`` once, in order, without annotations."""
    keys = [[(i, i) for i in range(s, min(s + batch_size, len(dataset)))] for s in range(0, len(dataset), batch_size)]
    loader = DataLoader(
        ViewedImages(dataset, view, labeled=False, seed=0),
        batch_sampler=keys,
        collate_fn=Collate(stride),
        **workers.settings(),
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
