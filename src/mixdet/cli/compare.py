"""``mixdet compare``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mixdet.errors import MixdetError
from mixdet.recipes.load import load_recipe, recipe_names
from mixdet.recipes.study import load_study, study_names
from mixdet.runs.compare import compare, slug
from mixdet.runs.comparison import Entry, comparison_table
from mixdet.runs.dry_run import dry_runs
from mixdet.training.distributed import is_spawned


def run(args: argparse.Namespace) -> int:
    """Run what is missing of a study, or of a list of recipes, and print the table."""
    if is_spawned():
        raise MixdetError("compare: starts as many processes as run.devices says; run it without torchrun")
    console = Console()
    title, entries, seeds = selection(args.studies, args.overrides, args.rows)
    seeds = args.seeds or seeds
    if args.dry_run:
        dry_runs(((entry.name, entry.recipe(seeds[0])) for entry in entries), console)
        return 0
    results = Path(args.results) if args.results else Path("runs") / "compare" / f"{slug(title)}.jsonl"

    def command(row: str, seed: int) -> str:
        words = ["mixdet", "compare", *args.studies, *args.overrides, "--rows", row, "--seeds", str(seed)]
        return shlex.join([*words, "--results", str(results)])

    done = compare(title, entries, seeds, results, command, console)
    console.print(comparison_table(title, entries, done))
    measured = f"{done[0].metric}, selected weights on {done[0].split}"
    console.print(
        f"{measured}; mean ± sd over seeds; paired difference [95 % interval]", highlight=False, soft_wrap=True
    )
    for entry in entries:
        if entry.note:
            console.print(f"{entry.name}: {entry.note}", highlight=False, soft_wrap=True)
    return 0


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
