"""Named losses: what their arithmetic does to terms and notes."""

from __future__ import annotations

import pytest
import torch

from mixdet.structures import Losses


def losses(**terms: float) -> Losses:
    return Losses({name: torch.tensor(value, requires_grad=True) for name, value in terms.items()})


def numbers(found: Losses) -> dict[str, float]:
    return {name: value.item() for name, value in found.terms.items()}


def test_they_are_added_weighted_and_prefixed_like_the_terms_of_an_equation() -> None:
    both = 0.5 * losses(a=1.0, b=2.0) + losses(a=3.0).prefixed("unsup")
    assert numbers(both) == {"a": 0.5, "b": 1.0, "unsup/a": 3.0}
    assert both.total.item() == 4.5
    with pytest.raises(ValueError, match=r"\['a'\] on both sides of \+"):
        losses(a=1.0) + losses(a=1.0)
    assert numbers(losses(a=1.0).merge(losses(a=2.0, b=3.0))) == {"a": 3.0, "b": 3.0}


def test_notes_have_no_gradient_and_no_weight() -> None:
    noted = 0 * losses(a=1.0).noted(lam=torch.tensor(0.3, requires_grad=True))
    assert noted.notes["lam"].item() == pytest.approx(0.3)
    assert not noted.notes["lam"].requires_grad


@pytest.mark.parametrize("infinite", [float("inf"), float("nan")])
@pytest.mark.parametrize("zero", [0, 0.0])
def test_a_term_of_weight_zero_is_left_out_whatever_it_is(zero: float, infinite: float) -> None:
    known, unknown = losses(a=2.0), losses(b=infinite)
    found = known + zero * unknown
    found.total.backward()
    assert found.total.item() == 2.0
    assert known.terms["a"].grad == 1
    assert unknown.terms["b"].grad is None
