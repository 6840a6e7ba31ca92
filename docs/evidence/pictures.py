"""Draw the curves and gains of semi_supervised.md from its committed results.

    uv run --group docs python docs/evidence/pictures.py

Run it from the repository's root, after semi_supervised.py.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import mean

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from running import of_current_recipes, read_curves, results_file

from mixdet.runs.results import Result, half_width, of_row, paired
from semi_supervised import SETS, seeds_of

IMAGES = Path("docs/images")
TITLES = {
    "semi_bccd_10": "blood cells, 10 labelled",
    "semi_bccd_20": "blood cells, 20 labelled",
    "semi_scenes": "drawn scenes, 40 labelled",
    "semi_fod_5": "small objects, 32 labelled",
}
GRID = (2, 2)  # panels
COLOURS = {"supervised": "#777777", "mum": "#d1495b", "unbiased_teacher": "#2e6f95", "stac": "#c98a1b"}
NAMES = {
    "supervised": "supervised",
    "mum": "MUM",
    "unbiased_teacher": "Unbiased Teacher",
    "stac": "STAC",
    "mum_reference": "MUM, authors' tiles",
    "mum_lossmix": "MUM + LossMix",
    "unbiased_teacher_lossmix": "Unbiased Teacher + LossMix",
}
DOTS = 120  # a picture's pixels an inch


def draw_curves(path: Path) -> None:
    """AP50 of the teacher on validation after the burn-in: mean and range over seeds (dotted: not all yet)."""
    figure, panels = plt.subplots(*GRID, figsize=(9, 6), layout="constrained")
    for axes, (name, title) in zip(panels.flat, TITLES.items(), strict=True):
        lines = read_curves(SETS[name])
        for row, colour in COLOURS.items():
            wanted = {seed for study in SETS[name] for seed in seeds_of(study, row)}
            curves = [line["AP50"] for line in lines if line["row"] == row and line["seed"] in wanted]
            if not curves:
                continue
            steps = sorted(set.intersection(*({int(step) for step in curve} for curve in curves)))[1:]
            values = [[curve[str(step)] for curve in curves] for step in steps]
            style = "-" if len(curves) == len(wanted) else ":"
            axes.plot(steps, [mean(v) for v in values], style, color=colour, marker="o", markersize=3)
            axes.fill_between(steps, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.12, lw=0)
        _plain(axes, title)
        axes.set_xlabel("student step")
    for axes in panels[:, 0]:
        axes.set_ylabel("teacher's AP50, validation")
    handles = [Line2D([], [], color=colour, marker="o", label=NAMES[row]) for row, colour in COLOURS.items()]
    figure.legend(handles=handles, frameon=False, ncols=len(handles), loc="outside lower center")
    figure.savefig(path, dpi=DOTS)


def draw_gains(path: Path) -> None:
    """AP on test of each row less that of the supervised one, last step's teachers: a dot a seed, mean and interval."""
    figure, panels = plt.subplots(*GRID, figsize=(9, 4.6), layout="constrained", sharey=True)
    rows = [row for row in NAMES if row != "supervised"]
    for axes, (name, title) in zip(panels.flat, TITLES.items(), strict=True):
        results = list[Result]()
        for study in SETS[name]:
            results += of_current_recipes(study, results_file(f"{study}_last"), partial(seeds_of, study))[0]
        axes.axvline(0, color="#777777", lw=1)
        for height, row in enumerate(reversed(rows)):
            gains = paired(of_row(results, row, "AP"), of_row(results, "supervised", "AP"))
            colour = COLOURS.get(row, "#5b8c5a")
            axes.plot(gains, [height] * len(gains), "o", color=colour, markersize=4, alpha=0.5, mew=0)
            if len(gains) > 2:  # of two the interval is wider than any picture
                axes.errorbar(mean(gains), height, xerr=half_width(gains), color=colour, fmt="|", ms=10, capsize=3)
        _plain(axes, title)
        axes.set_yticks(range(len(rows)), [NAMES[row] for row in reversed(rows)])
        axes.set_ylim(-0.5, len(rows) - 0.5)
        axes.set_xlabel("AP - supervised, test")
    figure.savefig(path, dpi=DOTS)


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)


def main() -> None:
    draw_curves(IMAGES / "semi_curves.png")
    draw_gains(IMAGES / "semi_gains.png")


if __name__ == "__main__":
    main()
