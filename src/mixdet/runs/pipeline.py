"""A recipe's stages, one after the other: fit, label, fit. Killed at any moment, it goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from mixdet.data.dataset import DetectionDataset
from mixdet.data.images import quoted
from mixdet.errors import MixdetError
from mixdet.evaluation import Evaluation, evaluate
from mixdet.recipes.load import stage_recipes
from mixdet.recipes.recipe import Recipe
from mixdet.recipes.stage import StageSection
from mixdet.runs.build import build_workers
from mixdet.runs.data import Data, build_dataset
from mixdet.runs.ensemble import write_ensemble
from mixdet.runs.fit import FitResult, fit
from mixdet.runs.folder import RunFolder
from mixdet.runs.infer import load_trained
from mixdet.runs.labelling import label_images
from mixdet.training.distributed import World
from mixdet.training.files import write_text_atomically
from mixdet.training.weights import read_weights, save_weights

LABELS = "labels"


def run_stages(
    recipe: Recipe, name: str, *, world: World, console: Console, resume: RunFolder | None = None
) -> FitResult:
    """Run all stages of a recipe, or those that are left of an interrupted run.

    Each stage is a run of its own in a folder of its name; the last one's weights and pictures are the run's, or an
    ensemble of all stages. Labels are in ``labels/STAGE.json``. The data of all stages is read and checked first.

    Args:
        recipe, name, world, console, resume: as ``fit``.
    """
    data = _open(stage_recipes(recipe, Path()))
    folder = None
    if world.is_first:
        folder = resume or RunFolder.create(recipe, name)
        folder.write_environment(world)
        _same_data(folder.root / "data.json", recipe.stages, data)
    root = Path(world.shared("" if folder is None else str(folder.root)))
    recipes = stage_recipes(recipe, root)
    result = FitResult(None, 0)
    for number, (stage, own) in enumerate(zip(recipe.stages, recipes, strict=True), start=1):
        last = number == len(recipes)
        if not last and _is_done(root / stage.name, world):
            continue
        if world.is_first:
            console.print(f"[bold]stage {number} of {len(recipes)}: {stage.name}[/]", highlight=False)
        if stage.labels is not None:
            _label(stage, own, data[number - 1], world, console, root)
        result = fit(own, stage.name, world=world, console=console, resume=_begun(root / stage.name, world))
        code = result.exit_code or (0 if last else result.signalled)
        if code:
            return replace(result, folder=None if folder is None else root, exit_code=code)
    return result if folder is None else _shipped(recipe, folder, world, result)


def _open(recipes: Sequence[Recipe]) -> list[Data]:
    """The data of each stage as it is before anything is labelled; equal sections are read once.

    Raises:
        MixdetError: any defect; stages that do not have the same classes; an image whose name a label file cannot hold.
    """
    opened: dict[str, Data] = {}
    found = []
    for own in recipes:
        pool = own.data.unlabeled
        bare = None if pool is None else pool.model_copy(update={"labels": None})
        own = own.model_copy(update={"data": own.data.model_copy(update={"unlabeled": bare})})
        key = own.data.model_dump_json() + str(own.method.unlabeled)
        opened[key] = opened.get(key) or Data.open(own)
        found.append(opened[key])
        _check_names(opened[key].unlabeled)
    for data in found:
        if data.labeled.classes != found[0].labeled.classes:
            raise MixdetError(
                f"stages: data.labeled={data.labeled.name} has other classes than {found[0].labeled.name}; all stages "
                "learn the same"
            )
    return found


def _check_names(pool: DetectionDataset | None) -> None:
    """Refuse an image that a file of labels, which is UTF-8, could not name."""
    for name in () if pool is None else map(pool.images.name, range(len(pool))):
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = quoted(name)
            raise MixdetError(f"data.unlabeled: image {shown}: the name is not UTF-8; rename the file") from None


def _same_data(path: Path, stages: Sequence[StageSection], data: Sequence[Data]) -> None:
    """Keep what the run began with, or compare with it: labels of one stage are of no use to another data set."""
    now = {stage.name: opened.fingerprints() for stage, opened in zip(stages, data, strict=True)}
    if not path.is_file():
        write_text_atomically(path, json.dumps(now))
        return
    for name, before in json.loads(path.read_text("utf-8")).items():
        for kind, fingerprint in before.items():
            if now[name][kind] != fingerprint:
                raise MixdetError(
                    f"data.{kind} of stage {name}: its images or boxes are not those the run began with; put the data "
                    "back as it was, or start a new run"
                )


def _label(stage: StageSection, own: Recipe, data: Data, world: World, console: Console, root: Path) -> None:
    """Label the pool before a stage, all processes together, unless that is done."""
    pool, out = data.of_stream("unlabeled"), root / LABELS / f"{stage.name}.json"
    if stage.labels is not None and not world.holds(out.is_file()):
        labelers = [load_trained(root / name, world.device) for name in stage.labels.by]
        size, workers = own.evaluation.batch_size, build_workers(own.data)
        key = f"stages.{stage.name}.labels"
        given = label_images(stage.labels, key, labelers, pool, data.labeled, out, world, console, size, workers)
        for line, style in given.lines() if world.is_first else ():
            console.print(Text(line, style), soft_wrap=True)
    world.barrier()


def _is_done(root: Path, world: World) -> bool:
    """Whether a stage has come to its end."""
    return world.holds(RunFolder(root).weights("student", "last").is_file())


def _begun(root: Path, world: World) -> RunFolder | None:
    """The folder of a stage with a checkpoint to go on from; without one, what was begun is cleared away.

    Raises:
        MixdetError: the stage is done, and its checkpoints are gone.
    """
    folder = RunFolder(root)
    begun = world.holds(any(folder.checkpoints.glob("step-*.safetensors")))
    if not begun and _is_done(root, world):
        raise MixdetError(f"{root}: no checkpoint to resume from, and the stage is done; start again with mixdet train")
    if not begun and world.is_first and root.exists():
        shutil.rmtree(root)
    world.barrier()
    return folder if begun else None


def _shipped(recipe: Recipe, folder: RunFolder, world: World, last: FitResult) -> FitResult:
    """Put the last stage's pictures, numbers and weights, or an ensemble of all stages, into the run's folder."""
    final = folder.root / recipe.stages[-1].name
    for part in ("images",) if recipe.ensemble else ("images", "weights"):
        if (final / part).is_dir():
            _replace(final / part, folder.root / part)
    shutil.copyfile(final / "metrics.jsonl", folder.metrics)
    if recipe.ensemble:
        return _with_ensemble(recipe, folder, world, last)
    return replace(last, folder=folder.root, shipped=folder.shipped())


def _replace(source: Path, place: Path) -> None:
    """Copy a folder, whole or not at all."""
    temporary = place.with_name(f".{place.name}.tmp")
    for old in (temporary, place):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(source, temporary)
    os.replace(temporary, place)


def _with_ensemble(recipe: Recipe, folder: RunFolder, world: World, last: FitResult) -> FitResult:
    """Write the ensemble of all stages, and measure it in place of the last one's detectors."""
    file = folder.weights("ensemble", "last")
    write_ensemble([folder.root / stage.name for stage in recipe.stages], recipe.ensemble, file)
    trained = load_trained(file, world.device)
    measured: dict[str, Evaluation] = {}
    for split in ("val", "test"):
        if (section := getattr(recipe.data, split)) is not None:
            dataset = build_dataset(section)
            found = trained.detect(dataset, recipe.evaluation.batch_size, recipe.evaluation.score_threshold)
            measured[split] = evaluate(found, dataset, recipe.evaluation.metric, classes=trained.card.classes)
    val = {"ensemble": measured["val"]} if "val" in measured else {}
    if val:
        scores = {key: value for key, value in measured["val"].numbers.items() if value is not None}
        with folder.metrics.open("a", encoding="utf-8") as lines:
            line = {"step": last.step, **{f"val/ensemble/{key}": value for key, value in scores.items()}}
            lines.write(json.dumps(line) + "\n")
        save_weights(file, trained.detector, replace(read_weights(file)[1], scores=scores))
    return replace(last, folder=folder.root, shipped=file, val=val, test=measured.get("test"))
