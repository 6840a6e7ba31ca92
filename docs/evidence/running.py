"""What the evidence scripts share: files, runs that several processes do not do twice, tables of a page."""

from __future__ import annotations

import fcntl
import itertools
import json
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console

from mixdet.data import labeled_subset, open_dataset
from mixdet.runs.commands import evaluate
from mixdet.runs.compare import selection
from mixdet.runs.folder import RunFolder
from mixdet.runs.results import Result, comparison_markdown, read_results
from mixdet.runs.rows import digest, run_rows

HERE = Path("docs/evidence")  # from the repository's root, so that the commands in the results hold anywhere
WORK = Path("evidence-runs")
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def results_file(study: str) -> Path:
    """The committed results of a study."""
    return HERE / "results" / f"{study}.jsonl"


def study_file(study: str) -> str:
    """The study of that name."""
    return str(HERE / "studies" / f"{study}.yaml")


def prepare(data: Path, fod: dict[str, float], seeds: Iterable[int], more: Iterable[int] = ()) -> None:
    """Link the data, and write the lists of images that the studies name.

    Args:
        data: folder with bccd/ and fod_bright2dark/.
        fod: name of a list -> the largest share of fod's images that is labelled where it is used; the list has a
            quarter of the images that no seed labels, for validation, and that with ``_pool`` all the others.
        seeds: of the labelled subsets.
        more: seeds of labelled subsets that came later, drawn from the images left for training.
    """
    link = Path("datasets")
    if not link.exists():
        link.symlink_to(data.resolve())
    labels = WORK / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    for split in json.loads((data / "bccd" / "annotations" / "ssod_splits.json").read_text("utf-8"))["splits"]:
        _write(labels / f"bccd_{split['n_labelled']}_{split['seed']}.txt", split["labelled"])
    train = open_dataset("datasets/bccd/annotations/instances_train.json")
    _write(labels / "bccd_train.txt", [train.images.name(i) for i in range(len(train))])
    for count, seed in itertools.product((10, 20), (3, 4)):  # ssod_splits.json has seeds 0 to 2
        chosen = labeled_subset(train, count=count, seed=seed)
        _write(labels / f"bccd_{count}_{seed}.txt", [train.images.name(int(i)) for i in chosen])
    images = open_dataset("datasets/fod_bright2dark/annotations/instances_source_train.json")
    for name, fraction in fod.items():
        labelled = {int(i) for seed in seeds for i in labeled_subset(images, fraction=fraction, seed=seed)}
        rest = [images.images.name(i) for i in range(len(images)) if i not in labelled]
        _write(labels / f"{name}.txt", rest[::4])
        kept = set(rest[::4])
        pool = images.subset([i for i in range(len(images)) if images.images.name(i) not in kept])
        _write(labels / f"{name}_pool.txt", [pool.images.name(i) for i in range(len(pool))])
        for seed in more:
            chosen = labeled_subset(pool, count=round(fraction * len(images)), seed=seed)
            _write(labels / f"{name}_{seed}.txt", [pool.images.name(int(i)) for i in chosen])


def run_one(study: str, row: str, seed: int, console: Console) -> None:
    """One run, unless its result is there or another process has begun it."""
    title, entries, _ = selection([study_file(study)], [], [row])
    want = digest(entries[0].recipe(seed))
    if any((r.row, r.seed, r.recipe) == (row, seed, want) for r in read_results(results_file(study))):
        return
    claim = WORK / "claims" / f"{study}-{row}-{seed}"
    claim.parent.mkdir(parents=True, exist_ok=True)
    with claim.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process that holds it
        except BlockingIOError:
            return
        words = ["mixdet", "compare", study_file(study), "--rows", row, "--seeds", str(seed)]
        words += ["--results", str(results_file(study))]
        run_rows(title, entries, [seed], results_file(study), lambda *_: shlex.join(words), console, WORK / "runs")


def measure_last(study: str, results: Sequence[Result]) -> list[Result]:
    """Measure the last step's weights, the teacher's where there is one, of every run of ``results`` on test.

    What was measured is kept beside the results; a run whose folder is gone keeps its number.
    """
    file = results_file(f"{study}_last")
    known = {(r.row, r.seed, r.recipe): r for r in read_results(file)}
    measured = []
    for result in results:
        key = (result.row, result.seed, result.recipe)
        folder = WORK / "runs" / f"{study}-{result.row}-{result.seed}"
        if key not in known and folder.is_dir():
            run, recipe = RunFolder.open(folder)
            weights, began = run.last(), time.process_time()
            evaluation = evaluate(weights, split="test")
            known[key] = replace(
                result,
                numbers={n: None if v is None else round(100 * v, 4) for n, v in evaluation.numbers.items()},
                cpu_seconds=round(time.process_time() - began, 1),
                command=shlex.join(["mixdet", "eval", str(weights), f"data.val={recipe.data.test.path}"]),
            )
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(known[key])) + "\n")
        if key in known:
            measured.append(known[key])
    return measured


