"""Results of runs side by side: the lines of a results file, and the table they make."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mixdet.errors import MixdetError
from mixdet.recipes.recipe import Recipe

# 97.5 % quantiles of Student's t for 1 to 10 degrees of freedom; the last is an upper bound for more
T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)

IF_PRINTED = {
    "APs": "ap_small",
    "APm": "ap_medium",
    "APl": "ap_large",
    "AP teacher, last": "ap_teacher",
    "AP student, last": "ap_student",
}
"""Numbers shown where a paper prints them, and what a study calls them."""


@dataclass(frozen=True)
class Entry:
    """A row to run.

    Attributes:
        name: of the row.
        recipe: seed -> the row's recipe.
        paper: the paper's numbers in percent ("ap", "ap50", ... "ap_student"); empty where it has none.
        note: for the reader of the table.
    """

    name: str
    recipe: Callable[[int], Recipe]
    paper: dict[str, float] = field(default_factory=dict)
    note: str | None = None


@dataclass(frozen=True)
class Result:
    """One line of a results file.

    Attributes:
        study, row, seed: which run.
        split: the data set that the selected weights were measured on, "test" or, without one, "val".
        metric: full name.
        numbers: short name -> percent; besides those of the split, "AP teacher, last" and "AP student, last" (or what
            detectors the method has), of the last step on ``data.val``.
        steps: optimizer steps.
        cpu_seconds: processor time, evaluation included; of an interrupted run, that since it was last resumed.
        recipe: digest of everything that determines the result.
        command: that makes this line.
        commit: of the code, or its version.
    """

    study: str
    row: str
    seed: int
    split: str
    metric: str
    numbers: dict[str, float | None]
    steps: int
    cpu_seconds: float
    recipe: str
    command: str
    commit: str


def read_results(path: Path) -> list[Result]:
    """The lines of a results file; none if there is no file.

    Raises:
        MixdetError: a line that is no result, a file that is no text.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise MixdetError(f"{path}: the text is not UTF-8, so not results; name another file with --results") from None
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(Result(**json.loads(line)))
        except (TypeError, json.JSONDecodeError) as fault:
            raise MixdetError(
                f"{path}, line {number}: not a result ({fault}); remove the line, or name another file with --results"
            ) from None
    return found


def comparison_rows(entries: Sequence[Entry], results: Sequence[Result]) -> list[list[str]]:
    """A heading, then for each row mean and spread, the paired difference to the first row, and the paper's number."""
    metrics = [name for name in ("AP", "AP50", "AP75") if any(name in r.numbers for r in results)]
    metrics += [name for name, key in IF_PRINTED.items() if any(key in entry.paper for entry in entries)]
    papers = any(entry.paper for entry in entries)
    heading = ["row"]
    for metric in metrics:
        heading += [metric, f"{metric} - {entries[0].name}", *(["paper"] if papers else [])]
    rows = [heading]
    for entry in entries:
        cells = [entry.name]
        for metric in metrics:
            own, first = (of_row(results, name, metric) for name in (entry.name, entries[0].name))
            paper = entry.paper.get(IF_PRINTED.get(metric, metric.lower()))
            difference = "" if entry is entries[0] else interval(paired(own, first))
            cells += [spread(list(own.values())), difference]
            cells += ["" if paper is None else f"{paper:.2f}"] if papers else []
        rows.append(cells)
    return rows


def comparison_table(title: str, entries: Sequence[Entry], results: Sequence[Result]) -> Group:
    """``comparison_rows`` for a terminal, one block a metric, so that 80 columns hold it."""
    heading, *rows = comparison_rows(entries, results)
    width = 3 if "paper" in heading else 2
    blocks: list[RenderableType] = [Text(title, "bold")]
    for start in range(1, len(heading), width):
        table = Table(box=None)
        for index, name in enumerate(["row", *heading[start : start + width]]):
            table.add_column(name, justify="right" if index else "left")
        for row in rows:
            table.add_row(row[0], *row[start : start + width])
        blocks += ["", table]
    return Group(*blocks)


def comparison_markdown(entries: Sequence[Entry], results: Sequence[Result]) -> str:
    """``comparison_rows`` as a Markdown table."""
    heading, *rows = comparison_rows(entries, results)
    rule = ["---", *["--:"] * (len(heading) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (heading, rule, *rows))


def of_row(results: Sequence[Result], row: str, metric: str) -> dict[int, float]:
    """Seed -> percent of one row, where it is defined."""
    return {r.seed: value for r in results if r.row == row and (value := r.numbers.get(metric)) is not None}


def paired(own: dict[int, float], other: dict[int, float]) -> list[float]:
    """Differences seed by seed, over the seeds that both have."""
    return [own[seed] - other[seed] for seed in sorted(own.keys() & other.keys())]


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    if not values:
        return "-"
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f} (n={len(values)})" if len(values) > 1 else " (n=1)")


def interval(differences: Sequence[float]) -> str:
    """Mean and 95 % interval (Student's t) of paired differences."""
    if len(differences) < 2:
        return "-" if not differences else f"{differences[0]:+.2f}"
    half = half_width(differences)
    return f"{mean(differences):+.2f} [{mean(differences) - half:+.2f}, {mean(differences) + half:+.2f}]"


def half_width(differences: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of at least two differences."""
    quantile = T_QUANTILES[min(len(differences) - 1, len(T_QUANTILES)) - 1]
    return quantile * stdev(differences) / math.sqrt(len(differences))
