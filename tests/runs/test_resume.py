"""2N steps equal N, an interruption and N more, bit for bit."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mixdet.detectors import build_backbone
from mixdet.errors import MixdetError
from mixdet.recipes import Recipe
from mixdet.runs import commands
from mixdet.runs.fit import FitResult
from mixdet.training.checkpoint import latest_checkpoint, load_checkpoint
from recipes_for_tests import quick_recipe

STEPS = 8  # 12 images in batches of 4: nearly three epochs


def final_state(folder: Path) -> dict[str, Tensor]:
    checkpoint, complaints = latest_checkpoint(folder / "checkpoints")
    assert checkpoint.step == STEPS
    assert complaints == []
    moments = {
        f"{index}.{name}": value
        for index, entry in checkpoint.optimizer["state"].items()
        for name, value in entry.items()
        if isinstance(value, Tensor)
    }
    assert moments
    return {**checkpoint.method, **moments}


def interrupted(recipe: Recipe, at: int, monkeypatch: pytest.MonkeyPatch) -> FitResult:
    """Train, with SIGTERM arriving during step ``at``."""
    from mixdet.training import loop

    make_step = loop.Step
    sent: list[int] = []

    def step_with_signal(index: int, *rest: object) -> object:
        if index == at - 1 and not sent:  # a second signal would end the process at once
            sent.append(index)
            os.kill(os.getpid(), signal.SIGTERM)
        return make_step(index, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(loop, "Step", step_with_signal)
        return commands.train(recipe)


POOL = "data.unlabeled=scenes:photo/train,count=22,size=96"  # ten of them not labelled

ISMT = (
    "detector.name=two_head_rcnn",
    "method={name: ismt, score_threshold: 0.1, decay: {value: 0.9, burn_in_steps: 4}}",
)


@pytest.mark.filterwarnings("ignore:.*use of fork.* may lead to deadlocks:DeprecationWarning")
@pytest.mark.parametrize(
    ("workers", "at", "extra"),
    [
        (0, 4, ("method={mix: lossmix, ema_decay: 0.9}", "optim.name=adamw", "schedule.name=cosine")),
        (
            0,
            5,
            ("method.mix=lossmix", "optim.lr=0.01", "data.shards=2", "schedule={name: step, milestones: [3]}"),
        ),
        (2, 5, ("method={mix: lossmix, ema_decay: 0.9}",)),
        # of the teachers that begin after step 4, on either side of it
        (2, 3, (POOL, "method={name: unbiased_teacher, score_threshold: 0.1, decay: {value: 0.9, burn_in_steps: 4}}")),
        (0, 5, (POOL, "method={name: unbiased_teacher, score_threshold: 0.1, decay: {value: 0.9, burn_in_steps: 4}}")),
        (0, 6, (POOL, "method={name: mum, score_threshold: 0.1, matched_thresholds: true, decay: {burn_in_steps: 4}}")),
        (2, 3, (POOL, "method={name: mum, score_threshold: 0.1, decay: {value: 0.9, burn_in_steps: 4}}")),
        (0, 5, (POOL, "method={name: mum, score_threshold: 0.1, decay: {value: 0.9, burn_in_steps: 4}}")),
        (0, 4, (POOL, *ISMT)),
        (0, 5, (POOL, *ISMT)),  # the store has the boxes of one step
        (0, 5, (POOL, "method={name: mum, score_threshold: 0.1, decay: {value: 0.9, ramp: linear, ramp_steps: 6}}")),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    workers: int, at: int, extra: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*extra, f"schedule.steps={STEPS}", "schedule.warmup_steps=2")
    whole = quick_recipe(tmp_path / "whole", *words)
    parts = quick_recipe(tmp_path / "parts", *words, f"data.workers={workers}", "data.worker_start=fork")
    assert commands.train(whole).exit_code == 0
    stopped = interrupted(parts, at, monkeypatch)
    assert (stopped.step, stopped.exit_code) == (at, 143)
    result = commands.resume(tmp_path / "parts")
    assert (result.step, result.exit_code) == (STEPS, 0)
    expected, found = final_state(tmp_path / "whole"), final_state(tmp_path / "parts")
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    lines = [(tmp_path / run / "metrics.jsonl").read_text().splitlines() for run in ("whole", "parts")]
    assert len(lines[0]) == len(lines[1])
    assert any(name.startswith("store.") for name in found) == (ISMT[0] in words)
    if POOL in words:
        assert any(json.loads(line).get("pseudo_boxes", 0) > 0 for line in lines[1])


def test_training_moves_the_student_and_the_teacher_follows(tmp_path: Path) -> None:
    recipe = quick_recipe(tmp_path / "run", "schedule.steps=2", "run.checkpoint_every=1", "method.ema_decay=0.75")
    commands.train(recipe)
    first, second = (load_checkpoint(p) for p in sorted((tmp_path / "run" / "checkpoints").iterdir()))
    name = "backbone.fpn.inner_blocks.0.0.weight"
    student = [c.method[f"student.{name}"] for c in (first, second)]
    teacher = [c.method[f"teacher.network.{name}"] for c in (first, second)]
    assert not torch.equal(*student)
    torch.testing.assert_close(teacher[1], 0.75 * teacher[0] + 0.25 * student[1])


def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path: Path) -> None:
    recipe = quick_recipe(tmp_path / "run", "schedule.steps=4", "run.checkpoint_every=1")
    commands.train(recipe)
    kept = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [p.name for p in kept] == ["step-00000003.safetensors", "step-00000004.safetensors"]
    kept[1].write_bytes(kept[1].read_bytes()[:1000])
    checkpoint, complaints = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint.step == 3
    assert "step-00000004.safetensors: damaged" in complaints[0]
    kept[0].write_bytes(b"")
    with pytest.raises(MixdetError, match="no checkpoint to resume from"):
        latest_checkpoint(tmp_path / "run" / "checkpoints")


def test_resume_needs_no_pretrained_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "body.safetensors"
    save_file(build_backbone("tiny", 64).body.state_dict(), weights)
    recipe = quick_recipe(tmp_path / "run", "schedule.steps=3", f"detector.weights={weights}")
    assert interrupted(recipe, 1, monkeypatch).step == 1
    weights.unlink()
    assert commands.resume(tmp_path / "run").step == 3


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = commands.train(quick_recipe(tmp_path / "whole", "schedule.steps=2"))
    with monkeypatch.context() as patch:
        patch.setattr("mixdet.runs.fit.save_checkpoint", _killed)
        with pytest.raises(KeyboardInterrupt):
            commands.train(quick_recipe(tmp_path / "run", "schedule.steps=2"))
    assert not (tmp_path / "run" / "checkpoints").exists()
    result = commands.resume(tmp_path / "run")
    assert (result.step, result.shipped and result.shipped.name) == (2, whole.shipped and whole.shipped.name)
    losses = [_losses(tmp_path / name) for name in ("whole", "run")]
    assert losses[0] == losses[1]
    assert [step for step, _ in losses[1]] == [1, 2]


def _losses(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_run_is_not_overwritten_and_not_changed_on_the_way(tmp_path: Path) -> None:
    recipe = quick_recipe(tmp_path / "run", "schedule.steps=1")
    commands.train(recipe)
    with pytest.raises(MixdetError, match="holds a run already; use mixdet resume"):
        commands.train(recipe)
    with pytest.raises(MixdetError, match=r"optim\.lr=1 would change the run"):
        commands.resume(tmp_path / "run", ["optim.lr=1"])
    with pytest.raises(MixdetError, match="not a run folder"):
        commands.resume(tmp_path)


def test_a_data_set_that_changed_is_not_resumed(tmp_path: Path) -> None:
    commands.train(quick_recipe(tmp_path / "run", "schedule.steps=1"))
    recipe = tmp_path / "run" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("count=12", "count=11"))
    with pytest.raises(MixdetError, match=r"data\.labeled=.*not those the run began with"):
        commands.resume(tmp_path / "run")


def test_a_program_is_told_that_it_is_one_process(tmp_path: Path) -> None:
    with pytest.raises(MixdetError, match=r"run\.devices=2: this is one process"):
        commands.train(quick_recipe(tmp_path / "run", "run.devices=2", "data.shards=2"))