def curves_file(study: str) -> Path:
    """The committed validation curves of a study."""
    return results_file(f"{study}_curves")


def keep_curves(study: str, detectors: Sequence[str], results: Sequence[Result]) -> None:
    """Copy the validation AP50 of the runs that gave ``results`` from their folders; one whose folder is gone stays.

    Of the first of ``detectors`` that a run has.
    """
    recipes = {(r.row, r.seed): r.recipe for r in results}
    file = curves_file(study)
    known = [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []
    curves = {(c["row"], c["seed"]): c for c in known if recipes.get((c["row"], c["seed"])) == c["recipe"]}
    for (row, seed), recipe in recipes.items():
        folder = WORK / "runs" / f"{study}-{row}-{seed}"
        if not folder.is_dir() or digest(RunFolder.open(folder)[1]) != recipe:
            continue
        records = [json.loads(line) for line in RunFolder(folder).metrics.read_text("utf-8").splitlines()]
        keys = [f"val/{detector}/AP50" for detector in detectors]
        key = next(key for key in keys if any(key in r for r in records))
        points = {str(r["step"]): round(100 * r[key], 2) for r in records if key in r}
        curves[row, seed] = {"row": row, "seed": seed, "recipe": recipe, "AP50": points}
    if curves:
        lines = [json.dumps(curves[key]) + "\n" for key in sorted(curves)]
        file.write_text("".join(lines), "utf-8")


def read_curves(studies: Iterable[str]) -> list[dict[str, Any]]:
    """The kept curves of ``studies``: row, seed, recipe and, for each step, AP50 in percent."""
    files = [file for study in studies if (file := curves_file(study)).exists()]
    return [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]


def curves_markdown(*studies: str) -> str:
    """The kept curves as a table: the mean over seeds at each step."""
    curves = read_curves(studies)
    if not curves:
        return "none\n"
    steps = sorted({int(step) for curve in curves for step in curve["AP50"]})
    lines = ["| step | " + " | ".join(map(str, steps)) + " |", "| --- |" + " --: |" * len(steps)]
    for row in dict.fromkeys(curve["row"] for curve in curves):
        at = [[c["AP50"][str(s)] for c in curves if c["row"] == row and str(s) in c["AP50"]] for s in steps]
        lines.append(f"| {row} | " + " | ".join(f"{mean(v):.1f}" if v else "-" for v in at) + " |")
    return "\n".join(lines) + "\n"


def table(study: str, results: Sequence[Result]) -> str:
    """The Markdown table of the study's rows."""
    _, entries, _ = selection([study_file(study)], [], None)
    return comparison_markdown(entries, results)


def of_current_recipes(study: str, file: Path, seeds: Callable[[str], Sequence[int]]) -> tuple[list[Result], list[str]]:
    """Results in ``file`` that the study's rows, with these ``seeds``, would give; STUDY/ROW/SEED of the missing."""
    _, entries, _ = selection([study_file(study)], [], None)
    wanted = {(e.name, seed): digest(e.recipe(seed)) for e in entries for seed in seeds(e.name)}
    results = [r for r in read_results(file) if wanted.get((r.row, r.seed)) == r.recipe]
    have = {(r.row, r.seed) for r in results}
    return results, [f"{study}/{row}/{seed}" for row, seed in wanted if (row, seed) not in have]


def spent(results: Sequence[Result], missing: Sequence[str]) -> str:
    """Commits, cost and what is missing, as the last lines of a page's tables."""
    commits = ", ".join(sorted({r.commit for r in results}))
    hours = sum(r.cpu_seconds for r in results) / 3600
    return (
        f"Commits (+: with changes not committed): {commits}.\n"
        f"{hours:.1f} CPU-hours. Missing ({len(missing)}): {', '.join(missing) or 'none'}.\n"
    )


def write_page(page: str, text: str) -> None:
    """Put ``text`` between the marks of a page."""
    path = HERE / page
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", "utf-8")


def _write(path: Path, names: Iterable[str]) -> None:
    path.write_text("".join(f"{name}\n" for name in names), "utf-8")
