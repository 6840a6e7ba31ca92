"""Studies and recipes by name, as the rows of one table."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mixdet.errors import MixdetError
from mixdet.recipes.load import load_recipe, recipe_names
from mixdet.recipes.study import load_study, study_names
from mixdet.runs.results import Entry, Result
from mixdet.runs.rows import run_rows, slug
from mixdet.training.distributed import is_spawned


def compare(
    names: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    results: str | Path | None = None,
    console: Console | None = None,
) -> list[Result]:
    """Run what is missing of a study, or of several recipes, row by row and seed by seed.

    Args:
        names: one study, or recipes.
        overrides: "key.sub=value" words for every row.
        rows: names of the rows to run; all if not given.
        seeds: the study's if not given, 0 for recipes.
        results: JSON lines, one a finished row and seed; runs/compare/TITLE.jsonl if not given.
        console: for progress; silent if not given.

    Returns:
        All results asked for, those that were there included.

    Raises:
        MixdetError: a name, row or recipe with a defect, before the first is run.
    """
    if is_spawned():
        raise MixdetError("compare: starts as many processes as run.devices says; run it without torchrun")
    title, entries, usual = selection(names, overrides, rows)
    path = Path(results) if results else Path("runs") / "compare" / f"{slug(title)}.jsonl"

    def command(row: str, seed: int) -> str:
        words = ["mixdet", "compare", *names, *overrides, "--rows", row, "--seeds", str(seed)]
        return shlex.join([*words, "--results", str(path)])

    return run_rows(title, entries, seeds or usual, path, command, console or Console(quiet=True))


def selection(
    names: Sequence[str], overrides: Sequence[str], rows: Sequence[str] | None
) -> tuple[str, list[Entry], Sequence[int]]:
    """Title, rows and seeds of one study, or of several recipes as the rows of one table.

    Raises:
        MixdetError: a study among several names, two recipes of one name, or a row that does not exist.
    """
    studies = [name for name in names if is_study(name)]
    if studies and len(names) > 1:
        raise MixdetError(f"command line: {studies[0]} is a study; compare one study, or several recipes")
    if studies:
        study = load_study(names[0])
        chosen = [study.row(name) for name in rows] if rows else list(study.rows)
        entries = [
            Entry(row.name, lambda seed, row=row: study.recipe_of(row, overrides, seed), dict(row.paper), row.note)  # type: ignore[misc]
            for row in chosen
        ]
        return study.name, entries, study.seeds
    known = recipe_names()
    if unknown := [name for name in names if name not in known and not Path(name).exists()]:
        raise MixdetError(
            f"command line: no study, recipe or file {unknown[0]!r} (studies: {', '.join(study_names())}; "
            f"recipes: {', '.join(known)})"
        )
    stems = [Path(name).stem for name in names]
    if twice := {stem for stem in stems if stems.count(stem) > 1}:
        raise MixdetError(f"command line: two of the recipes are called {min(twice)}; rename one")
    if strange := set(rows or ()) - set(stems):
        raise MixdetError(f"command line: --rows {min(strange)}: not among the recipes {', '.join(stems)}")
    entries = [
        Entry(stem, lambda seed, name=name: load_recipe(name, [*overrides, f"seed={seed}"]))  # type: ignore[misc]
        for stem, name in zip(stems, names, strict=True)
        if not rows or stem in rows
    ]
    return " and ".join(stems), entries, (0,)


def is_study(name: str) -> bool:
    """Whether a name or path is that of a study: shipped, or a YAML file with rows."""
    if name in study_names():
        return True
    path = Path(name)
    return path.is_file() and any(line.startswith(b"rows:") for line in path.read_bytes().splitlines())
