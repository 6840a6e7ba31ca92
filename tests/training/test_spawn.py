"""Processes of one machine: one line for an error, its exit code, and a checkpoint when told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mixdet.cli import resume as resume_command
from mixdet.cli.main import main
from mixdet.runs.folder import RunFolder
from mixdet.training import spawn as module
from mixdet.training.checkpoint import latest_checkpoint
from mixdet.training.spawn import spawn
from recipes_for_tests import QUICK, quick_recipe

TWO = ("run.devices=2", "data.shards=2")


def test_a_defect_that_all_processes_find_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "lossmix_small", *QUICK, *TWO, "data.labeled=nowhere.json", f"run.out={tmp_path / 'r'}"]) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert text.startswith("mixdet: error: data.labeled: nowhere.json: ")


def test_a_signal_stops_all_with_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    over = threading.Event()

    def tell() -> None:
        while not (out / "metrics.jsonl").exists() and not over.is_set():
            time.sleep(0.1)
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    telling = threading.Thread(target=tell)
    telling.start()
    try:
        code = main(["train", "lossmix_small", *QUICK, *TWO, "schedule.steps=10000", f"run.out={out}"])
    finally:
        over.set()
        telling.join()
    assert (code, capsys.readouterr().err) == (143, "")
    step = latest_checkpoint(out / "checkpoints")[0].step
    lines = len((out / "metrics.jsonl").read_text().splitlines())
    time.sleep(1)
    assert len((out / "metrics.jsonl").read_text().splitlines()) == lines == step


def test_resume_takes_as_many_processes_as_the_run_had_or_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder.create(quick_recipe(tmp_path, *TWO, "schedule.steps=1"), "run")
    spawned: list[tuple[list[str], int]] = []
    monkeypatch.setattr(resume_command, "spawn", lambda words, devices: spawned.append((words, devices)) or 5)
    assert main(["resume", str(tmp_path), "--debug"]) == 5
    assert spawned == [(["resume", str(tmp_path), "--debug"], 2)]
    assert main(["resume", str(tmp_path), "run.devices=1"]) == 0  # from its beginning: there is no checkpoint yet
    assert len(spawned) == 1
    assert latest_checkpoint(tmp_path / "checkpoints")[0].step == 1


@pytest.mark.parametrize(
    ("failing", "expected", "said"),
    [
        ("if rank == 1: time.sleep(0.5); sys.exit('rank 1' * fail(2))", 2, "named\n"),  # rank 0 only lost its peer
        ("os.kill(os.getpid(), signal.SIGKILL) if rank else time.sleep(60)", 137, ""),
    ],
)
def test_the_error_that_counts_is_the_one_that_is_heard(
    failing: str, expected: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = (
        "import os, signal, sys, time\n"
        "rank = int(os.environ['RANK'])\n"
        "def fail(code): print('named', file=sys.stderr); os._exit(code)\n"
        f"{failing}\n"
        "print('lost its peer', file=sys.stderr); sys.exit(1)\n"
    )
    start = subprocess.Popen

    def popen(words: list[str], **settings: object) -> subprocess.Popen[bytes]:
        assert words[1:] == ["-m", "mixdet", "train"]
        return start([sys.executable, "-uc", script], **settings)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(module.subprocess, "Popen", popen)
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    assert spawn(["train"], 2) == expected
    assert capsys.readouterr().err == said
