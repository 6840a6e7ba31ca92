"""From a recipe to the streams of batches that its method reads."""

from __future__ import annotations

from collections.abc import Iterator

from mixdet.data.photometric import StrongView
from mixdet.data.streams import PackedBatch, stream_batches
from mixdet.recipes.checks import unlabeled_batch
from mixdet.recipes.recipe import Recipe, StrongSection
from mixdet.runs.build import Data, training_view
from mixdet.structures import Stream


def open_stream(
    recipe: Recipe, data: Data, stream: Stream, *, own_shards: range, start: int, stride: int
) -> Iterator[PackedBatch]:
    """Shards of one stream, without end.

    Args:
        recipe: its ``data`` section and seed are used.
        data: opened.
        stream: what a method asks for.
        own_shards: those of this process.
        start: first step.
        stride: canvas sides are multiples of it.
    """
    section, dataset = recipe.data, data.of_stream(stream.name)
    strong = build_strong(section.strong)
    return stream_batches(
        dataset,
        training_view(section),
        name=stream.name,
        labeled=stream.labeled,
        strong=dict.fromkeys(stream.views, strong),
        batch_size=section.batch_size if stream.labeled else unlabeled_batch(recipe),
        shards=section.shards,
        own_shards=own_shards,
        start=start,
        stride=stride,
        seed=recipe.seed,
        aspect_grouping=section.aspect_grouping,
        balanced=section.class_balanced and stream.labeled,
        workers=section.workers,
    )


def build_strong(section: StrongSection) -> StrongView:
    """The strong view of a section."""
    view = StrongView()
    return StrongView(
        section.jitter_p,
        section.brightness,
        section.contrast,
        section.saturation,
        section.hue,
        section.grey_p,
        section.blur_p,
        view.sigma,
        view.erase if section.erase else (),
        section.exact,
    )
