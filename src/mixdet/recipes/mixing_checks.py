"""What a recipe that mixes images must agree on: how many there are, and how they are mixed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mixdet.recipes.fault import Fault
from mixdet.recipes.method import VIEWS

if TYPE_CHECKING:
    from mixdet.recipes.mix import MixSection
    from mixdet.recipes.recipe import Recipe


def tile_faults(recipe: Recipe) -> Iterator[Fault]:
    """Too few images for tiles to swap."""
    tiles, data = recipe.method.mixed_tiles(), recipe.data
    if tiles is not None and tiled_images(recipe) < 2:
        key = "data.unlabeled_batch_size" if recipe.method.unlabeled else "data.batch_size"
        yield Fault(
            ("method.tiles", key, "data.shards"),
            f"needs 2 images to swap tiles, and a shard has one (data.shards={data.shards}); use fewer shards or a "
            "larger batch",
        )


def mixing_faults(recipe: Recipe) -> Iterator[Fault]:
    """Too few images to mix, and mixes that make no sense."""
    method, data = recipe.method, recipe.data
    labeled = method.mixed_labeled()
    if labeled is not None:
        if (mixed := labeled.images(data.batch_size // data.shards)) < 2:
            keys = [f"method.{labeled.key}", "data.batch_size", "data.shards"]
            keys += ["method.mixed_fraction"] if method.name == "supervised" else []
            values = ", ".join(f"{key}={_at(recipe, key)}" for key in keys[1:])
            yield Fault(
                tuple(keys),
                f"needs 2 images to mix, and a shard has {mixed} ({values}); use fewer shards or a larger batch",
            )
        yield from _mix(f"method.{labeled.key}", labeled.mix)
    if (unlabeled := method.mixed_unlabeled()) is not None:
        if (mixed := unlabeled.images(unlabeled_batch(recipe) // data.shards)) < 2:
            yield Fault(
                (f"method.{unlabeled.key}", "data.unlabeled_batch_size", "data.shards"),
                f"needs 2 images to mix, and a shard has {mixed}; use fewer shards or a larger batch",
            )
        yield from _mix(f"method.{unlabeled.key}", unlabeled.mix)


def _mix(key: str, mix: str | MixSection) -> Iterator[Fault]:
    if isinstance(mix, str):
        return
    lam = mix.lam
    if lam.name == "uniform" and lam.low > lam.high:
        yield Fault((f"{key}.lam.low", f"{key}.lam.high"), f"is above {key}.lam.high={lam.high:g}; swap them")
    if mix.input == "mosaic" and mix.supervision != "union":
        yield Fault(
            (f"{key}.supervision", f"{key}.input"),
            f"does not go with {key}.input=mosaic, in which every object counts fully; use union",
        )


def unlabeled_batch(recipe: Recipe) -> int:
    """Unlabelled images a step."""
    return recipe.data.unlabeled_batch_size or recipe.data.batch_size


def tiled_images(recipe: Recipe) -> int:
    """Images of a shard whose tiles are mixed."""
    if recipe.method.unlabeled:
        return unlabeled_batch(recipe) // recipe.data.shards
    return recipe.data.batch_size // recipe.data.shards * VIEWS[recipe.method.views]


def _at(recipe: Recipe, path: str) -> object:
    value: object = recipe
    for name in path.split("."):
        value = getattr(value, name)
    return f"{value:g}" if isinstance(value, float) else value
