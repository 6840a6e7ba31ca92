"""Suppression of the best few boxes is suppression of all, as far as it is looked at."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import batched_nms
from torchvision.ops import boxes as box_ops

from mixdet.detectors.roi import best_after_nms


def boxes_about(places: int, count: int, spread: int, generator: torch.Generator) -> Tensor:
    """(count, 4) of whole pixels, some ``spread`` pixels from one of so many places."""
    centres = torch.randint(50, 500, (places, 2), generator=generator)[
        torch.randint(places, (count,), generator=generator)
    ]
    corners = centres + torch.randint(-spread, spread + 1, (count, 2), generator=generator)
    sides = torch.randint(20, 40, (count, 2), generator=generator)
    return torch.cat([corners, corners + sides], 1).float()


@given(
    seed=st.integers(0, 2**31),
    count=st.integers(0, 900),
    places=st.sampled_from([1, 3, 40, 400]),
    spread=st.sampled_from([0, 5, 30]),
    classes=st.sampled_from([1, 3, 80]),
)
def test_it_is_suppression_of_all(seed: int, count: int, places: int, spread: int, classes: int) -> None:
    """Few places: too few boxes are left of the best, and more are looked at; many: they are enough."""
    generator = torch.Generator().manual_seed(seed)
    boxes, labels = boxes_about(places, count, spread, generator), torch.randint(classes, (count,), generator=generator)
    scores = torch.randperm(count, generator=generator) / 1000
    kept = best_after_nms(boxes, scores, labels, 0.5, 20)
    assert torch.equal(kept, batched_nms(boxes, scores, labels, 0.5)[:20])


@given(seed=st.integers(0, 2**31), levels=st.sampled_from([1, 4, 100]), places=st.sampled_from([30, 1000]))
def test_of_equal_scores_the_first_is_kept(seed: int, levels: int, places: int) -> None:
    """As of scores a little apart, in that order."""
    generator, count = torch.Generator().manual_seed(seed), 2000
    boxes, labels = boxes_about(places, count, 5, generator), torch.randint(3, (count,), generator=generator)
    scores = torch.randint(levels, (count,), generator=generator) / levels
    apart = scores.double() - torch.arange(count) / (2 * levels * count)
    kept = best_after_nms(boxes, scores, labels, 0.5, 20)
    assert torch.equal(kept, batched_nms(boxes.double(), apart, labels, 0.5)[:20])


@pytest.mark.parametrize(
    ("of_the_best", "of_the_rest", "seen"), [(400, 400, [60]), (5, 400, [60, 240]), (5, 5, [60, 240, 500])]
)
def test_no_more_are_looked_at_than_needed(
    of_the_best: int, of_the_rest: int, seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, suppress, sizes = torch.Generator().manual_seed(0), box_ops.nms, []

    def noting(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
        sizes.append(len(boxes))
        return suppress(boxes, scores, iou)

    monkeypatch.setattr(box_ops, "nms", noting)
    boxes = torch.cat([boxes_about(of_the_best, 100, 3, generator), boxes_about(of_the_rest, 400, 3, generator)])
    kept = best_after_nms(boxes, torch.linspace(1, 0, 500), torch.zeros(500, dtype=torch.int64), 0.3, 20)
    assert sizes == seen
    assert (len(kept) == 20) == (of_the_rest > 5)
