"""LossMix's studies run as they stand: every row is built at its own size, one of VOC takes steps on stand-in data."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from mixdet.cli.main import main
from mixdet.errors import MixdetError
from mixdet.evaluation import match_classes
from mixdet.methods import Supervised
from mixdet.mixing import Beta, Mix, Uniform
from mixdet.recipes import Recipe, load_recipe, load_study
from mixdet.runs.build import build_detector, build_method, build_schedule, training_view
from mixdet.runs.data import build_dataset
from mixdet.runs.dry_run import dry_run, dry_runs, replacements, shrunk
from mixdet.training.optim import build_optimizer, scaled_lr
from recipes_for_tests import QUICK

ALL_TERMS = {"rpn_cls", "rpn_box", "roi_cls", "roi_box"}
MIXES = {
    "baseline": None,
    "noise": Mix("blend", "dominant", Uniform(0.8, 1.0)),
    "union": Mix("blend", "union"),
    "lossmix": Mix("blend", "interpolate"),
    "half": Mix("blend", "half"),
    "swapped": Mix("blend", "swapped"),
    "alpha_0.2": Mix("blend", "interpolate", Beta(0.2)),
    "alpha_5": Mix("blend", "interpolate", Beta(5)),
    "alpha_20": Mix("blend", "interpolate", Beta(20)),
}
TERMS = {
    "roi_only": {"roi_cls", "roi_box"},
    "localization_only": {"rpn_box", "roi_box"},
    "classification_only": {"rpn_cls", "roi_cls"},
}
SHRUNK = {
    *(f"data.{key}" for key in ("labeled.path", "val.path", "batch_size", "shards", "workers")),
    *(f"data.{key}" for key in ("short_sides", "long_side", "test_short_side", "test_long_side")),
    *(f"schedule.{key}" for key in ("steps", "warmup_steps", "milestones")),
    *("run.out", "run.devices", "run.log_every", "detector.weights", "optim.clip_norm"),
}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the temporary folders of a dry run are, and must not stay."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def _row(study: str, row: str, *words: str) -> Recipe:
    found = load_study(study)
    return found.recipe_of(found.row(row), words)


@pytest.mark.parametrize("study", ["lossmix_table1", "lossmix_table2", "lossmix_table3"])
def test_every_row_is_built_as_it_stands(study: str, tmp_path: Path) -> None:
    rows = load_study(study).rows
    small = shrunk(_row(study, rows[0].name), tmp_path)
    labeled, val = build_dataset(small.data.labeled), build_dataset(small.data.val)
    match_classes(labeled.classes, val.classes)
    for row in rows:
        recipe = _row(study, row.name)
        with torch.device("meta"):  # no memory, no initialisation: only what is where
            detector = build_detector(recipe.detector, len(labeled.classes), weights=False)
            method = build_method(recipe.method, detector)
        assert isinstance(method, Supervised)
        name = row.name.removeprefix("r50_").removeprefix("r101_")
        assert method.mix == MIXES.get(name, MIXES["lossmix"])
        assert detector.rpn.mixed_terms == TERMS.get(name, ALL_TERMS)
        assert method.mixed_fraction == (0.5 if name == "reg" else 1)
        assert method.mix_until_step == (16000 if name == "partial" else None)
        assert detector.num_classes == (80 if study == "lossmix_table2" else 20)
        assert len(detector.backbone.body.get_submodule("layer3")) == (23 if "r101" in row.name else 6)
        _assert_setting(recipe, method)


def _assert_setting(recipe: Recipe, method: Supervised) -> None:
    """Supplement B: synchronised batch norm, the rate of a batch of 64, sizes; and detectron2's frozen stages."""
    norms = {type(m) for m in method.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert norms == {nn.SyncBatchNorm}
    still = {name.split(".")[3] for name, p in method.named_parameters() if not p.requires_grad}
    assert still == {"conv1", "layer1"}
    optim = recipe.optim
    lr = scaled_lr(optim.lr, recipe.data.batch_size, optim.reference_batch_size)
    optimizer = build_optimizer(method, optim.name, lr=lr, momentum=optim.momentum, weight_decay=optim.weight_decay)
    assert {(g["lr"], g["momentum"], g["weight_decay"]) for g in optimizer.param_groups} == {
        (0.08, 0.9, 0.0001),
        (0.08, 0.9, 0.0),
    }
    schedule = build_schedule(recipe)
    first, last = schedule.milestones
    factors = [schedule.factor(step) for step in (0, 100, first - 1, first, last, schedule.steps - 1)]
    assert factors == pytest.approx([0.001, 1, 1, 0.1, 0.01, 0.01])
    view = training_view(recipe.data)
    assert (max(view.short_sides), view.long_side) == (800, 1333)


def test_a_voc_row_enters_both_sides_of_mix_until_step(temporary: Path) -> None:
    recipe = _row("lossmix_table3", "partial")
    run = dry_run("partial", recipe)
    # warm-up, the two learning rates below 16,000, the last two thousand
    assert run.phases == ("mixed", "mixed", "mixed", "plain")
    assert all(0 < loss < 20 for loss in run.losses)
    assert run.evaluation is not None
    assert run.evaluation.metric.startswith("VOC07")
    assert "data.labeled.path=STAND-IN/VOCdevkit/VOC2007+2012:trainval " in run.replaced
    assert "method.mix_until_step=3 detector.weights=none " in run.replaced
    assert run.notes == " (norm=sync: over the 2 images of a shard, in one process)"
    assert str(run).startswith("partial: loss mixed ")
    assert "\n" not in str(run)
    assert not list(temporary.iterdir())


def test_a_coco_row(temporary: Path) -> None:
    words = ["detector.body=tiny", "detector.frozen_stages=0", "detector.preset=tiny"]
    run = dry_run("r50_noise", _row("lossmix_table2", "r50_noise", *words))
    assert run.phases == ("mixed",) * 4
    assert run.evaluation is not None
    assert run.evaluation.metric.startswith("COCO AP")
    assert run.evaluation.numbers["AP"] is not None
    assert len(run.evaluation.per_class) == 80
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("row", "also", "batch"),
    [("lossmix", set(), 4), ("baseline", set(), 4), ("partial", {"method.mix_until_step"}, 4), ("reg", set(), 6)],
)
def test_only_what_must_is_replaced(row: str, also: set[str], batch: int, tmp_path: Path) -> None:
    recipe = _row("lossmix_table3", row)
    small = shrunk(recipe, tmp_path)
    assert {key for key, _ in replacements(recipe, small)} == SHRUNK | also
    assert (small.data.shards, small.data.batch_size) == (2, batch)
    assert small.data.short_sides[-1] == 64
    assert len(small.data.short_sides) == len(recipe.data.short_sides)


