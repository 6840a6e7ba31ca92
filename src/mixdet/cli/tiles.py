"""``mixdet tiles``."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from mixdet.reports.tiles import RANGE, SIZES, TilesPerObject
from mixdet.runs.commands import tiles


def run(args: argparse.Namespace) -> int:
    """Print in how many tiles the objects of a data set lie."""
    found = tiles(args.data, args.images, args.num_tiles)
    console = Console()
    line = f"{args.data}: N_O, the tiles an object lies in, where images are cut into N_T x N_T"
    console.print(line, highlight=False, soft_wrap=True, markup=False)
    console.print(_table(found))
    low, high = RANGE
    for size in SIZES:
        if found.counts[size]:
            fitting = ", ".join(map(str, found.fitting(size))) or "none of these"
            line = f"{size}: N_T that keeps N_O within {low:g} to {high:g}: {fitting}"
            console.print(line, highlight=False, soft_wrap=True)
    return 0


def _table(found: TilesPerObject) -> Table:
    table = Table("N_T", *(f"{size} ({found.counts[size]})" for size in SIZES), box=None)
    for row, number in enumerate(found.num_tiles):
        means = (found.means[size][row] for size in SIZES)
        table.add_row(str(number), *("-" if mean != mean else f"{mean:.2f}" for mean in means))
    return table
