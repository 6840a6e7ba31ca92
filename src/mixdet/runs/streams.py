"""From a recipe to the streams of batches that its method reads."""

from __future__ import annotations

from collections.abc import Iterator

from mixdet.data.packing import PackedBatch
from mixdet.data.streams import stream_batches
from mixdet.data.strong import StrongView
from mixdet.recipes.mixing_checks import unlabeled_batch
from mixdet.recipes.recipe import Recipe
from mixdet.runs.build import build_augmentation, build_workers, training_view
from mixdet.runs.data import Data
from mixdet.structures import Stream


def open_stream(
    recipe: Recipe,
    data: Data,
    stream: Stream,
    *,
    own_shards: range,
    start: int,
    stride: int,
    batch_size: int | None = None,
) -> Iterator[PackedBatch]:
    """Shards of one stream, without end.

    Args:
        recipe: its ``data`` section and seed are used.
        data: opened.
        stream: what a method asks for.
        own_shards: those of this process.
        start: first step.
        stride: canvas sides are multiples of it.
        batch_size: images a step, if not as many as the recipe says of this stream.
    """
    section, dataset = recipe.data, data.of_stream(stream.name)
    view = training_view(section)
    strong = StrongView(build_augmentation(section.strong), view if section.strong.own_geometry else None)
    return stream_batches(
        dataset,
        view,
        name=stream.name,
        labeled=stream.labeled,
        strong=dict.fromkeys(stream.views, strong),
        batch_size=batch_size or (unlabeled_batch(recipe) if stream.name == "unlabeled" else section.batch_size),
        shards=section.shards,
        own_shards=own_shards,
        start=start,
        stride=stride,
        seed=recipe.seed,
        aspect_grouping=section.aspect_grouping,
        balanced=section.class_balanced and stream.name != "unlabeled",
        workers=build_workers(section),
    )
