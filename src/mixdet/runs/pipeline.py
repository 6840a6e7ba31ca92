"""A recipe's stages, one after the other: fit, label, fit. Killed at any moment, it goes on where it was."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from mixdet.evaluation import Evaluation, evaluate
from mixdet.recipes.load import stage_recipe
from mixdet.recipes.recipe import Recipe
from mixdet.recipes.stage import StageSection
from mixdet.runs.build import build_dataset, build_pool
from mixdet.runs.ensemble import write_ensemble
from mixdet.runs.fit import FitResult, fit
from mixdet.runs.folder import RunFolder
from mixdet.runs.infer import load_trained
from mixdet.runs.labelling import label_images
from mixdet.training.distributed import World

SHIPPED = ("weights", "images")


def run_stages(
    recipe: Recipe, name: str, *, world: World, console: Console, resume: RunFolder | None = None
) -> FitResult:
    """Run all stages of a recipe, or those that are left of an interrupted run.

    Each stage is a run of its own in a folder of its name; the last one's weights and pictures are the run's, or an
    ensemble of all stages. Labels are in ``labels/STAGE.json``.

    Args:
        recipe, name, world, console, resume: as ``fit``.
    """
    folder = None
    if world.is_first:
        folder = resume or RunFolder.create(recipe, name)
        folder.write_environment(world)
    root = Path(world.shared("" if folder is None else str(folder.root)))
    recipes = [stage_recipe(recipe, stage, root) for stage in recipe.stages]
    results: list[FitResult] = []
    for number, (stage, own) in enumerate(zip(recipe.stages, recipes, strict=True), start=1):
        last = number == len(recipes)
        if not last and _is_done(RunFolder(root / stage.name), world):
            continue
        if world.is_first:
            console.print(f"[bold]stage {number} of {len(recipes)}: {stage.name}[/]", highlight=False)
            if stage.labels is not None:
                _label(recipe, stage, own, world, console, root)
        world.barrier()
        results.append(fit(own, stage.name, world=world, console=console, resume=_begun(root / stage.name, world)))
        if results[-1].exit_code:
            return replace(results[-1], folder=None if folder is None else root)
    if folder is None:
        return results[-1]
    final = root / recipe.stages[-1].name
    for part in SHIPPED[1:] if recipe.ensemble else SHIPPED:
        shutil.copytree(final / part, root / part, dirs_exist_ok=True)
    shutil.copyfile(final / "metrics.jsonl", folder.metrics)
    if recipe.ensemble:
        return _with_ensemble(recipe, folder, world, results[-1])
    return replace(results[-1], folder=root, shipped=folder.shipped())


def _with_ensemble(recipe: Recipe, folder: RunFolder, world: World, last: FitResult) -> FitResult:
    """Write the ensemble of all stages, and measure it in place of the last one's detectors."""
    file = folder.weights("ensemble", "last")
    file.parent.mkdir(exist_ok=True)
    write_ensemble([folder.root / stage.name for stage in recipe.stages], recipe.ensemble, file)
    trained = load_trained(file, world.device)
    measured: dict[str, Evaluation] = {}
    for split in ("val", "test"):
        if (section := getattr(recipe.data, split)) is not None:
            dataset = build_dataset(section)
            found = trained.detect(dataset, recipe.evaluation.batch_size)
            measured[split] = evaluate(found, dataset, recipe.evaluation.metric, classes=trained.card.classes)
    val = {"ensemble": measured["val"]} if "val" in measured else {}
    return replace(last, folder=folder.root, shipped=file, val=val, test=measured.get("test"))


def _label(recipe: Recipe, stage: StageSection, own: Recipe, world: World, console: Console, root: Path) -> None:
    """Label the pool before a stage, unless that is done."""
    section, pool = stage.labels, own.data.unlabeled
    if section is None or pool is None or pool.labels is None or Path(pool.labels).is_file():
        return
    labeled = build_dataset(own.data.labeled)
    images = build_pool(pool.model_copy(update={"labels": None}), labeled)
    labelers = [load_trained(root / name, world.device) for name in section.by]
    count, boxes = label_images(section, labelers, images, labeled, Path(pool.labels), console)
    found_by = " and ".join(section.by)
    console.print(
        f"{images.name}: {boxes} boxes in {count} of {len(images)} unlabelled images, found by {found_by}",
        highlight=False,
    )


def _is_done(folder: RunFolder, world: World) -> bool:
    """Whether a stage has come to its end."""
    return world.shared(str(folder.weights("student", "last").is_file())) == str(True)


def _begun(root: Path, world: World) -> RunFolder | None:
    """The folder of a stage with a checkpoint to go on from; without one, whatever is there is cleared away."""
    folder = RunFolder(root)
    begun = world.shared(str(any(folder.checkpoints.glob("step-*.safetensors")))) == str(True)
    if not begun and world.is_first and root.exists():
        shutil.rmtree(root)
    world.barrier()
    return folder if begun else None
