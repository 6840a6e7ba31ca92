"""Which weights a run ships."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mixdet.data.opencv import decoder
from mixdet.detectors import PRESETS, FasterRCNN, build_backbone
from mixdet.errors import MixdetError
from mixdet.runs.folder import RunFolder
from mixdet.training.distributed import World
from mixdet.training.weights import WeightsCard, save_weights
from recipes_for_tests import quick_recipe

CARD = WeightsCard(("cat",), (1,), {}, 96, 96, 5, "student", {"AP": 0.5, "AP50": 0.6})


def test_the_better_of_teacher_and_student_by_the_recipes_number(tmp_path: Path) -> None:
    folder = RunFolder.create(quick_recipe(tmp_path / "run", "evaluation.select_by=ap50"), "x")
    detector = FasterRCNN(1, build_backbone("tiny", 64), PRESETS["tiny"])
    with pytest.raises(MixdetError, match="no weights before the first evaluation"):
        folder.shipped()
    for name in ("student", "teacher"):
        save_weights(folder.weights(name, "last"), detector, CARD)
    assert folder.shipped() == folder.weights("teacher", "last")
    save_weights(folder.weights("student", "best"), detector, CARD)
    assert folder.shipped() == folder.weights("student", "best")
    save_weights(folder.weights("teacher", "best"), detector, replace(CARD, scores={"AP": 0.9, "AP50": 0.59}))
    assert folder.shipped() == folder.weights("student", "best")
    save_weights(folder.weights("teacher", "best"), detector, replace(CARD, scores={"AP": 0.4, "AP50": 0.6}))
    assert folder.shipped() == folder.weights("teacher", "best")


def test_new_runs_get_new_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = quick_recipe(tmp_path, "run.out=null")
    assert [RunFolder.create(recipe, "quickstart").root for _ in range(3)] == [
        Path("runs") / f"quickstart-{n}" for n in (1, 2, 3)
    ]


def test_the_environment_says_what_decodes_images(tmp_path: Path) -> None:
    folder = RunFolder.create(quick_recipe(tmp_path / "run"), "x")
    folder.write_environment(World())
    assert json.loads((folder.root / "env.json").read_text())["decoder"] == decoder()
