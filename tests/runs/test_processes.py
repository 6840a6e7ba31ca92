"""Two processes with a shard each give what one process gives that accumulates both."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from rich.console import Console
from torch import Tensor

from mixdet.detectors import PRESETS, FasterRCNN, build_backbone
from mixdet.detectors.roi import RoIHeads
from mixdet.errors import MixdetError
from mixdet.methods import Supervised
from mixdet.recipes import Recipe
from mixdet.runs import commands
from mixdet.runs.fit import fit
from mixdet.structures import Losses, Regions
from mixdet.teaching import FixedThreshold, LabelStore, LeastThreshold, MatchedThresholds
from mixdet.training.checkpoint import latest_checkpoint
from mixdet.training.distributed import World
from mixdet.training.weights import read_weights
from recipes_for_tests import quick_recipe

STEPS = 3


POOL = "data.unlabeled=scenes:photo/train,count=22,size=96"


def process(rank: int, port: int, recipe: Recipe, silent: int | None = None) -> None:
    """One of two; the teacher of process ``silent`` finds nothing."""
    torch.set_num_threads(1)
    if rank == silent:
        for threshold in (FixedThreshold, LeastThreshold):
            threshold.__call__ = lambda self, found: found.scores > 2  # type: ignore[method-assign]
        matched = MatchedThresholds.forward
        MatchedThresholds.forward = lambda self, found: matched(self, found) & False  # type: ignore[method-assign]
        LabelStore.visit = lambda self, image, found: [d.select(d.scores > 2) for d in found]  # type: ignore[method-assign]
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    commands.train(recipe)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    "method",
    [
        ("method={mix: lossmix, ema_decay: 0.5}",),
        (
            POOL,
            "method={name: unbiased_teacher, score_threshold: 0.1, decay: {value: 0.5, burn_in_steps: 1}, "
            "matched_thresholds: true}",
        ),
        (
            POOL,
            "method={name: mum, score_threshold: 0.1, decay: {value: 0.5, burn_in_steps: 1}, mix_unlabeled: lossmix}",
        ),
        (
            POOL.replace("count=22", "count=18"),  # six images, four a step: each step looks again at some of the last
            "method={name: ismt, score_threshold: 0.1, decay: {value: 0.5, burn_in_steps: 1}}",
            "detector.name=two_head_rcnn",
        ),
    ],
    ids=["supervised", "unbiased_teacher", "mum", "ismt"],
)
def test_two_processes_equal_one_that_accumulates(
    method: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanting = replace(PRESETS["tiny"], roi_samples=512)  # more proposals than such small images have
    monkeypatch.setitem(PRESETS, "tiny", wanting)
    words = (
        *method,
        f"schedule.steps={STEPS}",
        "data.shards=2",
        "detector.norm=frozen",
        "optim={name: sgd, lr: 0.01}",
        "optim.clip_norm=1",
    )
    sampled: list[int] = []
    losses = RoIHeads.losses

    def counting(self: RoIHeads, outputs: tuple[Tensor, Tensor], regions: Regions) -> Losses:
        sampled.append(len(regions))
        return losses(self, outputs, regions)

    with monkeypatch.context() as patch:
        patch.setattr(RoIHeads, "losses", counting)
        commands.train(quick_recipe(tmp_path / "one", *words))
    if "detector.name=two_head_rcnn" in words:
        sampled = sampled[::2]  # of the first head
    assert all(first != second for first, second in zip(sampled[::2], sampled[1::2], strict=True)), "equal quotas"
    mp.start_processes(process, (free_port(), quick_recipe(tmp_path / "two", *words)), nprocs=2, start_method="fork")
    one, two = (latest_checkpoint(tmp_path / name / "checkpoints")[0] for name in ("one", "two"))
    assert one.step == two.step == STEPS
    assert one.method.keys() == two.method.keys()
    assert ("store.rows" in one.method) == ("detector.name=two_head_rcnn" in words)
    for name, value in one.method.items():
        torch.testing.assert_close(two.method[name], value, rtol=1e-4, atol=1e-6, msg=name)
    if POOL.partition(",")[0] in words[0]:
        assert _pseudo_boxes(tmp_path / "two") > 0


def _pseudo_boxes(folder: Path) -> float:
    """In an unlabelled image, at most, over the steps and in the mean over the processes."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return max(line["pseudo_boxes"] for line in lines if "pseudo_boxes" in line)


