"""Thresholds of classes against the literal search."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdet.structures import Detections
from mixdet.teaching import ClassThresholds, class_thresholds
from mixdet.teaching.class_thresholds import GRID
from oracles.labelling import thresholds

steady = settings(derandomize=True, deadline=None, max_examples=60)
K = 3
found = st.lists(st.tuples(st.integers(0, 100), st.integers(0, K - 1)), max_size=30)
numbers = st.lists(st.integers(0, 40), min_size=K, max_size=K)


def solved(detections: list[tuple[int, int]], images: int, wanted: list[float]) -> torch.Tensor:
    scores = torch.tensor([float(s) for s, _ in detections]) / 100
    labels = torch.tensor([label for _, label in detections], dtype=torch.int64)
    return class_thresholds(scores, labels, images, torch.tensor(wanted, dtype=torch.float64))


@steady
@given(found, numbers, st.integers(1, 7), st.integers(1, 9))
def test_it_is_the_nearest_of_the_grid(
    detections: list[tuple[int, int]], boxes: list[int], images: int, labeled: int
) -> None:
    expected = thresholds(
        [s for s, _ in detections], [c for _, c in detections], images, [Fraction(n, labeled) for n in boxes]
    )
    assert (100 * solved(detections, images, [n / labeled for n in boxes])).round().tolist() == expected


@steady
@given(found, numbers, st.randoms(use_true_random=False))
def test_more_wanted_is_no_higher_and_order_is_nothing(
    detections: list[tuple[int, int]], boxes: list[int], random: object
) -> None:
    few, many = solved(detections, 4, [n / 4 for n in boxes]), solved(detections, 4, [n / 4 + 0.3 for n in boxes])
    assert (many <= few).all()
    shuffled = list(detections)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert torch.equal(solved(shuffled, 4, [n / 4 for n in boxes]), few)


def test_the_labels_are_as_many_as_wanted() -> None:
    scores, labels = torch.tensor([0.95, 0.8, 0.6, 0.3, 0.9]), torch.tensor([0, 0, 0, 0, 1])
    rule = ClassThresholds(class_thresholds(scores, labels, 2, torch.tensor([1.0, 0.5])))
    assert rule(Detections(torch.zeros(5, 4), labels, scores)).tolist() == [True, True, False, False, True]
    assert rule.scores.dtype == torch.float32
    assert rule.scores.tolist() == pytest.approx([0.79, 0.89])


def test_ties_and_classes_without_a_detection_take_the_highest() -> None:
    scores, labels = torch.tensor([0.9, 0.5]), torch.tensor([0, 0])
    between = class_thresholds(scores, labels, 1, torch.tensor([1.5, 2.0]))
    assert between.tolist() == pytest.approx([0.89, 1.0])
    rounded = class_thresholds(scores, labels, 5, torch.tensor([0.3]))  # in float32, a little above 1.5 of 5
    assert rounded.tolist() == pytest.approx([0.89])
    assert class_thresholds(scores[:0], labels[:0], 3, torch.tensor([0.0, 1.0])).tolist() == [1, 1]
    assert (GRID[0], GRID[-1], len(GRID)) == (pytest.approx(0.1), 1, 91)
    with pytest.raises(ValueError, match="images=0"):
        class_thresholds(scores, labels, 0, torch.tensor([1.0]))
