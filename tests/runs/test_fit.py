"""What a run does beside training."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from mixdet.detectors import TwoHeadRCNN
from mixdet.errors import MixdetError
from mixdet.evaluation import Evaluation
from mixdet.recipes import load_recipe
from mixdet.runs import commands
from mixdet.runs.data import Data
from mixdet.runs.infer import load_trained
from mixdet.runs.journal import build_health
from mixdet.structures import Step
from mixdet.training.checkpoint import latest_checkpoint
from mixdet.training.weights import read_card
from recipes_for_tests import quick_recipe


def test_bf16_trains_with_parameters_and_losses_in_float32(tmp_path: Path) -> None:
    result = commands.train(
        quick_recipe(tmp_path / "run", "schedule.steps=2", "run.precision=bf16", "method.mix=lossmix")
    )
    assert (result.step, result.exit_code) == (2, 0)
    state = latest_checkpoint(tmp_path / "run" / "checkpoints")[0].method
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(0 < line["loss"] < 10 for line in lines if "loss" in line)


def test_a_loss_that_is_not_finite_names_the_term_and_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mixdet.detectors.roi import RoIHeads
    from mixdet.structures import Losses

    losses = RoIHeads.losses
    monkeypatch.setattr(
        RoIHeads, "losses", lambda *args: losses(*args).merge(Losses({"roi_box": torch.tensor(float("nan"))}))
    )
    with pytest.raises(MixdetError, match=r"step 1: loss roi_box is nan; images: scenes:photo/train,size=96#\d+, "):
        commands.train(quick_recipe(tmp_path / "run", "schedule.steps=2"))


def test_two_targets_and_half_mixed_batches_train(tmp_path: Path) -> None:
    words = ("schedule.steps=2", "method.mix=lossmix", "method.two_targets=true", "method.mixed_fraction=0.5")
    result = commands.train(quick_recipe(tmp_path / "run", *words))
    assert result.exit_code == 0
    assert result.val["student"].images == 4


def _nan_at(monkeypatch: pytest.MonkeyPatch, *calls: int) -> None:
    """The n-th losses of the RoI head (an image batch each) are not numbers."""
    from mixdet.detectors.roi import RoIHeads
    from mixdet.structures import Losses

    losses, count = RoIHeads.losses, iter(range(10**6))

    def spoiled(*args: object) -> Losses:
        found = losses(*args)  # type: ignore[arg-type]
        return found * float("nan") if next(count) in calls else found

    monkeypatch.setattr(RoIHeads, "losses", spoiled)


def test_a_run_goes_back_to_its_last_checkpoint_at_half_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the one before, if it fails again on the way."""
    _nan_at(monkeypatch, 3, 5)  # in step 4 of the first attempt, and again in step 4 of the second
    words = ("run.checkpoint_every=2", "run.rollbacks=2", "schedule={name: constant, steps: 5, warmup_steps: 0}")
    assert commands.train(quick_recipe(tmp_path / "run", *words)).step == 5
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    alarms = [line["alarm"] for line in lines if "alarm" in line]
    assert len(alarms) == 1  # the first was of step 2, which is done again too
    assert alarms[0].startswith("step 4: loss ")
    assert alarms[0].endswith("back at step 0, from here on at 0.25 of the learning rate")
    rates = {line["step"]: line["lr"] for line in lines if "lr" in line}
    assert [line["step"] for line in lines if "lr" in line] == [1, 2, 3, 4, 5]  # what was done again is told once
    assert rates[5] == pytest.approx(1e-3 / 4)
    checkpoint, _ = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint.notes["rollbacks"] == 2


