"""The README is true: its Python runs, its commands and its study are understood, its files exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from mixdet.cli.arguments import parse
from mixdet.methods import METHODS
from mixdet.recipes import load_recipe, load_study
from mixdet.runs.data import build_dataset, build_pool
from recipes_for_tests import quick_recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[list[str]]:
    """Every ``mixdet`` command line of a page as words, but for "..."; a bare name of a command is none."""
    page = re.sub(r"\\\n *", "", page)
    lines = re.findall(r"`(?:uv run )?(mixdet [^`]+)`", page)
    lines += re.findall(r"^(?: {4,}|pip install uv && |uv run )+(mixdet .+?)(?:  +#.*)?$", page, re.MULTILINE)
    found = [[word for word in shlex.split(line) if word != "..."] for line in lines]
    return [words for words in found if len(words) > 2 or words == ["mixdet", "train"]]


def detection() -> dict[str, Any]:
    """torchvision's Faster R-CNN on two tiny images."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 7, stride=8, padding=3), nn.ReLU())
    backbone.out_channels = 8  # type: ignore[assignment]
    anchors = AnchorGenerator(sizes=((16, 32),), aspect_ratios=((1.0,),))
    model = FasterRCNN(backbone, 3, min_size=48, max_size=64, rpn_anchor_generator=anchors)
    images = [torch.rand(3, 48, 64), torch.rand(3, 56, 40)]
    boxes = [[[4.0, 4.0, 30.0, 40.0]], [[2.0, 8.0, 36.0, 50.0], [1.0, 1.0, 20.0, 20.0]]]
    targets = [{"boxes": torch.tensor(b), "labels": torch.ones(len(b), dtype=torch.int64)} for b in boxes]
    return {"model": model, "loader": [(images, targets)] * 2}


def classification() -> dict[str, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
    return {"model": model, "loader": [(torch.rand(4, 3, 8, 8), torch.arange(4))] * 2}


def detection_with_pyramid() -> dict[str, Any]:
    """torchvision's Faster R-CNN with a feature pyramid on two small images."""
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
    names = detection()
    return {"model": FasterRCNN(backbone, 3, min_size=96, max_size=128), "loader": names["loader"]}


def trained(names: dict[str, Any], before: list[Tensor], unused: int = 0) -> None:
    assert torch.isfinite(names["loss"])
    used = [(a, b) for a, b in zip(before, names["model"].parameters(), strict=True) if b.grad is not None]
    assert len(used) == len(before) - unused
    assert not any(torch.equal(a, b) for a, b in used)


def test_there_is_a_test_for_every_block_of_python() -> None:
    assert len(blocks("python")) == 4


@pytest.mark.parametrize(
    ("number", "make", "unused"),
    [(0, detection, 0), (1, classification, 0), (2, detection_with_pyramid, 4)],  # the box layers of the last
)
def test_mixing_in_ones_own_loop(number: int, make: Any, unused: int) -> None:
    names = make()
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), lr=0.01)
    before = [p.detach().clone() for p in names["model"].parameters()]
    exec(blocks("python")[number], names)
    trained(names, before, unused)


def test_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(quick_recipe(tmp_path / "run", "schedule.steps=1").to_yaml())
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (96, 64), "grey").save(tmp_path / "photos" / "grey.png")
    names: dict[str, Any] = {}
    exec(blocks("python")[3], names)
    assert names["result"].shipped.is_file()
    assert names["found"].files == ("grey.png",)
    recipe = load_recipe(tmp_path / "run" / "recipe.yaml")
    assert (recipe.method.mix, recipe.seed) == ("lossmix", 1)
    assert "grey.png" in capsys.readouterr().out


