from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdet.mixing import PAIRINGS, Beta, Fixed, Uniform
from mixing.batches import generator

steady = settings(derandomize=True, deadline=None, max_examples=30)


@pytest.mark.parametrize("sampler", [Beta(), Beta(0.2), Beta(20), Uniform(0.8, 1.0), Fixed(0.5)], ids=str)
def test_samplers_are_shares_of_the_right_shape_and_follow_the_generator(sampler):
    lam = sampler.sample(1000, generator(1))
    assert lam.shape == (1000,)
    assert lam.dtype == torch.float32
    assert ((lam >= 0) & (lam <= 1)).all()
    assert torch.equal(lam, sampler.sample(1000, generator(1)))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0, 20.0])
def test_beta_has_the_moments_of_beta(alpha):
    lam = Beta(alpha).sample(20000, generator(0)).double()
    assert lam.mean().item() == pytest.approx(0.5, abs=0.01)
    assert lam.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_random_samplers_differ_from_draw_to_draw():
    draw = generator(0)
    assert not torch.equal(Beta().sample(4, draw), Beta().sample(4, draw))
    assert not torch.equal(Uniform(0, 1).sample(4, draw), Uniform(0, 1).sample(4, draw))


def test_uniform_keeps_its_bounds():
    lam = Uniform(0.8, 1.0).sample(1000, generator(0))
    assert lam.min() >= 0.8
    assert lam.max() <= 1.0
    assert lam.max() - lam.min() > 0.19


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Beta(0), "alpha"),
        (lambda: Beta(-1), "-1"),
        (lambda: Beta(math.nan), "nan"),
        (lambda: Beta(math.inf), "inf"),
        (lambda: Uniform(0.5, 0.4), "low 0.5 and high 0.4"),
        (lambda: Uniform(-0.1, 0.4), "-0.1"),
        (lambda: Uniform(0.1, 1.4), "1.4"),
        (lambda: Uniform(math.nan, 1), "nan"),
        (lambda: Fixed(1.5), "1.5"),
    ],
)
def test_impossible_coefficients_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@steady
@given(st.sampled_from(sorted(PAIRINGS)), st.integers(2, 20), st.integers(0, 10))
def test_pairings_are_permutations_that_follow_the_generator(name, count, seed):
    partner = PAIRINGS[name](count, generator(seed))
    assert partner.dtype == torch.int64
    assert partner.sort().values.tolist() == list(range(count))
    assert torch.equal(partner, PAIRINGS[name](count, generator(seed)))


@steady
@given(st.sampled_from(["derangement", "roll"]), st.integers(2, 20), st.integers(0, 10))
def test_nobody_meets_himself_in_a_derangement_or_a_roll(name, count, seed):
    assert (PAIRINGS[name](count, generator(seed)) != torch.arange(count)).all()


def test_derangements_are_more_than_rolls():
    draw = generator(0)
    seen = {tuple(PAIRINGS["derangement"](4, draw).tolist()) for _ in range(300)}
    assert len(seen) == 9  # all derangements of four, also those of two swaps


def test_fixed_pairings():
    assert PAIRINGS["roll"](4, generator(0)).tolist() == [1, 2, 3, 0]
    assert PAIRINGS["reverse"](3, generator(0)).tolist() == [2, 1, 0]
    assert PAIRINGS["aligned"](3, generator(0)).tolist() == [0, 1, 2]


def test_one_image_has_nobody_else():
    with pytest.raises(ValueError, match="one image cannot be mixed"):
        PAIRINGS["derangement"](1, generator(0))
