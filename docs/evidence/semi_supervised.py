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
from statistics import mean

import torch
from rich.console import Console
from running import (
    curves_markdown,
    keep_curves,
    measure_last,
    of_current_recipes,
    prepare,
    results_file,
    run_one,
    spent,
    study_file,
    table,
    write_page,
)

from mixdet.recipes import load_study
from mixdet.runs.results import Result, interval, of_row, paired, read_results

SEEDS = {
    "semi_bccd_20": (0, 1, 2, 3, 4),
    "semi_bccd_10": (0, 1, 2, 3, 4),
    "semi_fod_5": (0, 1, 2),
    "semi_fod_5_more": (3, 4),
    "semi_scenes": (0, 1, 2),
    "semi_fod_5_long": (0,),
}
SETS = {  # a set's studies; the first has all of its rows
    **{name: (name,) for name in SEEDS if name != "semi_fod_5_more"},
    "semi_fod_5": ("semi_fod_5", "semi_fod_5_more"),
}
BATCHES = (  # rows, where a study has them, most wanted first
    ("supervised", "mum"),
    ("unbiased_teacher",),
    ("stac",),
    ("mum_reference", "mum_lossmix", "unbiased_teacher_lossmix"),
    ("csd", "instant_teaching", "ismt", "multi_phase"),
    ("supervised_weak", "mum_0.7", "unbiased_teacher_0.7", "unbiased_teacher_0.5", "stac_0.9", "stac_0.5"),
    ("instant_teaching_0.9",),
    (
        "mum_skip_empty",
        "mum_w1",
        "unbiased_teacher_w1",
        "stac_w2",
        "mum_w1_skip_empty",
        "mum_w1_no_patches",
        "mum_w1_boxes",
    ),
    ("supervised_strong", "mum_strong", "unbiased_teacher_strong", "unbiased_teacher_strong_0.5"),
    ("mum_w1_strong", "unbiased_teacher_w1_strong", "unbiased_teacher_w1_strong_0.5"),
    ("stac_strong", "stac_strong_0.5", "stac_w2_strong", "stac_w2_strong_0.5"),
    ("unbiased_teacher_w1_0.5", "unbiased_teacher_w0.25", "mum_2_tiles", "mum_w1_strong_matched"),
    ("supervised_lossmix", "supervised_cross_entropy", "supervised_weak_cross_entropy"),
    ("stac_photometric", "stac_no_fallback", "unbiased_teacher_rand_augment"),
)
SOME = {  # rows that are run with these seeds only
    **dict.fromkeys(("mum_reference", "mum_lossmix", "unbiased_teacher_lossmix", "supervised_weak"), (0, 1, 2)),
    "supervised_lossmix": (0, 1, 2),
    **dict.fromkeys(("mum_0.7", "unbiased_teacher_0.7"), (0, 1, 2, 3)),
    **dict.fromkeys(("csd", "instant_teaching", "instant_teaching_0.9", "ismt", "multi_phase"), (0,)),
    **dict.fromkeys(("stac_0.9", "stac_0.5", "stac_strong", "stac_strong_0.5"), (0,)),
    **dict.fromkeys(("stac_w2", "stac_w2_strong", "stac_w2_strong_0.5"), (0,)),
    **dict.fromkeys(("unbiased_teacher_w1_0.5", "mum_w1_no_patches", "mum_w1_strong_matched"), (0,)),
    "unbiased_teacher_w0.25": (0,),
    "mum_2_tiles": (0,),
    **dict.fromkeys(("mum_skip_empty", "mum_w1_skip_empty"), (0, 2)),
    "supervised_cross_entropy": (0, 1),
    "supervised_weak_cross_entropy": (0,),
    **dict.fromkeys(("stac_photometric", "stac_no_fallback", "unbiased_teacher_rand_augment"), (0,)),
    "mum_w1_boxes": (2,),
}
PAIRS = (
    ("mum", "supervised"),
    ("mum", "unbiased_teacher"),
    ("unbiased_teacher", "stac"),
    ("unbiased_teacher", "supervised"),
    ("mum", "mum_reference"),
    ("mum_lossmix", "mum"),
    ("unbiased_teacher_lossmix", "unbiased_teacher"),
    ("mum_lossmix", "supervised_lossmix"),
    ("unbiased_teacher_lossmix", "supervised_lossmix"),
)
AGAIN = "semi_bccd_20"  # rows of it were run again: results/semi_bccd_20_again.jsonl, and _again_last.jsonl


