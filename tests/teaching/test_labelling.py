"""Which images are easy, and what two networks agree on."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdet.structures import Detections
from mixdet.teaching import agreed, easiest
from oracles import labelling

steady = settings(derandomize=True, deadline=None, max_examples=60)
sides = st.integers(4, 6)
places = st.integers(0, 2)
boxes = st.builds(
    lambda x, y, w, h, label: ((float(x), float(y), float(x + w), float(y + h)), label),
    *(places, places, sides, sides, st.integers(0, 1)),
)


def detections(found: list[labelling.Found]) -> Detections:
    return Detections(
        torch.tensor([f.box for f in found]).view(-1, 4),
        torch.tensor([f.label for f in found], dtype=torch.int64),
        torch.tensor([f.score for f in found]),
    )


@steady
@given(st.lists(st.lists(st.integers(0, 100), max_size=4), max_size=8), st.integers(1, 8))
def test_the_easiest_have_the_highest_means(hundredths: list[list[int]], eighths: int) -> None:
    scores = [torch.tensor(image, dtype=torch.float64) / 128 for image in hundredths]
    assert easiest(scores, eighths / 8).tolist() == labelling.easiest(hundredths, Fraction(eighths, 8))


def test_images_without_a_label_are_never_easy() -> None:
    nothing, sure, unsure = torch.zeros(0), torch.tensor([0.9, 0.9]), torch.tensor([0.9, 0.1])
    assert easiest([nothing, unsure, sure, nothing], 0.25).tolist() == [2]
    assert easiest([nothing, unsure, sure, nothing], 1.0).tolist() == [1, 2]
    assert easiest([sure]).tolist() == [0]
    assert easiest([nothing], 1.0).tolist() == easiest([], 1.0).tolist() == []
    with pytest.raises(ValueError, match="share 0"):
        easiest([sure], 0)


@steady
@given(st.lists(boxes, max_size=6), st.lists(boxes, max_size=6), st.sampled_from([0.3, 0.5, 0.7]), st.data())
def test_agreed_pair_by_pair(
    first: list[tuple[labelling.Box, int]],
    second: list[tuple[labelling.Box, int]],
    iou: float,
    data: st.DataObject,
) -> None:
    scores = data.draw(st.permutations(range(1, len(first) + len(second) + 1)))  # no two alike: an order of their own
    found = [labelling.Found(*f, s / 16) for f, s in zip([*first, *second], scores, strict=True)]
    one, two = found[: len(first)], found[len(first) :]
    both = agreed(detections(one), detections(two), iou)
    expected = detections(labelling.agreed(one, two, iou))
    other = agreed(detections(two), detections(one), iou)
    for key in ("boxes", "labels", "scores"):
        assert torch.equal(getattr(both, key), getattr(expected, key)), key
        assert torch.equal(getattr(both, key), getattr(other, key)), key


def test_agreed_on_a_worked_case() -> None:
    first = [((0.0, 0.0, 10.0, 10.0), 0, 0.6), ((20.0, 0.0, 30.0, 10.0), 0, 0.9), ((40.0, 0.0, 50.0, 10.0), 1, 0.9)]
    second = [((0.0, 0.0, 10.0, 8.0), 0, 0.7), ((20.0, 0.0, 30.0, 5.0), 0, 0.8), ((40.0, 0.0, 50.0, 10.0), 0, 0.9)]
    both = agreed(*(detections([labelling.Found(*f) for f in side]) for side in (first, second)))
    assert both.boxes.tolist() == [[0, 0, 10, 8]]  # the second pair is at IoU 0.5, the third of two classes
    alike = detections([labelling.Found((0.0, 0.0, 10.0, 10.0), 0, 0.5)])
    near = detections([labelling.Found((0.0, 0.0, 10.0, 9.0), 0, 0.5)])
    assert agreed(alike, near).boxes.tolist() == [[0, 0, 10, 10]]  # equally sure: the first's
    first = [((0.0, 0.0, 10.0, 10.0), 0, 0.9), ((4.8, 0.0, 14.8, 10.0), 0, 0.8)]
    second = [((0.0, 0.0, 10.0, 10.0), 0, 0.7), ((7.0, 0.0, 17.0, 10.0), 0, 0.6)]
    both = agreed(*(detections([labelling.Found(*f) for f in side]) for side in (first, second)))
    assert both.scores.tolist() == pytest.approx([0.9])  # the less sure box of a pair is gone, though its twin is too
