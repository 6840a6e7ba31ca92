"""Run, or go on running, the evidence on semi-supervised training; write its tables into semi_supervised.md.

    python docs/evidence/semi_supervised.py --data FOLDER            run what is missing, most wanted first
    python docs/evidence/semi_supervised.py --data FOLDER --tables   only write the tables of what is there

FOLDER holds bccd/ and fod_bright2dark/ in COCO JSON. Run it from the repository's root; start two to use two cores: a
run that another process has begun is left to it.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from running import curves_markdown, keep_curves, measure_last, prepare, run_one, spent, study_file, table, write_page

from mixdet.recipes import load_study
from mixdet.runs.compare import selection
from mixdet.runs.results import Result, comparison_markdown, interval

SEEDS = {
    "semi_bccd_20": (0, 1, 2, 3, 4),
    "semi_bccd_10": (0, 1, 2, 3, 4),
    "semi_fod_5": (0, 1, 2),
    "semi_scenes": (0, 1, 2),
    "semi_fod_5_long": (0,),
}
BATCHES = (  # rows, where a study has them, most wanted first
    ("supervised", "mum"),
    ("unbiased_teacher",),
    ("stac",),
    ("mum_reference", "mum_lossmix", "unbiased_teacher_lossmix"),
    ("csd", "instant_teaching", "ismt", "multi_phase"),
    ("supervised_weak", "mum_0.7", "unbiased_teacher_0.7", "unbiased_teacher_0.5", "stac_0.9", "stac_0.5"),
    ("mum_w1", "unbiased_teacher_w1", "stac_w2", "mum_w1_skip_empty", "mum_w1_no_patches", "mum_w1_boxes"),
    ("supervised_strong", "mum_strong", "unbiased_teacher_strong", "unbiased_teacher_strong_0.5"),
    ("mum_w1_strong", "unbiased_teacher_w1_strong", "unbiased_teacher_w1_strong_0.5"),
    ("stac_strong", "stac_strong_0.5", "stac_w2_strong", "stac_w2_strong_0.5"),
    ("unbiased_teacher_w1_0.5", "mum_w1_strong_matched"),
    ("mum_w0.25", "unbiased_teacher_w0.25"),
)
SOME = {  # rows that are run with these seeds only
    **dict.fromkeys(("mum_reference", "mum_lossmix", "unbiased_teacher_lossmix", "supervised_weak"), (0, 1, 2)),
    **dict.fromkeys(("mum_0.7", "unbiased_teacher_0.7"), (0, 1, 2, 3)),
    **dict.fromkeys(("csd", "instant_teaching", "ismt", "multi_phase"), (0,)),
    **dict.fromkeys(("stac_0.9", "stac_0.5", "stac_strong", "stac_strong_0.5"), (0,)),
    **dict.fromkeys(("stac_w2", "stac_w2_strong", "stac_w2_strong_0.5"), (0,)),
    **dict.fromkeys(("unbiased_teacher_w1_0.5", "mum_w1_no_patches", "mum_w1_strong_matched"), (0,)),
    **dict.fromkeys(("mum_w0.25", "unbiased_teacher_w0.25"), (0,)),
    "mum_w1_skip_empty": (0, 2),
    "mum_w1_boxes": (2,),
}
PAIRS = (
    ("mum", "supervised"),
    ("mum", "unbiased_teacher"),
    ("unbiased_teacher", "stac"),
    ("unbiased_teacher", "supervised"),
)


def run_all(sets: Sequence[str], console: Console) -> None:
    """Every row and seed of ``sets``, one at a time."""
    have = {name: {row.name for row in load_study(study_file(name)).rows} for name in sets}
    for rows in BATCHES:
        for seed in range(max(map(len, SEEDS.values()))):
            for name, row in itertools.product(sets, rows):
                if row in have[name] and seed in seeds_of(name, row):
                    run_one(name, row, seed, console)


def seeds_of(name: str, row: str) -> Sequence[int]:
    """The seeds of a row of a set."""
    return [seed for seed in SEEDS[name] if seed in SOME.get(row, SEEDS[name])]


def differences(results: Sequence[Result], key: str) -> str:
    """Paired differences of one number on the test split, for each set."""
    lines = ["| set | " + " | ".join(f"{a} - {b}" for a, b in PAIRS) + " |", "| --- |" + " --: |" * len(PAIRS)]
    for name, seeds in SEEDS.items():
        numbers = {(r.row, r.seed): r.numbers[key] for r in results if r.study == name}
        cells = []
        for first, second in PAIRS:
            pairs = [(numbers.get((first, seed)), numbers.get((second, seed))) for seed in seeds]
            cells.append(interval([a - b for a, b in pairs if a is not None and b is not None]))
        if set(cells) != {"-"}:
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_tables() -> str:
    """One table a set, the teacher's curve, and a list of what is missing; also into the page."""
    text, selected, last, missing = "", list[Result](), list[Result](), list[str]()
    for name in SEEDS:
        markdown, results, gone = table(name, partial(seeds_of, name))
        keep_curves(name, "teacher", results)
        missing += gone
        if not results:
            text += f"**{name}**: no run yet.\n\n"
            continue
        of_last = measure_last(name, results)
        _, entries, _ = selection([study_file(name)], [], None)
        text += f"**{name}**, test split, percent, weights selected on validation:\n\n{markdown}\n"
        text += f"The same, last step's weights, the teacher's:\n\n{comparison_markdown(entries, of_last)}\n"
        text += f"AP50 of the teacher on validation, mean over seeds:\n\n{curves_markdown(name)}\n"
        selected += results
        last += of_last
    for key, (kind, results) in itertools.product(("AP", "AP50"), (("selected", selected), ("last", last))):
        text += f"**Differences**, {key} on test, {kind} weights, paired by seed:\n\n{differences(results, key)}\n"
    text += spent(selected, missing)
    write_page("semi_supervised.md", text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with bccd/ and fod_bright2dark/")
    parser.add_argument("--sets", nargs="+", choices=SEEDS, default=list(SEEDS), help="only these")
    parser.add_argument("--tables", action="store_true", help="write tables, run nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=160)
    prepare(args.data, {"fod_semi": 0.05}, (0, 1, 2))
    if not args.tables:
        run_all(args.sets, console)
    console.print(write_tables(), highlight=False, markup=False)


if __name__ == "__main__":
    main()
