"""Elementwise losses against their equations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixdet.detectors.weighting import cross_entropy, focal_loss, silenced
from oracles.focal import focal

logits_and_target = st.lists(st.floats(-8, 8), min_size=2, max_size=5).flatmap(
    lambda row: st.tuples(st.just(row), st.integers(0, len(row) - 1))
)


@given(logits_and_target)
def test_focal_loss_is_the_papers_at_gamma_one_and_a_half(drawn: tuple[list[float], int]) -> None:
    row, target = drawn
    found = focal_loss(torch.tensor([row], dtype=torch.float64), torch.tensor([target]))
    assert found.item() == pytest.approx(focal(row, target, 1.5), rel=1e-9, abs=1e-12)


@given(logits_and_target, st.sampled_from([0.0, 1.0, 2.0, 5.0]))
def test_other_gammas_and_soft_targets(drawn: tuple[list[float], int], gamma: float) -> None:
    row, target = drawn
    logits = torch.tensor([row], dtype=torch.float64)
    soft = torch.zeros_like(logits)
    soft[0, target], soft[0, 0] = 0.3, 0.7 if target else 0.3
    wanted = 0.3 * focal(row, target, gamma) + (0.7 * focal(row, 0, gamma) if target else 0)
    assert focal_loss(logits, soft, gamma).item() == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_gamma_zero_is_cross_entropy() -> None:
    logits, targets = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)), torch.arange(7) % 4
    torch.testing.assert_close(focal_loss(logits, targets, 0.0), cross_entropy(logits, targets))


def test_what_has_no_weight_reaches_no_gradient() -> None:
    values = torch.tensor([[1.0, 2.0], [float("inf"), -float("inf")]], requires_grad=True)
    weights = torch.tensor([0.5, 0.0])
    (weights[:, None] * silenced(values, weights).square()).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[1.0, 2.0], [0.0, 0.0]]


def test_where_all_have_weight_nothing_is_copied() -> None:
    values = torch.rand(3, 2)
    assert silenced(values, torch.tensor([0.5, 1.0, -1.0])) is values
    assert silenced(values[:0], torch.empty(0)).shape == (0, 2)
