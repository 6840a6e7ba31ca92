"""The baseline beside a run: the same as supervised training from the start, and what it says of the gain."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from mixdet.cli.train import report
from mixdet.errors import EnvironmentFault, MixdetError
from mixdet.runs import baseline, commands
from mixdet.runs.baseline import Gain
from mixdet.runs.baseline_process import end_with
from mixdet.runs.fit import FitResult
from mixdet.runs.folder import RunFolder
from mixdet.training.checkpoint import latest_checkpoint
from mixdet.training.weights import read_card
from recipes_for_tests import quick_recipe

POOL = "data.unlabeled=scenes:photo/train,count=22,size=96"
MUM = (
    "method={name: mum, score_threshold: 0.1, labeled_views: strong, decay: {value: 0.9, burn_in_steps: 2, ramp: none}}"
)
STEPS = "schedule.steps=5"


def test_the_threads_lent_to_the_baseline_come_back(tmp_path: Path) -> None:
    recipe = quick_recipe(tmp_path / "run", POOL, MUM)
    try:
        torch.set_num_threads(2)
        beside = baseline.Baseline(recipe, RunFolder(tmp_path / "run"))
        torch.set_num_threads(1)
        beside.process = subprocess.Popen(["true"])
        beside.stop()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def final(folder: Path) -> dict[str, Tensor]:
    checkpoint, _ = latest_checkpoint(folder / "checkpoints")
    assert checkpoint.step == 5
    return checkpoint.method


def test_the_baseline_is_supervised_training_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the run stops in between: the baseline stops and goes on with it."""
    from mixdet.training import loop

    make_step = loop.Step
    sent: list[int] = []

    def step_with_signal(index: int, *rest: object) -> object:
        if index == 3 and not sent:
            sent.append(index)
            os.kill(os.getpid(), signal.SIGTERM)
        return make_step(index, *rest)  # type: ignore[arg-type]

    recipe = quick_recipe(tmp_path / "run", POOL, MUM, STEPS, "run.baseline=true", "evaluation.every=1")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "Step", step_with_signal)
        assert commands.train(recipe).exit_code == 143
    assert (tmp_path / "run" / "baseline" / "recipe.yaml").is_file()
    result = commands.resume(tmp_path / "run")
    assert result.gain is not None
    assert str(result.gain).startswith("with the unlabelled images: AP50 ")
    words = ("method={name: supervised, labeled_views: strong, ema_decay: 0.9}", STEPS)
    commands.train(quick_recipe(tmp_path / "alone", *words))
    expected, found = final(tmp_path / "alone"), final(tmp_path / "run" / "baseline")
    assert expected.keys() == found.keys()
    student = {name: value for name, value in expected.items() if name.startswith("student.")}
    assert all(torch.equal(value, found[name]) for name, value in student.items())
    best = [
        read_card(tmp_path / run / "student-best.safetensors").step for run in ("run/weights", "run/baseline/weights")
    ]
    assert min(best) >= 1  # the baseline chooses among the shared steps too
    lines = (tmp_path / "run" / "baseline" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines if "loss" in line] == [3, 4, 5]


def test_a_baseline_that_fails_takes_nothing_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said at once, the run has its results, and what is advised gives the comparison.

    The baseline's checkpoint has nothing of the thresholds that only the run has.
    """
    matched = MUM.replace("score_threshold: 0.1", "score_threshold: 0.1, matched_thresholds: true")
    recipe = quick_recipe(tmp_path / "run", POOL, matched, "schedule.steps=3", "run.baseline=true")
    begin = baseline.subprocess.Popen

    def begun_and_ended(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        process = begin(*args, **options)
        process.wait()
        return process

    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", shutil.which("false"))
        patch.setattr(baseline.subprocess, "Popen", begun_and_ended)
        result = commands.train(recipe)
    line = "baseline: the baseline ended with code 1; its words are in "
    assert line in result.lost
    assert (result.gain, result.exit_code) == (None, 0)
    assert result.val
    lines = [json.loads(text) for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(record["step"], line in record["alarm"]) for record in lines if "alarm" in record] == [(2, True)]
    assert (tmp_path / "run" / "baseline" / "log.txt").is_file()
    with pytest.raises(EnvironmentFault, match=f"mixdet resume {tmp_path / 'run'}, once this run is over"):
        report(result, Console(quiet=True))
    again = commands.resume(tmp_path / "run")
    assert (again.lost, again.gain is not None) == ("", True)


def test_a_baseline_ends_with_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """However that ends: the system closes what it held open."""
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *args: told.append(args))
    here, there = os.pipe()
    waiting = threading.Thread(target=end_with, args=(here,))
    waiting.start()
    assert told == []
    os.close(there)
    waiting.join()
    os.close(here)
    assert told == [(os.getpid(), signal.SIGTERM)]


def test_what_is_said_of_the_gain() -> None:
    assert str(Gain("AP50", 0.4694, 0.4403, 1.0)) == "with the unlabelled images: AP50 46.9 (+2.9); without: AP50 44.0"
    assert str(Gain("AP", 0.4, 0.45, 1.0)) == "with the unlabelled images: AP 40.0 (-5.0); without: AP 45.0"
    assert "(-0.0)" not in str(Gain("AP", 0.40001, 0.40004, 1.0))
    assert Gain("AP", 0.40001, 0.40004, 1.0).advice == ""
    assert "method.unsup_weight=0.25 in place of 1," in Gain("AP", 0.4, 0.45, 1.0).advice


def test_advice_comes_before_the_gain_which_ends_it_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(FitResult(tmp_path, 1, gain=Gain("AP", 0.4, 0.45, 1.0)), Console()) == 0
    advice, gain = capsys.readouterr().out.split("\n\n")[-2:]
    assert "worth a try" in advice
    assert gain == "with the unlabelled images: AP 40.0 (-5.0); without: AP 45.0\n"
    assert report(FitResult(tmp_path, 1, gain=Gain("AP", 0.45, 0.4, 1.0)), Console()) == 0
    assert "worth a try" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("run.baseline=true",), "method.name=supervised has none; use false"),
        ((POOL, "run.baseline=true", "method={name: mum}"), "set method.decay.burn_in_steps"),
        ((POOL, "run.baseline=true", "method={name: mum, decay: {burn_in_steps: 2}}"), "set method.decay.ramp=none"),
        ((POOL, MUM, "run.baseline=true", "data.val=null"), "set data.val"),
        ((POOL, MUM, "run.baseline=true", "run.devices=2", "data.shards=2"), "needs run.devices=1"),
    ],
)
def test_a_baseline_that_makes_no_sense_is_refused(words: tuple[str, ...], line: str, tmp_path: Path) -> None:
    with pytest.raises(MixdetError) as fault:
        quick_recipe(tmp_path / "run", STEPS, *words)
    assert line in str(fault.value)
    assert "\n" not in str(fault.value)
