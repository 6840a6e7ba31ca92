"""MUM's studies run as they stand: every row is built at its own size, three take steps on stand-in data."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from mixdet.methods import METHODS, Method
from mixdet.recipes import Recipe, load_recipe, load_study, study_names
from mixdet.recipes.load import stage_recipes
from mixdet.runs.build import build_detector, build_method, build_schedule
from mixdet.runs.dry_run import dry_runs
from mixdet.structures import as_module

MUM = [name for name in study_names() if name.startswith("mum")]
TINY = ["detector.body=tiny", "detector.preset=tiny", "detector.weights=none", "detector.frozen_stages=0"]


def _fits(recipe: Recipe) -> list[Recipe]:
    """The recipe, or those of its stages."""
    return stage_recipes(recipe, Path("run")) or [recipe]


def _distinct() -> Iterator[tuple[str, Recipe]]:
    """A fit of each network and method that any row has."""
    seen = set()
    for name in MUM:
        study = load_study(name)
        for row in study.rows:
            for fit in _fits(study.recipe_of(row)):
                parts = {"method": fit.method, "detector": fit.detector, "schedule": fit.schedule}
                key = json.dumps({part: section.model_dump(mode="json") for part, section in parts.items()})
                if key not in seen:
                    seen.add(key)
                    yield f"{name}, {row.name}", fit


def _built(recipe: Recipe, classes: int) -> Method:
    with torch.device("meta"):  # no memory, no initialisation: only what is where
        return build_method(recipe.method, build_detector(recipe.detector, classes, weights=False))


def test_every_row_is_built_as_it_stands() -> None:
    for name, recipe in _distinct():
        method = _built(recipe, 20)
        assert type(method) is METHODS[recipe.method.name], name
        steps = build_schedule(recipe).steps
        factors = [build_schedule(recipe).factor(step) for step in (1000, steps - 1)]
        assert factors[0] == 1, name
        assert factors[1] == pytest.approx(recipe.schedule.gamma ** len(recipe.schedule.milestones)), name


def test_what_detectron2_freezes_is_frozen() -> None:
    student = as_module(_built(load_recipe("mum_coco"), 80).detectors()["student"])
    assert {n.split(".")[2] for n, p in student.named_parameters() if not p.requires_grad} == {"conv1", "layer1"}


@pytest.mark.parametrize(
    ("study", "row", "phases"),
    [
        ("mum_table1", "stac_mum_1", [["plain"] * 4, ["taught"] * 4]),  # warm-up, three learning rates; each stage
        ("mum_table1", "instant_teaching_1", [["taught"] * 4]),
        ("mum_table2", "csd", [["taught"] * 4]),
        ("mum_table2", "mum_coco20", [["taught"] * 3]),  # warm-up, the rest of the ramp, what follows
        ("mum_supervised", "mum", [["plain"] * 4]),
    ],
)
def test_a_row_enters_every_phase(
    study: str, row: str, phases: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = load_study(study)
    runs = dry_runs([(row, found.recipe_of(found.row(row), TINY))], Console(quiet=True))
    assert [list(run.phases) for run in runs] == phases
    assert all(0 < loss < 50 for run in runs for loss in run.losses)
    assert {run.evaluation.metric.split(" @")[0] for run in runs if run.evaluation} == {"COCO AP"}
    assert not list(tmp_path.iterdir())