def test_the_first_steps_can_be_taken_back_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a teacher, whose weights go back with the student's: the run is one at half the rate from the start."""
    words = (POOL, "method={name: mum, score_threshold: 0.1, decay: {value: 0.5, burn_in_steps: 1}}", "optim.lr=1e-3")
    half = quick_recipe(tmp_path / "half", *words, "optim.lr=5e-4", "schedule.steps=3")
    commands.train(half)
    _nan_at(monkeypatch, 2)
    commands.train(quick_recipe(tmp_path / "run", *words, "run.rollbacks=1", "schedule.steps=3"))
    found, expected = (latest_checkpoint(tmp_path / name / "checkpoints")[0].method for name in ("run", "half"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_a_rollback_does_not_undo_the_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.2, 0.4, 0.6, 0.5, 0.3])  # of steps 1 to 3, then of 3 and 4 at half the rate
    monkeypatch.setattr("mixdet.runs.outputs.evaluate", lambda *_, **__: _scored(next(scores)))
    _nan_at(monkeypatch, 3)
    words = ("run.checkpoint_every=2", "run.rollbacks=1", "evaluation.every=1", "schedule.steps=4")
    assert commands.train(quick_recipe(tmp_path / "run", *words)).step == 4
    assert next(scores, None) is None
    assert read_card(tmp_path / "run" / "weights" / "student-best.safetensors").scores == {"AP": 0.6}


def _scored(ap: float) -> Evaluation:
    return Evaluation("COCO AP", ap, {"AP": ap}, {}, images=4, boxes=1, detections=1)


def _nan_gradient_at(monkeypatch: pytest.MonkeyPatch, *calls: int) -> None:
    """The n-th losses of the RoI head are what they are, and their gradients are not numbers."""
    from mixdet.detectors.roi import RoIHeads
    from mixdet.structures import Losses

    losses, count = RoIHeads.losses, iter(range(10**6))

    def spoiled(*args: Any) -> Losses:
        found: Losses = losses(*args)
        infinite_slope = 0 * (0 * args[1][0]).abs().sum().sqrt()  # 0, and 0 times infinity backward
        return found.merge(Losses({"roi_cls": infinite_slope})) if next(count) in calls else found

    monkeypatch.setattr(RoIHeads, "losses", spoiled)


