"""What a run says of itself before its first step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mixdet.data.dataset import DetectionDataset
from mixdet.data.geometry import resized
from mixdet.recipes import remarks
from mixdet.recipes.recipe import DataSection, Recipe
from mixdet.runs.data import Data
from mixdet.training.distributed import World
from mixdet.training.optim import scaled_lr

NOTE, PLAIN = "yellow", ""


def introduction(recipe: Recipe, data: Data, world: World, root: Path | None, start: int) -> Iterator[tuple[str, str]]:
    """Lines and their styles: what is doubtful first, then data, network, sizes, learning rate and folder.

    Args:
        recipe: of the run.
        data: opened.
        world: its processes.
        root: the run folder; None in all processes but the first.
        start: steps that are done.
    """
    for note in (*data.notes, *remarks(recipe)):
        yield note, NOTE
    yield (
        f"{data.labeled.name}: {len(data.labeled)} images, {len(data.labeled.labels)} boxes, "
        f"{len(data.labeled.classes)} classes; {recipe.detector.body}, preset {recipe.detector.preset}, "
        f"weights {recipe.detector.weights}; {world.size} x {world.device}",
        PLAIN,
    )
    if data.unlabeled is not None:
        yield f"{data.unlabeled.name}: {len(data.unlabeled)} unlabelled images, none of them a labelled one", PLAIN
    yield input_sizes(data.labeled, recipe.data), PLAIN
    reference, size = recipe.optim.reference_batch_size, recipe.data.batch_size
    rule = f" ({recipe.optim.lr:g} for a batch of {reference}, linear rule)" if reference else ""
    yield f"learning rate {scaled_lr(recipe.optim.lr, size, reference):g} for a batch of {size}{rule}", PLAIN
    if root is not None:
        yield f"run folder {root}" + (f", going on from step {start}" if start else ""), PLAIN


def input_sizes(dataset: DetectionDataset, section: DataSection) -> str:
    """How large images and boxes are once they are cut to size: what the choice of ``data.short_sides`` comes to."""
    height, width = (int(side) for side in np.median(dataset.sizes, axis=0))
    shorts = min(section.short_sides), max(section.short_sides)
    small, large = (resized(height, width, short, section.long_side) for short in shorts)
    text = f"images of {width} x {height} pixels (median) are trained at {small[1]} x {small[0]}"
    if large != small:
        text += f" to {large[1]} x {large[0]}"
    if len(dataset.boxes):
        sides = np.sqrt((dataset.boxes[:, 2:] - dataset.boxes[:, :2]).prod(axis=1))
        text += f"; the median box has a side of {np.median(sides) * small[0] / height:.0f} pixels there"
    return text
