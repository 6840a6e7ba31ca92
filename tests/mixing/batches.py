"""Random batches, and their pieces as numpy arrays for the oracles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from mixdet.structures import Batch, Instances

GREY = torch.tensor([0.5, 0.4, 0.3])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_instances(size: tuple[int, int], count: int, draw: torch.Generator) -> Instances:
    """``count`` instances with integer boxes inside the image, of all kinds of weights."""
    height, width = size
    corners = torch.rand(count, 2, 2, generator=draw)
    low, high = corners.amin(1), corners.amax(1)
    scale = torch.tensor([width, height])
    low = (low * scale).floor().minimum(scale - 1)
    high = (high * scale).ceil().maximum(low + 1).minimum(scale)
    return Instances(
        torch.cat([low, high], 1),
        torch.randint(3, (count,), generator=draw),
        cls_weights=torch.rand(count, generator=draw),
        box_weights=torch.rand(count, generator=draw),
    )


def random_batch(
    sizes: Sequence[tuple[int, int]],
    seed: int = 0,
    counts: Sequence[int] | None = None,
    canvas: tuple[int, int] | None = None,
    name: str = "image",
) -> Batch:
    """Noise images of the given (h, w), padded with grey."""
    draw = generator(seed)
    height, width = canvas or (max(h for h, _ in sizes), max(w for _, w in sizes))
    images = GREY.view(1, 3, 1, 1).repeat(len(sizes), 1, height, width)
    for image, (h, w) in zip(images, sizes, strict=True):
        image[:, :h, :w] = torch.rand(3, h, w, generator=draw)
    many = counts if counts is not None else [2] * len(sizes)
    return Batch(
        images,
        torch.tensor(sizes),
        [random_instances(size, count, draw) for size, count in zip(sizes, many, strict=True)],
        weights=torch.rand(len(sizes), generator=draw) + 0.5,
        affines=torch.eye(3).repeat(len(sizes), 1, 1),
        ids=tuple(frozenset({f"{name}{i}"}) for i in range(len(sizes))),
        pad_colour=GREY,
    )


def pixels(batch: Batch, i: int) -> np.ndarray:
    """The valid pixels (3, h, w) of image i."""
    height, width = batch.sizes[i].tolist()
    return batch.images[i, :, :height, :width].double().numpy()


def rows(instances: Instances) -> list[tuple[float, ...]]:
    """Everything but the source of every instance, rounded and sorted: for comparison up to order."""
    names = [field.name for field in fields(Instances) if field.name != "sources"]
    columns = [getattr(instances, name).double().reshape(len(instances), -1) for name in names]
    return sorted(tuple(round(value, 5) for value in row) for row in torch.cat(columns, 1).tolist())


def same_instances(first: Instances, second: Instances) -> bool:
    return all(torch.equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(Instances))


def outside(batch: Batch, i: int) -> Tensor:
    """(N, 3): the pixels of the canvas outside image i."""
    height, width = batch.sizes[i].tolist()
    mask = torch.ones(batch.canvas, dtype=torch.bool)
    mask[:height, :width] = False
    return batch.images[i].permute(1, 2, 0)[mask]
