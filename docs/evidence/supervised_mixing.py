"""Run, or go on running, the evidence on supervised mixing; write its tables into supervised_mixing.md.

    python docs/evidence/supervised_mixing.py --data FOLDER            run what is missing, most wanted first
    python docs/evidence/supervised_mixing.py --data FOLDER --tables   only write the tables of what is there

FOLDER holds bccd/ and fod_bright2dark/ in COCO JSON. Run it from the repository's root; start two to use two cores: a
run that another process has begun is left to it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from running import (
    curves_markdown,
    keep_curves,
    of_current_recipes,
    prepare,
    results_file,
    run_one,
    spent,
    study_file,
    table,
    write_page,
)

from mixdet.runs.compare import selection
from mixdet.runs.results import Result, interval

SETS = ("bccd_20", "bccd_41", "bccd_all", "fod_10", "scenes")
BATCHES = (("baseline", "lossmix"), ("union", "half"), ("noise", "swapped"))  # most wanted first
SEEDS = (0, 1, 2)
LENGTHS = ("training_length_scenes", "training_length_fod")


def run_all(sets: Sequence[str], console: Console) -> None:
    """Every row and seed of ``sets``, one at a time; then three times the steps, in the studies of ``LENGTHS``."""
    for rows in BATCHES:
        for seed in SEEDS:
            for name in sets:
                for row in rows:
                    run_one(name, row, seed, console)
    for name in LENGTHS:
        for entry in selection([study_file(name)], [], None)[1]:
            run_one(name, entry.name, 0, console)


def against_lossmix(results: Sequence[Result]) -> str:
    """LossMix's AP50 minus that of each other row, for each set."""
    others = ("baseline", "noise", "union", "half", "swapped")
    lines = ["| set | " + " | ".join(others) + " |", "| --- |" + " --: |" * len(others)]
    for name in SETS:
        ap50 = {(r.row, r.seed): r.numbers["AP50"] for r in results if r.study == name}
        cells = []
        for other in others:
            pairs = [(ap50.get(("lossmix", seed)), ap50.get((other, seed))) for seed in SEEDS]
            cells.append(interval([a - b for a, b in pairs if a is not None and b is not None]))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_tables() -> str:
    """One table a set, of the runs that are there, and a list of what is missing; also into the page."""
    text, everything, missing = "", list[Result](), list[str]()
    for name in (*SETS, *LENGTHS):
        seeds = (0,) if name in LENGTHS else SEEDS
        results, gone = of_current_recipes(name, results_file(name), lambda _, of=seeds: of)
        split = "validation" if name in LENGTHS else "test"
        text += f"**{name}**, {split} split, percent:\n\n{table(name, results)}\n"
        if name in LENGTHS:
            keep_curves(name, ("student",), results)
            text += f"AP50 on the way:\n\n{curves_markdown(name)}\n"
        everything += results
        missing += gone
    text += f"**LossMix minus the other ways to mix**, AP50 on test, paired by seed:\n\n{against_lossmix(everything)}\n"
    text += spent(everything, missing)
    write_page("supervised_mixing.md", text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with bccd/ and fod_bright2dark/")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, help="only these")
    parser.add_argument("--tables", action="store_true", help="write tables, run nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=160)
    prepare(args.data, {"fod_val": 0.1}, SEEDS)
    if not args.tables:
        run_all(args.sets, console)
    console.print(write_tables(), highlight=False, markup=False)


if __name__ == "__main__":
    main()