PAGES = ["README.md", "CONTRIBUTING.md", *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/**/*.md")))]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one(page: str) -> None:
    found = commands((ROOT / page).read_text("utf-8"))
    assert len(found) > 10 or page != "README.md"
    for _, *words in found:
        args = parse(words)
        assert args is not None
        if hasattr(args, "overrides"):  # their keys and values fit; files are not looked for
            recipe = args.recipe if getattr(args, "recipe", None) and "/" not in args.recipe else None
            load_recipe(recipe, args.overrides)


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    (text,) = re.findall(rf"^### {heading}\n(.*?)(?=^##)", README, re.DOTALL | re.MULTILINE)
    return [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|") and "`" in line]


def test_every_way_to_mix_is_selected_by_its_override() -> None:
    assert len(rows("Mixing labelled images")) == 12
    for _, cell, *_ in rows("Mixing labelled images"):
        (word,) = shlex.split(cell.strip().strip("`"))
        changed = load_recipe("lossmix_voc", [word]) != load_recipe("lossmix_voc")
        assert changed == (word != "method.mix=lossmix"), word


def test_every_method_is_in_the_table_with_its_recipes() -> None:
    named = {name for _, cell, *_ in rows("With unlabelled images") for name in re.findall("`(.+?)`", cell)}
    assert {load_recipe(name).method.name for name in named} == set(METHODS)


def test_the_quickstart_is_described_as_it_is() -> None:
    recipe = load_recipe()
    labeled, decay = build_dataset(recipe.data.labeled), recipe.method.teacher_decay()
    assert recipe.data.unlabeled is not None
    assert decay is not None
    pool = build_pool(recipe.data.unlabeled, labeled)
    count = f"{labeled.name}: {len(labeled)} images, {len(labeled.labels)} boxes, {len(labeled.classes)} classes; "
    assert count + f"{recipe.detector.body}, preset {recipe.detector.preset}, " in README
    assert f"{pool.name}: {len(pool)} unlabelled images, none of them a labelled one\n" in README
    assert f"learning rate {recipe.optim.lr:g} for a batch of {recipe.data.batch_size}\n" in README
    text = " ".join(README.split())
    assert f"for {recipe.schedule.steps} steps: {decay.burn_in_steps} on the labels, " in text
    assert f"from step {decay.burn_in_steps} on, it trains the same detector without" in text


def test_the_study_is_one(tmp_path: Path) -> None:
    text, row = blocks("yaml")
    (tmp_path / "study.yaml").write_text(text)
    study = load_study(tmp_path / "study.yaml")
    assert [study.recipe_of(row).method.mix for row in study.rows] == [None, "lossmix"]
    head = "name: teachers\nsource: drawn\nrecipe: mum_small\nrows:\n  - {name: mum}\n"
    (tmp_path / "teachers.yaml").write_text(head + row)
    study = load_study(tmp_path / "teachers.yaml")
    mum, teacher = (study.recipe_of(row).method.model_dump() for row in study.rows)
    for name in ("score_threshold", "unsup_weight", "labeled_views"):
        assert teacher[name] == mum[name]
    for name in ("value", "burn_in_steps", "ramp"):
        assert teacher["decay"][name] == mum["decay"][name]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/design.md"])
def test_linked_files_exist(page: str) -> None:
    file = ROOT / page
    links = re.findall(r"\]\(([^)#]+)\)", file.read_text("utf-8"))
    for link in links:
        assert "://" in link or (file.parent / link).exists(), link


def test_published_numbers_are_those_of_the_studies() -> None:
    rows = {**_paper("lossmix_table1", "r50_"), **_paper("lossmix_table3", "")}
    for numbers in rows.values():
        if numbers:
            assert numbers in README or numbers in _UNLISTED, numbers


def _paper(study: str, prefix: str) -> dict[str, str]:
    found = {}
    for row in load_study(study).rows:
        if row.name.startswith(prefix) and row.paper:
            found[f"{study}/{row.name}"] = f"{row.paper['ap']:.2f} / {row.paper['ap50']:.2f}"
    return found


_UNLISTED = {  # rows of the ablation that the README leaves out
    f"{row.paper['ap']:.2f} / {row.paper['ap50']:.2f}"
    for row in load_study("lossmix_table3").rows
    if row.name in ("roi_only", "localization_only", "alpha_0.2", "alpha_5", "alpha_20")
}