@pytest.mark.parametrize(
    "method",
    [
        ("method={name: unbiased_teacher, score_threshold: 0.1, decay: {value: 0.5, burn_in_steps: 0}}",),
        ("method={name: mum, score_threshold: 0.1, decay: {value: 0.5}}",),
        ("method={name: mum, score_threshold: 0.1, decay: {value: 0.5}, skip_empty: true}",),
        ("method={name: mum, score_threshold: 0.1, decay: {value: 0.5}, matched_thresholds: true}",),
        (
            "method={name: ismt, score_threshold: 0.1, decay: {value: 0.5, burn_in_steps: 0}}",
            "detector.name=two_head_rcnn",
        ),
        ("method={name: instant_teaching, score_threshold: 0.1, co_rectify: true}",),
    ],
    ids=["unbiased_teacher", "mum", "skip_empty", "matched", "ismt", "co_rectify"],
)
def test_a_process_without_pseudo_labels_does_not_hang(method: tuple[str, ...], tmp_path: Path) -> None:
    words = (POOL, *method, f"schedule.steps={STEPS}")
    recipe = quick_recipe(tmp_path / "run", *words, "data.shards=2", "detector.norm=frozen")
    mp.start_processes(process, (free_port(), recipe, 1), nprocs=2, start_method="fork")
    assert latest_checkpoint(tmp_path / "run" / "checkpoints")[0].step == STEPS
    assert _pseudo_boxes(tmp_path / "run") > 0  # the other process has some


def test_stages_in_two_processes_are_those_of_one(tmp_path: Path) -> None:
    stages = (
        "stages=[{name: a, overrides: ['method={name: supervised}', data.unlabeled=null]}, "
        "{name: b, labels: {by: [a], rule: fallback}}]"
    )
    words = (POOL, stages, "method={name: stac}", "schedule.steps=2", "data.shards=2", "detector.norm=frozen")
    words += ("optim={name: sgd, lr: 0.01}",)
    commands.train(quick_recipe(tmp_path / "one", *words))
    mp.start_processes(process, (free_port(), quick_recipe(tmp_path / "two", *words)), nprocs=2, start_method="fork")
    one, two = (json.loads((tmp_path / name / "labels" / "b.json").read_text()) for name in ("one", "two"))
    assert one["images"] == two["images"]
    assert len(one["annotations"]) == len(two["annotations"]) > 0
    for row, other in zip(one["annotations"], two["annotations"], strict=True):
        assert (row["image_id"], row["category_id"]) == (other["image_id"], other["category_id"])
        assert row["bbox"] == pytest.approx(other["bbox"], abs=0.01)
    final = [read_weights(tmp_path / name / "weights" / "student-last.safetensors")[0] for name in ("one", "two")]
    for name, value in final[0].items():
        torch.testing.assert_close(final[1][name], value, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("run.baseline=true", "schedule.steps=4"), "run.baseline=true: needs one process, and there are 2; use false"),
        (("run.rollbacks=2",), "run.rollbacks=2: needs one process, and there are 2; use 0"),
    ],
)
def test_what_only_one_process_can_do_is_refused_however_they_were_started(
    words: tuple[str, ...], line: str, tmp_path: Path
) -> None:
    method = "method={name: mum, decay: {value: 0.5, burn_in_steps: 1, ramp: none}}"
    recipe = quick_recipe(tmp_path / "run", POOL, method, "data.shards=2", *words)
    with pytest.raises(MixdetError) as fault:
        fit(recipe, "run", world=World(0, 2), console=Console(quiet=True))
    assert str(fault.value) == line
    assert not (tmp_path / "run").exists()


def test_shards_are_dealt_evenly_or_refused() -> None:
    assert [World(rank, 2).shards(4) for rank in range(2)] == [range(2), range(2, 4)]
    with pytest.raises(MixdetError, match="3 shards cannot be dealt to 2 processes"):
        World(0, 2).shards(3)


def test_synchronised_batch_norm_needs_gpus_where_there_are_two_processes() -> None:
    method = Supervised(FasterRCNN(2, build_backbone("tiny", 64, norm="sync"), PRESETS["tiny"]))
    assert World().wrap(method) is method
    with pytest.raises(MixdetError, match=r"detector\.norm=sync: works between GPUs only"):
        World(0, 2).wrap(method)


def test_a_shard_of_one_image_cannot_be_mixed(tmp_path: Path) -> None:
    with pytest.raises(MixdetError, match=r"data\.(shards|batch_size)") as fault:
        quick_recipe(tmp_path, "method.mix=lossmix", "data.batch_size=4", "data.shards=4")
    assert "\n" not in str(fault.value)
