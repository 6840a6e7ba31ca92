"""Checkpoints and weights: whole or not there, whatever kills the process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mixdet.detectors import PRESETS, FasterRCNN, build_backbone
from mixdet.errors import EnvironmentFault, MixdetError
from mixdet.methods import Supervised
from mixdet.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from mixdet.training.files import write_atomically
from mixdet.training.optim import build_optimizer
from mixdet.training.weights import WeightsCard, read_weights, save_weights

CARD = WeightsCard(("cat", "dog"), (3, 17), {"body": "tiny"}, 96, 128, 5, "student", {"AP": 0.5})


@pytest.fixture(scope="module")
def method() -> Supervised:
    return Supervised(FasterRCNN(2, build_backbone("tiny", 64), PRESETS["tiny"]), ema_decay=0.9)


def optimizer_after_a_step(method: Supervised, name: str = "adamw") -> torch.optim.Optimizer:
    optimizer = build_optimizer(method, name, lr=0.1)  # type: ignore[arg-type]
    for parameter in method.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_checkpoint_gives_back_every_tensor_and_number(name: str, method: Supervised, tmp_path: Path) -> None:
    optimizer = optimizer_after_a_step(method, name)
    path = save_checkpoint(tmp_path, 7, method, optimizer, {"best": {"student": {"score": 0.3, "step": 5}}})
    checkpoint = load_checkpoint(path)
    other = Supervised(FasterRCNN(2, build_backbone("tiny", 64), PRESETS["tiny"]), ema_decay=0.9)
    fresh = build_optimizer(other, name, lr=0.7)  # type: ignore[arg-type]
    checkpoint.restore(other, fresh)
    assert (checkpoint.step, checkpoint.notes["best"]["student"]["score"]) == (7, 0.3)
    for key, value in method.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])
    before, after = optimizer.state_dict(), fresh.state_dict()
    assert before["param_groups"] == after["param_groups"]
    for index, entry in before["state"].items():
        for moment, value in entry.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(after["state"][index][moment]))
    restored = next(iter(fresh.state.values()))
    with torch.no_grad():  # a copy: what was loaded does not change with the optimizer
        next(v for v in restored.values() if isinstance(v, torch.Tensor) and v.dim()).add_(1)
    reread = load_checkpoint(path)
    assert all(torch.equal(v, reread.method[k]) for k, v in checkpoint.method.items())


def save_for_ever(folder: str, method: Supervised) -> None:
    torch.set_num_threads(1)
    optimizer = build_optimizer(method, "sgd", lr=0.1)
    for step in range(1, 100_000):
        save_checkpoint(Path(folder), step, method, optimizer, {})


def test_a_process_killed_while_saving_leaves_a_whole_checkpoint(method: Supervised, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for round_number in range(20):
        process = context.Process(target=save_for_ever, args=(str(tmp_path), method))
        process.start()
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob(".*.tmp")) or not list(tmp_path.glob("step-*")):
            assert time.monotonic() < deadline
        time.sleep(0.002 * (round_number % 5))
        os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        process.join()
        checkpoint, complaints = latest_checkpoint(tmp_path)
        assert complaints == []
        assert checkpoint.method.keys() == method.state_dict().keys()
        for left in tmp_path.glob(".*.tmp"):
            left.unlink()


def test_what_a_killed_process_left_is_removed_by_the_next_checkpoint(method: Supervised, tmp_path: Path) -> None:
    (tmp_path / ".step-00000001.safetensors.99.tmp").write_bytes(b"half")
    path = save_checkpoint(tmp_path, 2, method, build_optimizer(method, "sgd", lr=0.1), {})
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_a_disk_that_is_full_while_tensors_are_written_is_named(method: Supervised, tmp_path: Path) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(EnvironmentFault, match=r"w.safetensors: could not be written \(.*File too large") as fault:
            save_weights(tmp_path / "w.safetensors", method.detectors()["student"], CARD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert fault.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("old")

    def full_disk(file: Path) -> None:
        file.write_text("half of the n")
        raise OSError(28, "No space left on device")

    with pytest.raises(EnvironmentFault, match=r"kept.txt: could not be written \(No space left on device\)") as fault:
        write_atomically(path, full_disk)
    assert fault.value.exit_code == 3
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_weights_carry_what_is_needed_to_use_them(method: Supervised, tmp_path: Path) -> None:
    path = tmp_path / "weights" / "student-best.safetensors"
    save_weights(path, method.detectors()["student"], CARD)
    tensors, card = read_weights(path)
    assert card == CARD
    assert tensors.keys() == method.student.state_dict().keys()  # type: ignore[attr-defined]


def test_files_that_are_no_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(MixdetError, match=r"missing.safetensors: no such weights file"):
        read_weights(tmp_path / "missing.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(MixdetError, match=r"foreign.safetensors: not a weights file of mixdet"):
        read_weights(foreign)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not at all")
    with pytest.raises(MixdetError, match=r"broken.safetensors: not a weights file, or a damaged one"):
        read_weights(broken)
