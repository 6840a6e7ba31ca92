"""``mixdet compare``."""

from __future__ import annotations

import argparse

from rich.console import Console

from mixdet.runs.compare import compare, selection
from mixdet.runs.dry_run import dry_runs
from mixdet.runs.results import comparison_table


def run(args: argparse.Namespace) -> int:
    """Run what is missing of a study, or of a list of recipes, and print the table."""
    console = Console()
    title, entries, seeds = selection(args.studies, args.overrides, args.rows)
    if args.dry_run:
        dry_runs(((entry.name, entry.recipe((args.seeds or seeds)[0])) for entry in entries), console)
        return 0
    done = compare(
        args.studies, args.overrides, rows=args.rows, seeds=args.seeds, results=args.results, console=console
    )
    console.print(comparison_table(title, entries, done))
    measured = f"{done[0].metric}, selected weights on {done[0].split}"
    console.print(
        f"{measured}; mean ± sd over seeds; paired difference [95 % interval]", highlight=False, soft_wrap=True
    )
    for entry in entries:
        if entry.note:
            console.print(f"{entry.name}: {entry.note}", highlight=False, soft_wrap=True)
    return 0
