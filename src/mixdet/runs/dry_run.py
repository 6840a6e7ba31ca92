"""A recipe as it stands, run in seconds where its data is not: stand-in data, small images, a step in every phase."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mixdet.data.sources import open_dataset
from mixdet.data.stand_in import stand_in, stand_in_labels, stand_in_pool
from mixdet.data.unlabeled import open_unlabeled
from mixdet.errors import MixdetError
from mixdet.evaluation import Evaluation
from mixdet.recipes.load import stage_recipes
from mixdet.recipes.recipe import Recipe, SourceSection
from mixdet.recipes.yaml_text import dump_value
from mixdet.runs import commands
from mixdet.runs.folder import RunFolder
from mixdet.training.distributed import takes_gpu

SHORT_SIDE = 64
IMAGES = {"labeled": 12, "val": 4, "test": 4}
BATCH, SHARDS = 4, 2
FRACTION = 0.25  # of the images that is labelled, at least: 1,600 would have to be drawn for 0.005
CLIP = 1.0  # norm of the gradient without the ImageNet weights, which the recipe's learning rate is for
MIXED = 2  # images of a shard, the fewest that can be mixed
HERE = "STAND-IN"  # what the temporary folder is called in what is printed


@dataclass(frozen=True)
class DryRun:
    """What a dry run saw.

    Attributes:
        name: of the recipe or row.
        replaced: every setting that was not the recipe's, as ``key=value`` words.
        notes: what follows from it.
        phases: for each step what was learned from: labelled images, "plain" or "mixed", or unlabelled ones too,
            "taught".
        losses: total loss of each step.
        evaluation: of the last step; None where the recipe has neither val nor test.
        seconds: wall time.
    """

    name: str
    replaced: str
    notes: str
    phases: tuple[str, ...]
    losses: tuple[float, ...]
    evaluation: Evaluation | None
    seconds: float

    def __str__(self) -> str:
        """One line."""
        steps = [f"{phase} {loss:.3f}" for phase, loss in zip(self.phases, self.losses, strict=True)]
        measured = "nothing to evaluate on"
        if self.evaluation is not None:
            value = self.evaluation.headline
            measured = f"{self.evaluation.metric} {'undefined' if value is None else f'{100 * value:.2f}'}"
        return f"{self.name}: loss {', '.join(steps)}; {measured}; {self.seconds:.1f} s"


def dry_runs(recipes: Iterable[tuple[str, Recipe]], console: Console) -> list[DryRun]:
    """Dry-run recipes, each of their stages, and say how it went; what was replaced is said where it changes.

    Raises:
        MixdetError: one does not run; the line begins with its name.
    """
    done: list[DryRun] = []
    for name, recipe in (part for whole in recipes for part in _parts(*whole)):
        try:
            run = dry_run(name, recipe)
        except MixdetError as error:
            raise type(error)(f"{name}: {error}") from error
        if not done or (done[-1].replaced, done[-1].notes) != (run.replaced, run.notes):
            console.print(
                f"[dim]instead of the recipe's: {run.replaced}{run.notes}[/]", highlight=False, soft_wrap=True
            )
        console.print(str(run), highlight=False, soft_wrap=True, markup=False)
        done.append(run)
    return done


def _parts(name: str, recipe: Recipe) -> list[tuple[str, Recipe]]:
    """The recipe, or those of its stages; labels between them are stand-ins too."""
    if not recipe.stages:
        return [(name, recipe)]
    names = [f"{name}, stage {stage.name}" for stage in recipe.stages]
    return list(zip(names, stage_recipes(recipe, Path("stages")), strict=True))


def dry_run(name: str, recipe: Recipe) -> DryRun:
    """Run ``shrunk`` of a recipe in a temporary folder.

    Raises:
        MixdetError: it does not run.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mixdet-") as folder:
        small = shrunk(recipe, Path(folder))
        with _flushed_denormals():
            result = commands.train(small)
        if result.exit_code:
            raise SystemExit(result.exit_code)
        lines = [json.loads(line) for line in RunFolder(Path(folder) / "run").metrics.read_text("utf-8").splitlines()]
        steps = [line for line in lines if "loss" in line]
        replaced = " ".join(f"{key}={dump_value(value)}" for key, value in replacements(recipe, small))
        return DryRun(
            name,
            replaced.replace(folder, HERE),
            _notes(small),
            tuple(_phase(line) for line in steps),
            tuple(float(line["loss"]) for line in steps),
            result.test or next(iter(result.val.values()), None),
            time.monotonic() - began,
        )


def _phase(line: dict[str, Any]) -> str:
    """What a step learned from, by the names in its line of metrics."""
    if any(name.startswith(("unsup", "csd/")) for name in line):
        return "taught"
    return "mixed" if "lam" in line else "plain"