@pytest.mark.parametrize("clip", ["null", "10"])
def test_a_gradient_that_is_not_finite_reaches_neither_student_nor_teacher(
    clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _nan_gradient_at(monkeypatch, 3)
    words = (f"optim.clip_norm={clip}", "method.ema_decay=0.5", "run.checkpoint_every=1", "run.rollbacks=1")
    assert commands.train(quick_recipe(tmp_path / "run", *words, "schedule.steps=5")).step == 5
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (alarm,) = [line["alarm"] for line in lines if "alarm" in line]
    assert alarm.startswith("step 4: gradient norm is nan although the losses are finite")
    assert "back at step 3" in alarm
    state = latest_checkpoint(tmp_path / "run" / "checkpoints")[0].method
    assert all(value.isfinite().all() for value in state.values())
    assert all(line["gradient_norm"] > 0 for line in lines if "loss" in line)


def test_parameters_that_are_not_finite_are_never_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mixdet.methods import Supervised

    after_step = Supervised.after_step

    def overflowed(method: Supervised, step: Step) -> None:
        if step.index == 2:
            with torch.no_grad():
                next(method.student.parameters()).fill_(float("inf"))  # type: ignore[attr-defined]
        after_step(method, step)

    monkeypatch.setattr(Supervised, "after_step", overflowed)
    with pytest.raises(MixdetError, match=r"step 3: parameter student\..* is not finite; lower optim.lr"):
        commands.train(quick_recipe(tmp_path / "run", "run.checkpoint_every=1", "schedule.steps=5"))
    assert latest_checkpoint(tmp_path / "run" / "checkpoints")[0].step == 2


@pytest.mark.parametrize(("bad", "step"), [((1, 2, 3, 4), 2), ((0, 1), 1)])  # once is allowed
def test_a_run_gives_up_after_so_many_rollbacks(
    bad: tuple[int, ...], step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _nan_at(monkeypatch, *bad)
    words = ("schedule.steps=3", "run.checkpoint_every=1", "run.rollbacks=1")
    with pytest.raises(MixdetError, match=f"step {step}: loss roi_cls is nan"):
        commands.train(quick_recipe(tmp_path / "run", *words))


POOL = "data.unlabeled=scenes:photo/train,count=16,size=96"


def _trained_with(method: str, tmp_path: Path, *words: str) -> tuple[str, list[dict[str, Any]]]:
    """What a run with a teacher says, and the lines of its metrics.jsonl."""
    said = io.StringIO()
    console = Console(file=said, width=500, force_terminal=False)
    commands.train(quick_recipe(tmp_path / "run", POOL, method, *words), console=console)
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    return said.getvalue(), [json.loads(line) for line in text.splitlines()]


def test_a_teacher_is_watched_while_it_teaches(tmp_path: Path) -> None:
    method = "method={name: mum, score_threshold: 0.15, decay: {value: 0.9, burn_in_steps: 2}}"
    said, lines = _trained_with(method, tmp_path, "schedule.steps=5", "evaluation.every=1")
    assert "burn-in: the teacher begins at step 2" in said
    assert re.search(
        r"pseudo boxes [\d.]+ an image \(labelled [\d.]+; least \w+ .*of detections kept, AP teacher", said
    )
    steps = {line["step"]: line for line in lines if "loss" in line}
    assert "pseudo_boxes" not in steps[2]
    taught, labeled = steps[5], Data.open(quick_recipe(tmp_path / "x", POOL)).labeled
    classes = len(labeled.classes)
    assert taught["labeled_boxes"] == pytest.approx(len(labeled.labels) / len(labeled))
    assert sum(taught["labeled_boxes_of_class"]) == pytest.approx(taught["labeled_boxes"])
    assert sum(taught["pseudo_boxes_of_class"]) == pytest.approx(taught["pseudo_boxes"], abs=1e-4)
    assert len(taught["labeled_boxes_of_class"]) == len(taught["pseudo_boxes_of_class"]) == classes
    assert len(taught["pseudo_scores"]) == 10
    assert 0 <= taught["pseudo_kept"] <= 1
    assert {f"val/{name}/AP" for name in ("teacher", "student")} <= {key for line in lines for key in line}


def test_alarms_are_said_and_written_down(tmp_path: Path) -> None:
    method = "method={name: mum, score_threshold: 0.99, decay: {value: 0.9, burn_in_steps: 1}}"
    said, lines = _trained_with(method, tmp_path, "schedule.steps=5")
    alarm = "no pseudo boxes for 1 steps: the teacher is sure of nothing, its best score below 0."
    assert said.count(alarm) == 1
    assert [line["alarm"][: len(alarm)] for line in lines if "alarm" in line] == [alarm]


@pytest.mark.parametrize(("steps", "patience"), [(3, 1), (600, 30), (180_000, 500)])
def test_a_long_run_says_after_hundreds_of_steps_that_something_is_wrong(steps: int, patience: int) -> None:
    recipe = load_recipe("mum_small", [f"schedule.steps={steps}", "method.decay.burn_in_steps=1"])
    watch = build_health(recipe, Data.open(load_recipe("mum_small"), measured=False).labeled)
    assert watch is not None
    assert (watch.patience, watch.matched) == (patience, False)


def test_both_heads_are_shipped(tmp_path: Path) -> None:
    words = ("detector.name=two_head_rcnn", "method={name: ismt, decay: {burn_in_steps: 0}}", "schedule.steps=1")
    result = commands.train(
        quick_recipe(tmp_path / "run", *words, "data.unlabeled=scenes:photo/train,count=16,size=96")
    )
    assert result.shipped is not None
    trained = load_trained(result.shipped, torch.device("cpu"))
    assert isinstance(trained.detector, TwoHeadRCNN)
    state = latest_checkpoint(tmp_path / "run" / "checkpoints")[0].method
    prefix = {"teacher": "teacher.network", "student": "student"}[trained.card.which]
    for name, value in trained.detector.state_dict().items():
        assert torch.equal(value, state[f"{prefix}.{name}"]), name
