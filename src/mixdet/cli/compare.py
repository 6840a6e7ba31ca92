"""``mixdet compare``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mixdet.errors import MixdetError
from mixdet.recipes.load import load_recipe
from mixdet.recipes.study import load_study, study_names
from mixdet.runs.compare import Entry, compare, comparison_table, slug
from mixdet.runs.dry_run import dry_runs


def run(args: argparse.Namespace) -> int:
    """Run what is missing of a study, or of a list of recipes, and print the table."""
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
    console.print(f"{done[0].metric}, {done[0].split} split; mean ± sd over seeds; paired difference [95 % interval]")
    for entry in entries:
        if entry.note:
            console.print(f"{entry.name}: {entry.note}", highlight=False)
    return 0


def selection(
    names: Sequence[str], overrides: Sequence[str], rows: Sequence[str] | None
) -> tuple[str, list[Entry], Sequence[int]]:
    """Title, rows and seeds of one study, or of several recipes as the rows of one table.

    Raises:
        MixdetError: a study among several names, or a row that does not exist.
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
    unknown = set(rows or ()) - set(names)
    if unknown:
        raise MixdetError(f"command line: --rows {min(unknown)}: not among the recipes {', '.join(names)}")
    entries = [
        Entry(Path(name).stem, lambda seed, name=name: load_recipe(name, [*overrides, f"seed={seed}"]))  # type: ignore[misc]
        for name in (rows or names)
    ]
    return " and ".join(Path(name).stem for name in names), entries, (0,)


def is_study(name: str) -> bool:
    """Whether a name or path is that of a study: shipped, or a YAML file with rows."""
    if name in study_names():
        return True
    path = Path(name)
    return path.is_file() and any(line.startswith(b"rows:") for line in path.read_bytes().splitlines())
