"""An ensemble as one weights file, used like any other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mixdet.cli.main import main
from mixdet.detectors import Ensemble
from mixdet.errors import MixdetError
from mixdet.recipes.detector import DetectorSection
from mixdet.recipes.ensemble import EnsembleSection
from mixdet.recipes.recipe import SourceSection
from mixdet.runs.build import build_detector
from mixdet.runs.commands import evaluate
from mixdet.runs.data import build_dataset
from mixdet.runs.ensemble import write_ensemble
from mixdet.runs.infer import load_trained
from mixdet.training.weights import WeightsCard, read_card, read_weights, save_weights

SECTION = DetectorSection(body="tiny", weights="none")
SCENES = "scenes:photo/val,count=3,size=96"
CLASSES = build_dataset(SourceSection(path=SCENES)).classes
CARD = WeightsCard(
    CLASSES, tuple(range(1, len(CLASSES) + 1)), SECTION.model_dump(mode="json"), 96, 96, 7, "student", {"AP50": 0.5}
)
CPU = torch.device("cpu")


def member(path: Path, seed: int, **changed: Any) -> Path:
    card = replace(CARD, **changed)
    torch.manual_seed(seed)
    section = DetectorSection.model_validate(card.detector)
    save_weights(path, build_detector(section, len(card.classes), weights=False), card)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("members")
    return [member(folder / f"{n}.safetensors", n, step=n) for n in range(3)]


@pytest.fixture(scope="module")
def fused(files: list[Path]) -> Path:
    out = files[0].parent / "fused" / "all.safetensors"
    write_ensemble(files, [0.7, 1.0, 1.7], out)
    return out


def test_the_file_holds_every_member_and_what_they_are(files: list[Path], fused: Path) -> None:
    tensors, card = read_weights(fused)
    for n, file in enumerate(files):
        own, _ = read_weights(file)
        assert all(torch.equal(tensors[f"{n}.{name}"], value) for name, value in own.items())
    assert card == replace(CARD, detector=card.detector, step=2, which="ensemble", scores={})
    section = EnsembleSection.model_validate(card.detector)
    assert section == EnsembleSection(members=(SECTION,) * 3, weights=(0.7, 1.0, 1.7))
    assert (section.iou, section.skip) == (0.6, 1e-4)


def test_what_is_loaded_predicts_as_its_members_together(files: list[Path], fused: Path) -> None:
    trained = load_trained(fused, CPU)
    assert isinstance(trained.detector, Ensemble)
    assert not trained.detector.training
    dataset = build_dataset(SourceSection(path=SCENES))
    members = [load_trained(file, CPU).detector for file in files]
    by_hand = Ensemble(members, [0.7, 1.0, 1.7])
    found = trained.detect(dataset)
    expected = type(trained)(by_hand.eval(), trained.card, fused, CPU).detect(dataset)
    for mine, other in zip(found, expected, strict=True):
        assert torch.equal(mine.boxes, other.boxes)
        assert torch.equal(mine.scores, other.scores)
    assert sum(len(f) for f in found) > 0


def test_eval_and_predict_take_it(fused: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(fused, [f"data.val={SCENES}", "run.device=cpu"]).metric
    (tmp_path / "images").mkdir()
    from PIL import Image

    Image.new("RGB", (96, 64)).save(tmp_path / "images" / "a.png")
    words = ["predict", str(fused), str(tmp_path / "images"), "--out", str(tmp_path / "found"), "--score", "0.0"]
    assert main(words) == 0
    content = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert {c["name"] for c in content["categories"]} == set(CLASSES)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"short_side": 64},
            r"short_side=64, not 96 as in .*0\.safetensors; an ensemble's detectors share classes, ",
        ),
        ({"classes": tuple(reversed(CLASSES))}, "classes="),
        ({"category_ids": tuple(range(len(CLASSES)))}, "category_ids="),
        (
            {"detector": {**CARD.detector, "body": "resnet18"}},
            r"different colours \(their bodies: tiny, resnet18\); use bodies with the same normalisation",
        ),
    ],
)
def test_members_that_do_not_go_together(files: list[Path], tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    other = member(tmp_path / "other.safetensors", 0, **changed)
    with pytest.raises(MixdetError, match=said) as caught:
        write_ensemble([files[0], other], [1.0, 1.0], tmp_path / "out.safetensors")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_weights_and_members_of_their_own_kind(files: list[Path], fused: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    for weights in ([1.0], [1.0, 0.0], []):
        with pytest.raises(MixdetError, match="give each a number above 0"):
            write_ensemble(files[:2] if weights else [], weights, out)
    with pytest.raises(MixdetError, match=r"all\.safetensors: is an ensemble itself"):
        write_ensemble([fused], [1.0], out)
    assert read_card(fused).which == "ensemble"