def shrunk(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe on stand-in data under ``folder``, on one device, with as many steps as it has phases.

    Phases are what warm-up, milestones, burn-in, ramp and ``mix_until_step`` separate; each is entered. Images and
    batch become small, a labelled fraction becomes a quarter at least; the batch is mixed as the recipe says, in two
    shards where it has several. ImageNet weights that are not installed are left out, and gradients are clipped then.
    On a CPU bfloat16 is left out too, which many only emulate, at minutes a step. Everything else is the recipe's.
    """
    values = recipe.model_dump(mode="json")
    data, schedule, method = values["data"], values["schedule"], values["method"]
    values["run"] |= {"devices": 1, "log_every": 1, "out": str(folder / "run"), "baseline": False}
    if not takes_gpu(recipe.run.device):
        values["run"]["precision"] = "fp32"
    if recipe.detector.weights not in ("none", "wheel"):
        values["detector"] |= {"weights": "none", "weights_sha256": None}
        values["optim"]["clip_norm"] = CLIP
    for number, (split, fewest) in enumerate(IMAGES.items()):
        section: SourceSection | None = getattr(recipe.data, split)
        if section is not None:
            fraction = None if section.fraction is None else max(section.fraction, FRACTION)
            count = max(fewest, ceil(8 / fraction) if fraction else 0)
            path, images = stand_in(section.path, section.images, folder, count, seed=number)
            data[split] |= {"path": path, "images": images, "files": None, "fraction": fraction}
    data |= _sizes(recipe) | _batch(recipe) | {"workers": 0}
    if recipe.data.unlabeled is not None:
        pool = recipe.data.unlabeled
        path, images = stand_in_pool(pool.path, pool.images, folder, IMAGES["labeled"], seed=len(IMAGES))
        data["unlabeled"] = {"path": path, "images": images}
        if pool.labels is not None:
            classes = open_dataset(data["labeled"]["path"], data["labeled"]["images"]).classes
            labels = stand_in_labels(open_unlabeled(path, images), classes, folder / "labels.json")
            data["unlabeled"]["labels"] = labels
    step_of = _phases(recipe)
    schedule["steps"] = step_of[recipe.schedule.steps]
    schedule["milestones"] = [step_of[step] for step in recipe.schedule.milestones]
    schedule["warmup_steps"] = step_of[min(recipe.schedule.warmup_steps, recipe.schedule.steps)]
    method |= recipe.method.rescheduled(lambda step: step_of[min(step, recipe.schedule.steps)])
    return Recipe.model_validate(values)


@contextlib.contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Gradients of a deep network without its ImageNet weights are so small that a CPU takes many times as long."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def replacements(recipe: Recipe, small: Recipe) -> list[tuple[str, Any]]:
    """Dotted key and new value of every setting in which ``small`` differs."""
    before, after = (dict(_leaves(r.model_dump(mode="json"))) for r in (recipe, small))
    return [(key, value) for key, value in after.items() if before.get(key, ...) != value]


def _sizes(recipe: Recipe) -> dict[str, Any]:
    """The recipe's sizes at one scale, the longest short side ``SHORT_SIDE``."""
    data = recipe.data
    scale = min(1.0, SHORT_SIDE / max(*data.short_sides, data.test_short_side))
    return {
        "short_sides": [round(scale * side) for side in data.short_sides],
        "long_side": round(scale * data.long_side),
        "test_short_side": round(scale * data.test_short_side),
        "test_long_side": round(scale * data.test_long_side),
    }


def _batch(recipe: Recipe) -> dict[str, int | None]:
    """``BATCH`` images in at most ``SHARDS`` shards; more where a part of a shard is mixed, never more than it has."""
    data, mixed = recipe.data, recipe.method.mixed_labeled()
    shards = min(SHARDS, data.shards)
    size = BATCH // shards
    while mixed is not None and mixed.images(size) < MIXED:
        size += 1
    sizes: dict[str, int | None] = {"shards": shards, "batch_size": shards * min(size, data.batch_size // data.shards)}
    if data.unlabeled_batch_size is not None:
        sizes["unlabeled_batch_size"] = shards * min(BATCH // shards, data.unlabeled_batch_size // data.shards)
    return sizes


def _phases(recipe: Recipe) -> dict[int, int]:
    """Step at which something changes, the first and the last included -> where it is when each phase has one step."""
    schedule = recipe.schedule
    changes = {0, schedule.steps, min(schedule.warmup_steps, schedule.steps), *schedule.milestones}
    changes |= {min(step, schedule.steps) for _, step in recipe.method.changes()}
    return {step: index for index, step in enumerate(sorted(changes))}


def _notes(small: Recipe) -> str:
    """What one process does differently from many."""
    if small.detector.norm != "sync":
        return ""
    images = small.data.batch_size // small.data.shards
    return f" (norm=sync: over the {images} images of a shard, in one process)"


def _leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