def run_all(sets: Sequence[str], console: Console) -> None:
    """Every row and seed of ``sets``, one at a time."""
    studies = [study for name in sets for study in SETS[name]]
    have = {study: {row.name for row in load_study(study_file(study)).rows} for study in studies}
    for rows in BATCHES:
        for seed in sorted(set().union(*SEEDS.values())):
            for study, row in itertools.product(studies, rows):
                if row in have[study] and seed in seeds_of(study, row):
                    run_one(study, row, seed, console)


def seeds_of(study: str, row: str) -> Sequence[int]:
    """The seeds of a row of a study."""
    return [seed for seed in SEEDS[study] if seed in SOME.get(row, SEEDS[study])]


def differences(results: Sequence[Result], key: str) -> str:
    """Paired differences of one number on the test split, for each set."""
    of_sets = [[r for r in results if r.study in studies] for studies in SETS.values()]
    lines = ["| difference | " + " | ".join(SETS) + " |", "| --- |" + " --: |" * len(SETS)]
    for first, second in PAIRS:
        cells = [interval(paired(of_row(rows, first, key), of_row(rows, second, key))) for rows in of_sets]
        lines.append(f"| {first} - {second} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def twice(selected: Sequence[Result], last: Sequence[Result]) -> str:
    """MUM less supervised in the first runs of a set, in those that were run again, and in the mean of a seed's two."""
    columns = []
    for key, (results, kind) in itertools.product(("AP", "AP50"), ((selected, ""), (last, "_last"))):
        again = read_results(results_file(f"{AGAIN}_again{kind}"))
        mum, supervised = ([of_row(of, row, key) for of in (results, again)] for row in ("mum", "supervised"))
        complete = [seed for seed in SEEDS[AGAIN] if all(seed in of for of in (*mum, *supervised))]
        gains = [
            paired(*({seed: of[seed] for seed in complete} for of in pair))
            for pair in zip(mum, supervised, strict=True)
        ]
        columns.append([interval(values) for values in (*gains, [mean(pair) for pair in zip(*gains, strict=True)])])
    lines = [
        "| mum - supervised | AP, selected | AP, last | AP50, selected | AP50, last |",
        "| --- |" + " --: |" * len(columns),
    ]
    rows = zip(("first runs", "again", "mean of a seed's two"), zip(*columns, strict=True), strict=True)
    return "\n".join([*lines, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows)]) + "\n"


def write_tables() -> str:
    """One table a set, the curves of validation, and a list of what is missing; also into the page."""
    text, selected, last, missing = "", list[Result](), list[Result](), list[str]()
    for name, studies in SETS.items():
        of_set, of_last = list[Result](), list[Result]()
        for study in studies:
            results, gone = of_current_recipes(study, results_file(study), partial(seeds_of, study))
            keep_curves(study, ("teacher", "student"), results)
            of_set += results
            of_last += measure_last(study, results)
            missing += gone
        text += f"**{name}**, test split, percent, weights selected on validation:\n\n{table(name, of_set)}\n"
        text += f"The same, last step's weights, the teacher's:\n\n{table(name, of_last)}\n"
        curves = curves_markdown(*studies)
        text += f"AP50 on validation, the teacher's or else the student's, mean over seeds:\n\n{curves}\n"
        selected += of_set
        last += of_last
    for key, (kind, results) in itertools.product(("AP", "AP50"), (("selected", selected), ("last", last))):
        text += f"**Differences**, {key} on test, {kind} weights, paired by seed:\n\n{differences(results, key)}\n"
    of_first, of_first_last = ([r for r in results if r.study == AGAIN] for results in (selected, last))
    text += f"**{AGAIN} again**, paired by seed:\n\n{twice(of_first, of_first_last)}\n"
    text += spent(selected, missing)
    write_page("semi_supervised.md", text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with bccd/ and fod_bright2dark/")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="only these")
    parser.add_argument("--tables", action="store_true", help="write tables, run nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=160)
    prepare(args.data, {"fod_semi": 0.05}, SEEDS["semi_fod_5"], SEEDS["semi_fod_5_more"])
    if not args.tables:
        run_all(args.sets, console)
    console.print(write_tables(), highlight=False, markup=False)


if __name__ == "__main__":
    main()
