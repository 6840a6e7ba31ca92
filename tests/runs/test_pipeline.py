"""Stages: fit, label, fit; interrupted anywhere and resumed, the same parameters."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from mixdet.data import DetectionDataset, open_dataset
from mixdet.data.unlabeled import open_unlabeled
from mixdet.errors import MixdetError
from mixdet.methods import STAC
from mixdet.recipes import Recipe, load_recipe
from mixdet.recipes.load import stage_recipes
from mixdet.recipes.stage import LabelsSection
from mixdet.runs import commands, labelling, pipeline
from mixdet.runs import data as data_module
from mixdet.runs import fit as fit_module
from mixdet.runs.build import build_detector
from mixdet.runs.data import Data
from mixdet.runs.labelling import Given, label_images
from mixdet.runs.streams import open_stream
from mixdet.structures import Detections
from mixdet.training.distributed import World
from mixdet.training.weights import WeightsCard, read_card, read_weights
from recipes_for_tests import QUICK, quick_recipe

POOL = "data.unlabeled=scenes:photo/train,count=20,size=96"  # eight of them not labelled
STAGES = (
    "stages=[{name: first, overrides: ['method={name: supervised}', data.unlabeled=null, schedule.steps=3]}, "
    "{name: second, labels: {by: [first], rule: fallback, score_threshold: 0.9}}]"
)


def staged(out: Path, *words: str) -> Recipe:
    return quick_recipe(
        out, POOL, STAGES, "method={name: stac}", "data.strong=rand_augment", "schedule.steps=3", *words
    )


def weights(folder: Path) -> dict[str, Tensor]:
    return read_weights(folder / "weights" / "student-last.safetensors")[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("stages") / "whole"
    result = commands.train(staged(out))
    assert (result.folder, result.step, result.exit_code) == (out, 3, 0)
    assert result.shipped is not None
    assert result.shipped.parent == out / "weights"
    assert "student" in result.val
    return out


def test_what_a_staged_run_leaves(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        "recipe.yaml", "env.json", "data.json", "first", "second", "labels", "weights", "images", "metrics.jsonl"
    }  # fmt: skip
    assert torch.equal(
        torch.cat([t.flatten().float() for t in weights(whole).values()]),
        torch.cat([t.flatten().float() for t in weights(whole / "second").values()]),
    )
    assert read_card(whole / "weights" / "student-last.safetensors").classes
    again = load_recipe(whole / "recipe.yaml")
    assert again == staged(whole)
    assert commands.predict(whole, [whole / "images"], score=0.9).files  # it is a run folder like any other


def test_labels_are_the_detections_of_the_stage_before(whole: Path) -> None:
    labels = json.loads((whole / "labels" / "second.json").read_text())
    names = {image["id"]: image["file_name"] for image in labels["images"]}
    assert 0 < len(names) <= 8
    assert not {f"scenes:photo/train#{i}" for i in range(12)} & set(names.values())  # no labelled image
    assert {row["image_id"] for row in labels["annotations"]} == set(names)
    assert all(0 < row["score"] <= 1 for row in labels["annotations"])
    best = {i: max(r["score"] for r in labels["annotations"] if r["image_id"] == i) for i in names}
    assert all(r["score"] >= min(0.9, best[r["image_id"]]) - 1e-6 for r in labels["annotations"])


class Killed(BaseException):
    """A process that ends here."""


@pytest.mark.parametrize(
    "where",
    [
        "first",
        "before labelling",
        "while labelling",
        "before a checkpoint",
        "second",
        "before the end",
        "last of first",
    ],
)
def test_a_run_that_ends_early_anywhere_ends_the_same(
    where: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "parts"
    with monkeypatch.context() as patch:
        if where == "before labelling":
            patch.setattr(pipeline, "label_images", _killed)
        elif where == "while labelling":
            patch.setattr(labelling, "write_detections", _killed)
        elif where == "before the end":
            patch.setattr(pipeline.shutil, "copytree", _killed)
        elif where == "before a checkpoint":
            _kill_before_a_checkpoint("second", patch)
        else:
            _stop_in_stage(where.rpartition(" ")[2], 2 if where.startswith("last") else 1, patch)
        if where.startswith(("before", "while")):
            with pytest.raises(Killed):
                commands.train(staged(out))
        else:
            result = commands.train(staged(out))
            assert (result.folder, result.exit_code) == (out, 143)
    done = commands.resume(out)
    assert (done.folder, done.step, done.exit_code) == (out, 3, 0)
    expected, found = weights(whole), weights(out)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def _killed(*args: object, **keywords: object) -> None:
    raise Killed


def _kill_before_a_checkpoint(stage: str, patch: pytest.MonkeyPatch) -> None:
    """After steps of that stage, none of them kept."""
    save = fit_module.save_checkpoint

    def save_or_end(folder: Path, *rest: object) -> None:
        if folder.parent.name == stage:
            assert not any(folder.glob("step-*"))
            raise Killed
        save(folder, *rest)  # type: ignore[arg-type]

    patch.setattr(fit_module, "save_checkpoint", save_or_end)


def _stop_in_stage(stage: str, step_of_stage: int, patch: pytest.MonkeyPatch) -> None:
    """SIGTERM during that step of that stage."""
    from mixdet.training import loop

    make_step, fit = loop.Step, pipeline.fit
    at: list[str] = []

    def fit_of(recipe: Recipe, name: str, **keywords: object) -> object:
        at.append(name)
        return fit(recipe, name, **keywords)  # type: ignore[arg-type]

    def step(index: int, *rest: object) -> object:
        if at[-1:] == [stage] and index == step_of_stage:
            at.clear()
            os.kill(os.getpid(), signal.SIGTERM)
        return make_step(index, *rest)  # type: ignore[arg-type]

    patch.setattr(pipeline, "fit", fit_of)
    patch.setattr(loop, "Step", step)


def test_a_labeller_that_finds_nothing_is_said(tmp_path: Path) -> None:
    nothing = STAGES.replace("rule: fallback, score_threshold: 0.9", "rule: threshold, score_threshold: 1")
    with pytest.raises(
        MixdetError, match=r"^stages\.second\.labels\.score_threshold=1: first found no such box in any of the 8 "
    ):
        commands.train(staged(tmp_path / "run", nothing))


def test_a_damaged_photo_gets_no_labels_and_stops_no_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "DECODED_FIRST", 0)  # as if the pool were too large to be decoded before step 1
    pool = open_dataset("scenes:photo/train,count=4,size=96")
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(4):
        Image.fromarray(pool.image(i).permute(1, 2, 0).numpy()).save(photos / f"{i}.png")
    damaged = photos / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    everything = STAGES.replace("score_threshold: 0.9", "score_threshold: 0.9, empty: true")
    console = Console(file=io.StringIO(), width=200)
    result = commands.train(staged(tmp_path / "run", everything, f"data.unlabeled={photos}"), console=console)
    assert result.exit_code == 0
    labels = json.loads((tmp_path / "run" / "labels" / "second.json").read_text())
    assert [image["file_name"] for image in labels["images"]] == ["0.png", "1.png", "3.png"]
    assert "1 of 4 unlabelled images cannot be read and got no labels: " in console.file.getvalue()  # type: ignore[attr-defined]


def test_what_labelling_came_to_is_said() -> None:
    given = Given("stages.second.labels", ("first",), "photos", 10, (), 8, ("cat", "{dog}"), (9.0, 0.0), (2.0, 0.5))
    said = [line for line, _ in given.lines()]
    assert said[0] == "photos: 72 boxes in 8 of 10 unlabelled images, found by first: 9.0 an image (labelled 2.5)"
    assert said[1].startswith("class {dog} got no box (0.50 labelled ones an image)")
    assert said[2].startswith("9.0 boxes an image against 2.5 labelled ones: too much is found")
    assert [line.count("ask for less in stages.second.labels") for line in said] == [0, 1, 0]
    few = [line for line, _ in replace(given, boxes=(0.5, 0.1)).lines()]
    assert few[1].startswith(
        "0.60 boxes an image against 2.50 labelled ones: what is not found is taught as background"
    )
    fine = replace(given, boxes=(2.0, 0.4))
    assert len([*fine.lines()]) == 1


def test_unlabelled_images_have_their_own_batch_size_with_labels_too(whole: Path) -> None:
    recipe = stage_recipes(staged(whole, "data.unlabeled_batch_size=2"), whole)[1]
    data, streams = Data.open(recipe), STAC(build_detector(recipe.detector, 8)).streams
    sizes = {
        stream.name: len(next(open_stream(recipe, data, stream, own_shards=range(1), start=0, stride=32)).weak.names)
        for stream in streams
    }
    assert sizes == {"labeled": 4, "unlabeled": 2}


class Labeler:
    """Finds the same boxes in every image: class 0 at 0.9 and 0.5, class 1 at 0.4."""

    path = Path("labeler")

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.card = WeightsCard(classes, tuple(range(1, len(classes) + 1)), {}, 96, 96, 1, "student", {})

    def stream(self, pool: DetectionDataset, batch_size: int, workers: int) -> list[Detections]:
        boxes = torch.tensor([[4.0, 4, 20, 20], [30, 30, 60, 60], [10, 40, 30, 70]])
        return [Detections(boxes, torch.tensor([0, 0, 1]), torch.tensor([0.9, 0.5, 0.4]))] * len(pool)


@pytest.mark.parametrize(("each", "kept"), [((1, 0), [0.9]), ((2, 1), [0.9, 0.5, 0.4]), ((1, 1), [0.9, 0.4])])
def test_matched_labels_are_as_many_as_labelled_boxes(each: tuple[int, int], kept: list[float], tmp_path: Path) -> None:
    pool = open_unlabeled("scenes:photo/train,count=3,size=96")
    classes = [0] * each[0] + [1] * each[1]
    labeled = DetectionDataset.from_rows(
        "labelled", pool.subset([0]).images, ("a", "b"), sizes=[[96, 96]], image_index=[0] * len(classes),
        boxes=[[0, 0, 9, 9]] * len(classes), labels=classes,
    )  # fmt: skip
    section = LabelsSection(by=("first",), rule="matched")
    out = tmp_path / "labels.json"
    labeler: Any = Labeler(("a", "b"))
    found = label_images(section, "stages.second.labels", [labeler], pool, labeled, out, World(), Console(quiet=True))
    assert (found.asked, found.images, found.boxes) == (3, 3, each)
    scores = [row["score"] for row in json.loads(out.read_text())["annotations"]]
    assert scores == pytest.approx(kept * 3)


def test_everything_is_checked_before_the_first_stage(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(MixdetError, match="no such"):
        commands.train(staged(out, "data.unlabeled=nowhere/"))
    assert not out.exists()


def test_a_name_that_label_files_cannot_hold_is_refused_first(tmp_path: Path) -> None:
    out, pool = tmp_path / "run", tmp_path / "pool"
    pool.mkdir()
    for name in (b"a.png", b"caf\xe9.png"):
        try:
            Image.new("RGB", (64, 64)).save(pool / os.fsdecode(name))
        except OSError:
            pytest.skip("this file system has no such names")
    with pytest.raises(MixdetError, match=r"^data\.unlabeled: image .*caf.*: the name is not UTF-8; rename the file"):
        commands.train(staged(out, f"data.unlabeled={pool}"))
    assert not out.exists()


def test_a_run_goes_on_with_the_data_it_began_with_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "label_images", _killed)
        with pytest.raises(Killed):
            commands.train(staged(out))
    text = (out / "recipe.yaml").read_text()
    (out / "recipe.yaml").write_text(text.replace("photo/train,count=20", "photo/train,count=22"))
    with pytest.raises(MixdetError, match=r"^data\.unlabeled of stage second: its images or boxes are not those"):
        commands.resume(out)


def test_what_is_done_and_cleared_is_not_done_again(whole: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    text = (copy / "recipe.yaml").read_text()
    (copy / "recipe.yaml").write_text(text.replace(str(whole), str(copy)))
    shutil.rmtree(copy / "second" / "checkpoints")
    before = {path: path.read_bytes() for path in (copy / "second" / "weights").iterdir()}
    with pytest.raises(MixdetError, match="the stage is done; start again"):
        commands.resume(copy)
    assert {path: path.read_bytes() for path in (copy / "second" / "weights").iterdir()} == before


def test_without_pictures(tmp_path: Path) -> None:
    result = commands.train(staged(tmp_path / "run", "evaluation.visualize=0"))
    assert result.shipped is not None
    assert result.shipped.is_file()


PHASES = (
    "stages=[{name: a, overrides: ['method={name: supervised}', data.unlabeled=null, schedule.steps=3]}, "
    "{name: b, labels: {by: [a], rule: fallback, share: 0.5}}, "
    "{name: c, labels: {by: [b], rule: fallback, empty: true}}]"
)


def test_three_phases_ship_an_ensemble(tmp_path: Path) -> None:
    words = (POOL, PHASES, "ensemble=[1, 1, 2]", "method={name: multi_phase}", "schedule.steps=3")
    test = ("data.test=scenes:photo/test,count=4,size=96", "evaluation.score_threshold=0.01")
    result = commands.train(quick_recipe(tmp_path / "run", *words, *test))
    assert result.shipped == tmp_path / "run" / "weights" / "ensemble-last.safetensors"
    assert list(result.val) == ["ensemble"]
    assert result.test is not None
    assert result.test == commands.evaluate(tmp_path / "run", split="test")
    fewer = commands.evaluate(tmp_path / "run", ["evaluation.score_threshold=0.5"], split="test")
    assert fewer.detections < result.test.detections
    files = {name: json.loads((tmp_path / "run" / "labels" / f"{name}.json").read_text()) for name in ("b", "c")}
    assert 0 < len(files["b"]["images"]) <= 4  # half of the pool
    assert len(files["c"]["images"]) == 8  # all of it, boxes or not
    card = read_card(result.shipped)
    assert card.which == "ensemble"
    assert card.scores["AP"] == result.val["ensemble"].numbers["AP"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("method={name: stac}", POOL), "data.unlabeled.labels: learns from labels|learns from labels that an earlier"),
        ((POOL, STAGES.replace("by: [first]", "by: [last]")), "names 'last', which must be one of first"),
        ((POOL, STAGES.replace("name: second", "name: labels")), "is what the run keeps there; name the stage"),
        ((POOL, STAGES.replace("schedule.steps=3", "run.devices=2")), "stage first: .*belongs to the whole run"),
        (
            (POOL, STAGES.replace("schedule.steps=3", "detector.body=resnet18"), "ensemble=[1, 1]"),
            r"ensemble: detector.body differs between the stages \(resnet18, tiny\)",
        ),
        ((POOL, STAGES, "ensemble=[1]"), "needs a weight for each of the 2 stages"),
        ((POOL, STAGES.replace("name: second", "name: first")), "names two stages; names must differ"),
        ((STAGES,), "labels unlabelled images; give data.unlabeled=FOLDER"),
        (
            (POOL, STAGES.replace("schedule.steps=3", "schedule.step=3")),
            r"^stage first: .*schedule\.step.*did you mean",
        ),
        ((POOL, STAGES.replace("rule: fallback", "rule: falback")), "did you mean 'fallback'"),
    ],
)
def test_stages_that_cannot_be(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(MixdetError, match=message):
        load_recipe("lossmix_small", [*QUICK, f"run.out={tmp_path}", *words])
