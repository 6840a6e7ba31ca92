"""Run, or go on running, the evidence on supervised mixing; write its tables into supervised_mixing.md.

    python docs/evidence/supervised_mixing.py --data FOLDER            run what is missing, most wanted first
    python docs/evidence/supervised_mixing.py --data FOLDER --tables   only write the tables of what is there

FOLDER holds bccd/ and fod_bright2dark/ in COCO JSON. Run it from the repository's root; start two to use two cores: a
run that another process has begun is left to it.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from mixdet.data import labeled_subset, open_dataset
from mixdet.runs.compare import digest, run_rows
from mixdet.runs.comparison import comparison_markdown, read_results
from mixdet.runs.selection import selection

HERE = Path("docs/evidence")  # from the repository's root, so that the commands in the results hold anywhere
WORK = Path("evidence-runs")
SETS = ("bccd_20", "bccd_41", "bccd_all", "fod_10", "scenes")
BATCHES = (("baseline", "lossmix"), ("union", "half"), ("noise", "swapped"))  # most wanted first
SEEDS = (0, 1, 2)
LENGTHS = ("training_length_scenes", "training_length_fod")
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def results_file(name: str) -> Path:
    """The committed results of one set."""
    return HERE / "results" / f"{name}.jsonl"


def curves_file(name: str) -> Path:
    """The committed curves of a study of training length."""
    return HERE / "results" / f"{name}_curves.jsonl"


def study_file(name: str) -> str:
    """The study of one set."""
    return str(HERE / "studies" / f"{name}.yaml")


def prepare(data: Path) -> None:
    """Link the data, and write the lists of labelled images that ssod_splits.json names."""
    link = Path("datasets")
    if not link.exists():
        link.symlink_to(data.resolve())
    labels = WORK / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    for split in json.loads((data / "bccd" / "annotations" / "ssod_splits.json").read_text("utf-8"))["splits"]:
        path = labels / f"bccd_{split['n_labelled']}_{split['seed']}.txt"
        path.write_text("".join(f"{name}\n" for name in split["labelled"]), "utf-8")
    fod = open_dataset("datasets/fod_bright2dark/annotations/instances_source_train.json")
    labelled = {int(i) for seed in SEEDS for i in labeled_subset(fod, fraction=0.1, seed=seed)}
    rest = [fod.images.name(i) for i in range(len(fod)) if i not in labelled]
    (labels / "fod_val.txt").write_text("".join(f"{name}\n" for name in rest[::4]), "utf-8")  # labelled by no seed


def run_all(sets: Sequence[str], console: Console) -> None:
    """Every row and seed of ``sets``, one at a time."""
    for rows in BATCHES:
        for seed in SEEDS:
            for name in sets:
                for row in rows:
                    run_one(name, row, seed, console)


def run_one(name: str, row: str, seed: int, console: Console) -> None:
    """One run, unless its result is there or another process has begun it."""
    study = study_file(name)
    title, entries, _ = selection([study], [], [row])
    want = digest(entries[0].recipe(seed))
    if any((r.row, r.seed, r.recipe) == (row, seed, want) for r in read_results(results_file(name))):
        return
    claim = WORK / "claims" / f"{name}-{row}-{seed}"
    claim.parent.mkdir(parents=True, exist_ok=True)
    with claim.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process that holds it
        except BlockingIOError:
            return
        words = ["mixdet", "compare", study, "--rows", row, "--seeds", str(seed), "--results", str(results_file(name))]
        run_rows(title, entries, [seed], results_file(name), lambda *_: shlex.join(words), console, WORK / "runs")


def run_lengths(console: Console) -> None:
    """Three times the steps: the studies of ``LENGTHS``, and their curves into a committed file."""
    for name in LENGTHS:
        for entry in selection([study_file(name)], [], None)[1]:
            run_one(name, entry.name, 0, console)
        keep_curves(name)


def keep_curves(name: str) -> None:
    """Copy the validation AP50 of every run of a study from its metrics.jsonl."""
    lines = []
    for file in sorted((WORK / "runs").glob(f"{name}-*/metrics.jsonl")):
        row, seed = file.parent.name.removeprefix(f"{name}-").rsplit("-", 1)
        records = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        curve = {str(r["step"]): round(100 * r["val/student/AP50"], 2) for r in records if "val/student/AP50" in r}
        lines.append(json.dumps({"row": row, "seed": int(seed), "AP50": curve}) + "\n")
    if lines:
        curves_file(name).write_text("".join(lines), "utf-8")


def curves_markdown(name: str) -> str:
    """The kept curves as a table."""
    if not curves_file(name).exists():
        return "none\n"
    curves = [json.loads(line) for line in curves_file(name).read_text("utf-8").splitlines()]
    steps = sorted({int(step) for curve in curves for step in curve["AP50"]})
    rows = [f"| {c['row']} | " + " | ".join(f"{c['AP50'].get(str(s), '-')}" for s in steps) + " |" for c in curves]
    head = ["| step | " + " | ".join(map(str, steps)) + " |", "| --- |" + " --: |" * len(steps)]
    return "\n".join([*head, *rows]) + "\n"


def write_tables() -> str:
    """One table a set, of the runs that are there, and a list of what is missing; also into the page."""
    text, missing, spent, commits = "", [], 0.0, set()
    for name in SETS:
        _, entries, _ = selection([study_file(name)], [], None)
        wanted = {(e.name, seed): digest(e.recipe(seed)) for e in entries for seed in SEEDS}
        results = [r for r in read_results(results_file(name)) if wanted.get((r.row, r.seed)) == r.recipe]
        commits |= {r.commit for r in results}
        text += f"**{name}**, test split, percent:\n\n{comparison_markdown(entries, results)}\n"
        have = {(r.row, r.seed) for r in results}
        missing += [f"{name}/{e.name}/{seed}" for e in entries for seed in SEEDS if (e.name, seed) not in have]
        spent += sum(r.cpu_seconds for r in results)
    for name in LENGTHS:
        _, entries, _ = selection([study_file(name)], [], None)
        results = [r for r in read_results(results_file(name)) if r.row in {e.name for e in entries}]
        text += f"**{name}**, validation split, percent:\n\n{comparison_markdown(entries, results)}\n"
        text += f"AP50 on the way:\n\n{curves_markdown(name)}\n"
        missing += [f"{name}/{e.name}/0" for e in entries if e.name not in {r.row for r in results}]
        spent += sum(r.cpu_seconds for r in results)
        commits |= {r.commit for r in results}
    text += f"Commits (+: with changes not committed): {', '.join(sorted(commits))}.\n"
    text += f"{spent / 3600:.1f} CPU-hours. Missing ({len(missing)}): {', '.join(missing) or 'none'}.\n"
    page = HERE / "supervised_mixing.md"
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", "utf-8")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with bccd/ and fod_bright2dark/")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, help="only these")
    parser.add_argument("--tables", action="store_true", help="write tables, run nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=160)
    prepare(args.data)
    if not args.tables:
        run_all(args.sets, console)
        run_lengths(console)
    console.print(write_tables(), highlight=False, markup=False)


if __name__ == "__main__":
    sys.exit(main())