@pytest.mark.parametrize(("gpu", "precision"), [(True, "bf16"), (False, "fp32")])
def test_bfloat16_is_tried_on_a_gpu(gpu: bool, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    recipe = load_recipe("mum")
    small = shrunk(recipe, tmp_path)
    assert small.run.precision == precision
    assert (("run.precision", "fp32") in replacements(recipe, small)) != gpu
    assert shrunk(load_recipe("mum", ["run.device=cpu"]), tmp_path / "cpu").run.precision == "fp32"


def test_a_phase_for_every_change(tmp_path: Path) -> None:
    words = ["schedule={name: step, steps: 90, warmup_steps: 200, milestones: [30, 60]}", "method.mix_until_step=45"]
    small = shrunk(load_recipe("lossmix_small", words), tmp_path)
    assert (small.schedule.steps, small.schedule.milestones, small.schedule.warmup_steps) == (4, (1, 3), 4)
    assert small.method.mix_until_step == 2


def test_a_small_labelled_fraction_grows_and_a_large_one_stays(tmp_path: Path) -> None:
    small = shrunk(load_recipe("mum_swin"), tmp_path)
    assert ("data.labeled.fraction", 0.25) in replacements(load_recipe("mum_swin"), small)
    labeled = build_dataset(small.data.labeled)
    assert len(labeled) == 7  # of 32, one of which has no box
    whole = load_recipe("mum_swin", ["data.labeled.fraction=1.0"])
    assert shrunk(whole, tmp_path / "whole").data.labeled.fraction == 1.0


def test_a_recipe_of_ones_own_form(temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "lossmix_small",
        *QUICK,
        "data.labeled={path: mine/train.json, images: pictures, fraction: 0.25, files: list.txt}",
        "data.val=mine/val.json",
        "data.test=mine/test.json",
        "schedule.milestones=[400]",
        "schedule.warmup_steps=0",
    ]
    before = sorted(Path("runs").glob("*"))
    assert main(["train", "--dry-run", *words]) == 0
    replaced, run = capsys.readouterr().out.splitlines()
    assert replaced.startswith(
        "instead of the recipe's: data.labeled.path=STAND-IN/mine/train.json data.labeled.images="
    )
    assert "data.labeled.files=null" in replaced
    assert "data.test.path=STAND-IN/mine/test.json" in replaced
    assert run.startswith("lossmix_small: loss mixed ")
    assert sorted(Path("runs").glob("*")) == before


def test_rows_that_replace_the_same_say_so_once(temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = temporary.parent / "own.yaml"
    rows = "".join(f"  - {{name: {name}, overrides: [method.mix={name}]}}\n" for name in ("union", "half"))
    study.write_text(f"name: Own\nsource: none\nrecipe: lossmix_small\noverrides: {list(QUICK)}\nrows:\n{rows}")
    assert main(["compare", str(study), "--dry-run", "data.val=null"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["instead of the recipe's", "union", "half"]
    assert "; nothing to evaluate on; " in lines[1]


def test_a_row_that_does_not_run_is_named(temporary: Path) -> None:
    recipe = load_recipe("lossmix_small", [*QUICK, "data.labeled=mine"])
    with pytest.raises(MixdetError, match=r"^r1: mine: no stand-in for data of this form"):
        dry_runs([("r1", recipe)], Console(quiet=True))


@pytest.mark.parametrize(
    ("name", "preset"), [("mum", "tiny"), ("mum_small", None), ("unbiased_teacher", None), ("ismt", "tiny")]
)
def test_a_teacher_begins_after_its_burn_in(name: str, preset: str | None, temporary: Path) -> None:
    words = ["detector.body=tiny", "detector.weights=none", "detector.frozen_stages=0"]
    run = dry_run(name, load_recipe(name, [*words, *([f"detector.preset={preset}"] if preset else [])]))
    assert run.phases == ("plain", "plain", "taught")  # warm-up, the rest of the burn-in, the teacher
    assert all(0 < loss < 50 for loss in run.losses)
    assert run.evaluation is not None


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("supervised", "plain"),
        ("csd", "taught"),
        ("instant_teaching", "taught"),
        ("mum_coco", "taught"),
        ("mum_coco_additional", "taught"),
    ],
)
def test_recipes_without_a_burn_in(name: str, phase: str, temporary: Path) -> None:
    words = ["detector.body=tiny", "detector.weights=none", "detector.frozen_stages=0", "detector.preset=tiny"]
    run = dry_run(name, load_recipe(name, words))
    assert set(run.phases) == {phase}
    assert all(0 < loss < 50 for loss in run.losses)
    assert run.evaluation is not None


@pytest.mark.parametrize(
    ("name", "stages"),
    [("stac", ["supervised", "student"]), ("multi_phase", ["phase0", "phase1", "phase2"])],
)
def test_each_stage_is_run(name: str, stages: list[str], temporary: Path) -> None:
    words = ["detector.body=tiny", "detector.weights=none", "detector.frozen_stages=0", "detector.preset=tiny"]
    runs = dry_runs([(name, load_recipe(name, words))], Console(quiet=True))
    assert [run.name for run in runs] == [f"{name}, stage {stage}" for stage in stages]
    assert [set(run.phases) for run in runs] == [{"plain"}, *[{"taught"}] * len(stages[1:])]
    assert all("data.unlabeled.labels=" in run.replaced for run in runs[1:])


def test_the_unlabelled_batch_becomes_small_too(temporary: Path, tmp_path: Path) -> None:
    words = ["data.batch_size=9", "data.shards=3", "data.unlabeled_batch_size=30", "run.baseline=true"]
    small = shrunk(load_recipe("mum_small", words), tmp_path)
    assert (small.data.shards, small.data.batch_size, small.data.unlabeled_batch_size) == (2, 4, 4)
    assert not small.run.baseline
