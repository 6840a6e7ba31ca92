"""Rows x seeds, side by side: run what is missing, keep one line a result."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from rich.console import Console

from mixdet.errors import MixdetError
from mixdet.evaluation import Evaluation
from mixdet.recipes.recipe import Recipe
from mixdet.runs import commands
from mixdet.runs.folder import RunFolder
from mixdet.runs.results import Entry, Result, read_results
from mixdet.training.spawn import spawn

PROCESSES = ("workers", "worker_start")  # of data: who reads it, which changes no result
NUMERICS = ("precision", "rollbacks")  # of run: what changes results


def run_rows(
    title: str,
    entries: Sequence[Entry],
    seeds: Sequence[int],
    results: Path,
    command: Callable[[str, int], str],
    console: Console,
    folder: Path | None = None,
) -> list[Result]:
    """Run every entry with every seed, unless its line is in ``results`` already.

    An interrupted run is resumed. Its folder keeps weights and metrics; checkpoints go once its line is written.

    Args:
        title: of the study; part of each line.
        entries: rows.
        seeds: of each row; row after row for one seed, then the next.
        results: JSON lines, appended to.
        command: (row, seed) -> the command that runs it.
        console: for progress.
        folder: of the run folders; beside ``results`` if not given.

    Returns:
        All results asked for, in the order of ``entries``, then seeds.

    Raises:
        MixdetError: a row with a defect, or with nothing to measure on, before the first is run.
    """
    recipes = {(entry.name, seed): entry.recipe(seed) for entry in entries for seed in seeds}  # all checked first
    for (row, _), recipe in recipes.items():
        if recipe.data.val is None and recipe.data.test is None:
            raise MixdetError(f"{row}: data.val=null: there is nothing to compare by; give it data.val or data.test")
    known = {(r.row, r.seed, r.recipe): r for r in read_results(results) if r.study == title}
    for seed in seeds:
        for entry in entries:
            recipe = recipes[entry.name, seed]
            key = (entry.name, seed, digest(recipe))
            if key in known:
                continue
            console.print(f"[bold]{title}[/]: {entry.name}, seed {seed}", highlight=False)
            own = (folder or results.parent / results.stem) / f"{slug(title)}-{entry.name}-{seed}"
            known[key] = _run(title, entry.name, seed, recipe, own, command(entry.name, seed), console)
            results.parent.mkdir(parents=True, exist_ok=True)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(known[key])) + "\n")
            for checkpoints in [*own.rglob("checkpoints")]:
                shutil.rmtree(checkpoints)
    return [known[entry.name, seed, digest(recipes[entry.name, seed])] for entry in entries for seed in seeds]


def digest(recipe: Recipe) -> str:
    """What tells one result from another: everything in the recipe but where it is run, and by how many processes.

    Keys at their defaults do not count, so that a result stays known when a later release has more keys.
    """
    content = recipe.stated()
    content["data"] = {key: value for key, value in content.get("data", {}).items() if key not in PROCESSES}
    content["run"] = {key: value for key, value in content.get("run", {}).items() if key in NUMERICS}
    if not content["run"]:
        del content["run"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def slug(title: str) -> str:
    """``title`` as a folder name."""
    return "_".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


def _run(title: str, row: str, seed: int, recipe: Recipe, folder: Path, command: str, console: Console) -> Result:
    began = _cpu_seconds()
    recipe = recipe.model_copy(update={"run": recipe.run.model_copy(update={"out": str(folder)})})
    split: Literal["val", "test"] = "val" if recipe.data.test is None else "test"
    measured = _train(recipe, folder, console) or commands.evaluate(folder, split=split)
    numbers = measured.numbers | {f"AP {name}, last": value for name, value in RunFolder(folder).last_aps().items()}
    return Result(
        title,
        row,
        seed,
        split,
        measured.metric,
        {name: None if value is None else round(100 * value, 4) for name, value in numbers.items()},
        recipe.schedule.steps,
        round(_cpu_seconds() - began, 1),
        digest(recipe),
        command,
        CODE,
    )


def _train(recipe: Recipe, folder: Path, console: Console) -> Evaluation | None:
    """Train, or go on, to the end, in as many processes as the recipe says; what was measured on its test split."""
    resumable = _resumable(folder, digest(recipe))
    if not resumable and (folder / "recipe.yaml").is_file():
        shutil.rmtree(folder)
    if recipe.run.devices > 1:
        file = folder.with_name(f"{folder.name}.yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(recipe.to_yaml(), "utf-8")
        code = spawn(["resume", str(folder)] if resumable else ["train", str(file)], recipe.run.devices)
        test = None
    else:
        result = commands.resume(folder, console=console) if resumable else commands.train(recipe, console=console)
        code, test = result.exit_code, result.test
    if code:
        raise SystemExit(code)
    return test


def _resumable(folder: Path, wanted: str) -> bool:
    """Whether ``folder`` holds a run of the recipe with that digest, with a checkpoint to go on from."""
    if not (folder / "recipe.yaml").is_file():
        return False
    return any(folder.rglob("checkpoints/step-*")) and digest(RunFolder.open(folder)[1]) == wanted


def _cpu_seconds() -> float:
    """Of this process and those it has waited for."""
    return sum(os.times()[:4])


def code_version() -> str:
    """The commit of the checkout this package runs from ("+" when its sources are changed), else its version."""
    here = Path(__file__).resolve().parent
    try:
        git = ["git", "-C", str(here)]
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", str(here.parent)], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return version("mixdet")
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


CODE = code_version()  # when this process read the sources, not when a run ends
