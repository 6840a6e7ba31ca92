"""Rows x seeds, side by side: run what is missing, keep one line a result, print the table."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev
from typing import Literal

from rich.console import Console
from rich.table import Table

from mixdet.errors import MixdetError
from mixdet.evaluation import Evaluation
from mixdet.recipes.recipe import Recipe
from mixdet.runs import commands
from mixdet.runs.folder import RunFolder
from mixdet.training.distributed import spawn

# 97.5 % quantiles of Student's t for 1 to 10 degrees of freedom; the last is an upper bound for more
T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Entry:
    """A row to run.

    Attributes:
        name: of the row.
        recipe: seed -> the row's recipe.
        paper: the paper's numbers in percent ("ap", "ap50", "ap75"); empty where it has none.
        note: for the reader of the table.
    """

    name: str
    recipe: Callable[[int], Recipe]
    paper: dict[str, float] = field(default_factory=dict)
    note: str | None = None


@dataclass(frozen=True)
class Result:
    """One line of a results file.

    Attributes:
        study, row, seed: which run.
        split: the data set that the selected weights were measured on, "test" or, without one, "val".
        metric: full name.
        numbers: short name -> percent.
        steps: optimizer steps.
        cpu_seconds: processor time, evaluation included; of an interrupted run, that since it was last resumed.
        recipe: digest of everything that determines the result.
        command: that makes this line.
        commit: of the code, or its version.
    """

    study: str
    row: str
    seed: int
    split: str
    metric: str
    numbers: dict[str, float | None]
    steps: int
    cpu_seconds: float
    recipe: str
    command: str
    commit: str


def compare(
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
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(known[key])) + "\n")
            shutil.rmtree(own / "checkpoints")
    return [known[entry.name, seed, digest(recipes[entry.name, seed])] for entry in entries for seed in seeds]


def read_results(path: Path) -> list[Result]:
    """The lines of a results file; none if there is no file.

    Raises:
        MixdetError: a line that is no result.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return []
    found = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            found.append(Result(**json.loads(line)))
        except (TypeError, json.JSONDecodeError) as fault:
            raise MixdetError(f"{path}, line {number}: not a result ({fault}); remove the line") from None
    return found


def digest(recipe: Recipe) -> str:
    """What tells one result from another: everything in the recipe but where and how it is run."""
    content = recipe.model_dump(mode="json", exclude={"run": True, "data": {"workers": True}})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def slug(title: str) -> str:
    """``title`` as a folder name."""
    return "_".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


def comparison_table(title: str, entries: Sequence[Entry], results: Sequence[Result]) -> Table:
    """Mean and spread of each row, the paired difference to the first row, and the paper's number."""
    metrics = [name for name in ("AP", "AP50", "AP75") if any(name in r.numbers for r in results)]
    table = Table(title=title, box=None, title_justify="left")
    table.add_column("row")
    for metric in metrics:
        for heading in (metric, f"{metric} - {entries[0].name}", "paper"):
            table.add_column(heading, justify="right")
    for entry in entries:
        cells = [entry.name]
        for metric in metrics:
            own, first = (of_row(results, name, metric) for name in (entry.name, entries[0].name))
            paper = entry.paper.get(metric.lower())
            difference = "" if entry is entries[0] else interval(paired(own, first))
            cells += [spread(list(own.values())), difference, "" if paper is None else f"{paper:.2f}"]
        table.add_row(*cells)
    return table


def of_row(results: Sequence[Result], row: str, metric: str) -> dict[int, float]:
    """Seed -> percent of one row, where it is defined."""
    return {r.seed: value for r in results if r.row == row and (value := r.numbers.get(metric)) is not None}


def paired(own: dict[int, float], other: dict[int, float]) -> list[float]:
    """Differences seed by seed, over the seeds that both have."""
    return [own[seed] - other[seed] for seed in sorted(own.keys() & other.keys())]


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    if not values:
        return "-"
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f} (n={len(values)})" if len(values) > 1 else " (n=1)")


def interval(differences: Sequence[float]) -> str:
    """Mean and 95 % interval (Student's t) of paired differences."""
    if len(differences) < 2:
        return "-" if not differences else f"{differences[0]:+.2f}"
    half = half_width(differences)
    return f"{mean(differences):+.2f} [{mean(differences) - half:+.2f}, {mean(differences) + half:+.2f}]"


def half_width(differences: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of at least two differences."""
    quantile = T_QUANTILES[min(len(differences) - 1, len(T_QUANTILES)) - 1]
    return quantile * stdev(differences) / math.sqrt(len(differences))


def _run(title: str, row: str, seed: int, recipe: Recipe, folder: Path, command: str, console: Console) -> Result:
    began = _cpu_seconds()
    recipe = recipe.model_copy(update={"run": recipe.run.model_copy(update={"out": str(folder)})})
    split: Literal["val", "test"] = "val" if recipe.data.test is None else "test"
    measured = _train(recipe, folder, console) or commands.evaluate(folder, split=split)
    return Result(
        title,
        row,
        seed,
        split,
        measured.metric,
        {name: None if value is None else round(100 * value, 4) for name, value in measured.numbers.items()},
        recipe.schedule.steps,
        round(_cpu_seconds() - began, 1),
        digest(recipe),
        command,
        code_version(),
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
    if not (folder / "recipe.yaml").is_file() or not any((folder / "checkpoints").glob("step-*")):
        return False
    return digest(RunFolder.open(folder)[1]) == wanted


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
