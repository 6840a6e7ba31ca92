"""docs/methods/supervised.md: its numbers are those of the code and of the studies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mixdet.detectors import PRESETS
from mixdet.detectors.roi import RoIHeads
from mixdet.detectors.weighting import MIXED_TERMS, cross_entropy
from mixdet.mixing import PRESETS as MIXES
from mixdet.mixing import RULES
from mixdet.recipes import load_study, study_names
from mixdet.structures import Batch, Instances, Regions

PAGE = (Path(__file__).parents[2] / "docs" / "methods" / "supervised.md").read_text("utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
CAR, DOG = 0, 1


def _classified(rule: str, background_pull: float) -> tuple[float, float]:
    """Classification loss of the worked example, and its gradient at the car's logit of the region on the car."""
    car, dog, neither = torch.tensor([[0.0, 0, 20, 20], [40, 0, 60, 20], [0, 40, 20, 60]]).split(1)
    sides = [Instances(box, torch.tensor([label])) for box, label in ((car, CAR), (dog, DOG))]
    batch = Batch(torch.zeros(1, 3, 64, 64), torch.tensor([[64, 64]]), [RULES[rule](*sides, 0.3)])
    preset = replace(PRESETS["tiny"], roi_positive_fraction=1.0)
    heads = RoIHeads(2, preset, frozenset(MIXED_TERMS), background_pull, cross_entropy)
    regions = heads.sample(Regions(neither, torch.zeros(1, dtype=torch.int64), 1), batch)  # the boxes join the regions
    assert len(regions) == 3
    logits = torch.zeros(3, 3, requires_grad=True)
    loss = heads.losses((logits, torch.zeros(3, 12)), regions).terms["roi_cls"]
    loss.backward()
    assert logits.grad is not None
    assert regions.labels is not None
    on_car = regions.labels.tolist().index(CAR + 1)
    return float(loss.detach()), float(logits.grad[on_car, CAR + 1])


@pytest.mark.parametrize(
    ("begins", "rule", "pull"),
    [("Union", "union", 0.0), ("weighted union", "interpolate", 0.0), ("`background_pull=1`;", "interpolate", 1.0)],
)
def test_the_worked_example(begins: str, rule: str, pull: float) -> None:
    loss, gradient = _classified(rule, pull)
    shown = next(row for row in ROWS if row[0].startswith(begins) and row[1].endswith("/ 3"))
    assert shown[2:] == [f"{loss:.4f}", f"{gradient:+.4f}".replace("-", "−")]


@pytest.mark.parametrize("name", [name for name in study_names() if name.startswith("lossmix")])
def test_the_papers_numbers_are_those_of_the_study(name: str) -> None:
    table = PAGE.split(f"**`{name}`**")[1].split("**")[0]
    heads = [h.strip() for h in table.strip().splitlines()[0].strip("|").split("|")][1:-1]
    keys = [head.lower().replace(" ", "_") for head in heads]
    rows = load_study(name).rows
    lines = table.strip().splitlines()[2:]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        shown = [cell.strip() for cell in line.strip("|").split("|")]
        assert shown[0] == f"`{row.name}`"
        assert shown[1:-1] == [f"{row.paper[key]:.2f}" if key in row.paper else "" for key in keys]
        assert shown[-1] == ", ".join(f"`{word}`" for word in row.overrides)


def test_every_preset_is_on_the_page() -> None:
    for name in MIXES:
        assert f"`{name}`" in PAGE
