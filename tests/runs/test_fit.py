"""What a run does beside training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mixdet.errors import MixdetError
from mixdet.runs import commands
from mixdet.training.checkpoint import latest_checkpoint
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
