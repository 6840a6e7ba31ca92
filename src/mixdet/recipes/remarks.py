"""What a recipe may say and probably does not mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mixdet.recipes.mixing_checks import tiled_images

if TYPE_CHECKING:
    from mixdet.recipes.recipe import Recipe


CELL = 32  # pixels: aligned borders of tiles lie on its multiples


def remarks(recipe: Recipe) -> list[str]:
    """Settings that are allowed and probably not meant, a line each."""
    return [*_of_schedule(recipe), *_of_teacher(recipe), *_of_sections(recipe)]


def _of_sections(recipe: Recipe) -> Iterator[str]:
    data, detector, method = recipe.data, recipe.detector, recipe.method
    if detector.norm == "sync" and recipe.run.devices == 1:
        images = data.batch_size // data.shards
        yield f"detector.norm=sync has one device to average over: statistics are those of {images} images"
    if data.unlabeled is not None and not method.unlabeled:
        yield f"data.unlabeled={data.unlabeled.path}: method.name={method.name} does not read it"
    tiles = method.mixed_tiles()
    for key in ("group_size", "num_tiles") if tiles is not None else ():
        if getattr(tiles, key) == 1:
            yield f"method.tiles.{key}=1: nothing is mixed"
    if tiles is not None and (images := tiled_images(recipe)) < tiles.group_size:
        yield f"method.tiles.group_size={tiles.group_size}: a shard has {images} images, and they are one group"
    cells = -(-min(data.short_sides) // CELL)
    if tiles is not None and tiles.mode == "aligned" and tiles.num_tiles > cells:
        yield (
            f"method.tiles.num_tiles={tiles.num_tiles}: a side of {min(data.short_sides)} pixels is {cells} cells of "
            f"{CELL}, and is cut into {cells} tiles"
        )
    if method.focal and detector.roi_cls_loss != "focal":
        yield (
            f"detector.roi_cls_loss={detector.roi_cls_loss}: method.name={method.name} was published with focal, and "
            "its thresholds are for that"
        )
    if data.val is None:
        yield "data.val=null: nothing is evaluated, and the last checkpoint is the one that is kept"


def _of_schedule(recipe: Recipe) -> Iterator[str]:
    schedule = recipe.schedule
    if schedule.warmup_steps >= schedule.steps:
        yield (
            f"schedule.warmup_steps={schedule.warmup_steps}: the run ends within the warm-up "
            f"(schedule.steps={schedule.steps})"
        )


def _of_teacher(recipe: Recipe) -> Iterator[str]:
    decay, steps = recipe.method.teacher_decay(), recipe.schedule.steps
    if decay is None or decay.ramp == "harmonic":
        return
    lag, taught = 1 / (1 - decay.value), steps - decay.burn_in_steps
    if 2 * lag > taught:
        yield (
            f"method.decay.value={decay.value:g}: the teacher lags by some {lag:.0f} steps, and teaches for {taught}; "
            "lower it for so short a run"
        )
    if decay.ramp == "linear" and decay.ramp_steps > taught:
        yield f"method.decay.ramp_steps={decay.ramp_steps}: the run ends within the ramp (schedule.steps={steps})"
