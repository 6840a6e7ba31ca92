"""Suppression of the best few boxes is suppression of all, as far as it is looked at."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import batched_nms

from mixdet.detectors.roi import best_after_nms


def boxes_about(places: int, count: int, spread: int, generator: torch.Generator) -> Tensor:
    """(count, 4) of whole pixels, some ``spread`` pixels from one of so many places."""
    centres = torch.randint(50, 500, (places, 2), generator=generator)[
        torch.randint(places, (count,), generator=generator)
    ]
    corners = centres + torch.randint(-spread, spread + 1, (count, 2), generator=generator)
    sides = torch.randint(20, 40, (count, 2), generator=generator)
    return torch.cat([corners, corners + sides], 1).float()


@given(st.integers(0, 2**31), st.integers(0, 900), st.sampled_from([1, 3, 40, 400]), st.sampled_from([0, 5, 30]))
def test_it_is_suppression_of_all(seed: int, count: int, places: int, spread: int) -> None:
    """Few places: too few boxes are left of the best, and all are looked at; many: they are enough."""
    generator = torch.Generator().manual_seed(seed)
    boxes, labels = boxes_about(places, count, spread, generator), torch.randint(3, (count,), generator=generator)
    scores = torch.randperm(count, generator=generator) / 1000
    kept = best_after_nms(boxes, scores, labels, 0.5, 20)
    assert torch.equal(kept, batched_nms(boxes, scores, labels, 0.5)[:20])


def test_both_ways_are_taken() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.arange(500) / 500, torch.zeros(500, dtype=torch.int64)
    many, few = (boxes_about(places, 500, 3, generator) for places in (400, 5))
    assert len(best_after_nms(many, scores, labels, 0.5, 20)) == 20
    assert 0 < len(best_after_nms(few, scores, labels, 0.3, 20)) < 20
