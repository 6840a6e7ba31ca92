"""Pictures of a run: what the network is fed, and what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from PIL import Image
from torch import Generator

from mixdet.data.dataset import DetectionDataset
from mixdet.methods.method import LABELED_VIEWS
from mixdet.methods.supervised import of_each_view
from mixdet.mixing import TileMix, mix_tiles, tile_borders
from mixdet.recipes.mixing_checks import unlabeled_batch
from mixdet.recipes.recipe import Recipe
from mixdet.reports.drawing import contact_sheet, draw_borders, draw_detections, draw_instances
from mixdet.runs.build import build_mix, build_unlabeled_mix
from mixdet.runs.data import Data
from mixdet.runs.streams import open_stream
from mixdet.structures import Batch, Detections, Instances, Stream, keyed_generator

COLUMNS = 4
SHOWN_SCORE = 0.3
"""Score below which a detection is not drawn."""


def draw_fed(recipe: Recipe, data: Data, count: int, stride: int = 32) -> Image.Image:
    """What training is fed: images that are mixed in tiles or as unlabelled ones are, else labelled ones, mixed or not.

    Args:
        recipe: its data, method and seed are used.
        data: opened.
        count: images.
        stride: canvas sides are multiples of it.
    """
    if recipe.method.mixed_tiles() is not None or build_unlabeled_mix(recipe.method) is not None:
        return draw_taught(recipe, data, count, stride)
    return draw_inputs(mixed_inputs(recipe, data, count, stride), data.labeled.classes)


def mixed_inputs(recipe: Recipe, data: Data, count: int, stride: int = 32) -> Batch:
    """The first ``count`` labelled images that training would be fed, mixed as the recipe says; as ``draw_fed``."""
    views = LABELED_VIEWS[recipe.method.views]
    seen = Stream("labeled", labeled=True, views=tuple(view for view in views if view != "weak"))
    stream = open_stream(recipe, data, seen, own_shards=range(1), start=0, stride=stride)
    batches: list[Batch] = []
    for step, packed in enumerate(stream):
        batch = packed.to_views("cpu", packed.weak.images.new_zeros(3).float()).joined(views)
        generator = keyed_generator(recipe.seed, step, 0, "method")
        batches.append(_labeled_as_fed(recipe, batch, generator))
        if sum(len(b) for b in batches) >= count:
            break
    return Batch.concat(batches).select(range(count))


def _labeled_as_fed(recipe: Recipe, batch: Batch, generator: Generator) -> Batch:
    """A shard of labelled images mixed as the recipe says."""
    mixed = recipe.method.mixed_labeled()
    if mixed is None:
        return batch
    views = len(LABELED_VIEWS[recipe.method.views])
    size = len(batch) // views
    first, rest = of_each_view(batch, size, mixed.images(size) // views)
    first = build_mix(mixed.mix)(first, first, generator)
    return first if rest is None else Batch.concat([first, rest])


def draw_inputs(batch: Batch, classes: Sequence[str]) -> Image.Image:
    """A contact sheet of a batch: each box as strong as its share."""
    pictures = [_drawn(batch, i, classes, boxes=True) for i in range(len(batch))]
    captions = [_name(batch, i) for i in range(len(batch))]
    return contact_sheet(pictures, min(COLUMNS, len(pictures)), captions)


def draw_taught(recipe: Recipe, data: Data, count: int, stride: int = 32) -> Image.Image:
    """MUM's Fig. 5 on one's own images: as they are, with erased patches, and mixed; a row each; as ``draw_fed``.

    The boxes over tiles are those of the un-mixed features: what the student has to find from such an input. Where
    unlabelled images are mixed, labelled ones stand for them, for their boxes; how labelled ones are mixed themselves
    is not drawn then.
    """
    mix, section = build_unlabeled_mix(recipe.method), recipe.method.mixed_tiles()
    tile_mix = None if section is None else TileMix(section.group_size, section.num_tiles, section.p, mode=section.mode)
    classes, views = data.labeled.classes, Stream("labeled", labeled=True, views=("strong",))
    size = unlabeled_batch(recipe) if recipe.method.unlabeled else None
    stream = open_stream(recipe, data, views, own_shards=range(1), start=0, stride=stride, batch_size=size)
    pictures: list[Image.Image] = []
    captions: list[str] = []
    batches = (packed.to_views("cpu", packed.weak.images.new_zeros(3).float()) for packed in stream)
    for step, (both, other) in enumerate(pairwise(batches)):
        generator = keyed_generator(recipe.seed, step, 0, "method")
        mixed = both.strong
        if mix is not None:
            mixed = mix(mixed, other.weak, generator)
        elif not recipe.method.unlabeled:
            mixed = both.weak if recipe.method.views == "weak" else mixed
            mixed = _labeled_as_fed(recipe, mixed, generator)
        borders, how = None, "fed: {}"
        if tile_mix is not None:
            mixed, borders = _in_tiles(mixed, tile_mix, stride, generator)
            how = "{} in mixed tiles; boxes of the un-mixed features" if borders else "{}, no tiles (method.tiles.p)"
        for i in range(min(len(mixed), count - len(pictures) // 3)):
            last = _drawn(mixed, i, classes, boxes=True)
            if borders is not None:
                height, width = mixed.sizes[i].tolist()
                last = draw_borders(last, *borders, (height, width))
            pictures += [_drawn(both.weak, i, classes, boxes=True), _drawn(both.strong, i, classes, boxes=False), last]
            captions += [_name(both.weak, i), "strong view", how.format(_name(mixed, i))]
        if len(pictures) >= 3 * count:
            break
    return contact_sheet(pictures, 3, captions)


def _in_tiles(
    batch: Batch, tile_mix: TileMix, stride: int, generator: Generator
) -> tuple[Batch, tuple[list[int], list[int]] | None]:
    """A batch in mixed tiles, and their borders along height and width; None where chance mixes none."""
    tiles = tile_mix.draw(batch.images.shape, stride, generator)
    if tiles is None:
        return batch, None
    rows, columns = (tile_borders(side, tile_mix.num_tiles, stride, tile_mix.mode) for side in batch.canvas)
    return replace(batch, images=mix_tiles(batch.images, tiles)), (rows, columns)


def _name(batch: Batch, index: int) -> str:
    return " + ".join(sorted(Path(name).name for name in batch.ids[index]))


def _drawn(batch: Batch, index: int, classes: Sequence[str], *, boxes: bool) -> Image.Image:
    height, width = batch.sizes[index].tolist()
    instances = batch.labels[index] if boxes else Instances.empty()
    return draw_instances(batch.images[index, :, :height, :width], instances, classes)


def draw_found(
    dataset: DetectionDataset, detections: Sequence[Detections], classes: Sequence[str], score: float = SHOWN_SCORE
) -> Image.Image:
    """A contact sheet of ``dataset``'s images with what was found in them.

    Args:
        dataset: the images.
        detections: one an image, in its pixels; labels index ``classes``.
        classes: names.
        score: lower ones are not drawn.
    """
    pictures = [draw_detections(dataset.image(i), found, classes, score) for i, found in enumerate(detections)]
    captions = [Path(dataset.images.name(i)).name for i in range(len(dataset))]
    return contact_sheet(pictures, min(COLUMNS, len(pictures)), captions)
