"""Learning rates as functions of the step, and parameter groups."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mixdet.methods import Method
from mixdet.training.optim import build_optimizer, scaled_lr
from mixdet.training.schedules import Schedule


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule("constant", 10), {0: 1.0, 9: 1.0}),
        # detectron2's WarmupMultiStepLR: LossMix on VOC, supplement B
        (
            Schedule("step", 18000, 100, 0.001, (12000, 16000), 0.1),
            {0: 0.001, 50: 0.001 * 0.5 + 0.5, 100: 1.0, 11999: 1.0, 12000: 0.1, 15999: 0.1, 16000: 0.01, 17999: 0.01},
        ),
        (Schedule("cosine", 100), {0: 1.0, 50: 0.5, 75: 0.5 * (1 + math.cos(0.75 * math.pi))}),
    ],
)
def test_factors(schedule: Schedule, expected: dict[int, float]) -> None:
    for step, factor in expected.items():
        assert schedule.factor(step) == pytest.approx(factor, rel=1e-9)


def test_the_linear_rule() -> None:
    assert scaled_lr(0.08, 16, 64) == pytest.approx(0.02)
    assert scaled_lr(0.08, 16, None) == 0.08


class TwoParts(Method):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.head = nn.Linear(2, 1)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)

    def lr_scale(self, parameter_name: str) -> float:
        return 10.0 if parameter_name.startswith("head") else 1.0


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_groups_follow_lr_scale_and_leave_norms_undecayed(name: str, kind: type) -> None:
    method = TwoParts()
    optimizer = build_optimizer(method, name, lr=0.5, weight_decay=0.1)  # type: ignore[arg-type]
    assert isinstance(optimizer, kind)
    groups = {(g["lr"], g["weight_decay"]): g["params"] for g in optimizer.param_groups}
    assert {key: len(params) for key, params in groups.items()} == {(0.5, 0.1): 2, (0.5, 0.0): 2, (5.0, 0.1): 2}
    assert groups[0.5, 0.0][0] is method.body[1].weight
