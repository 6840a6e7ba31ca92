"""Thresholds that follow a teacher against the literal search over all it has found."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdet.structures import Detections, Instances
from mixdet.teaching import MatchedThresholds
from mixdet.teaching.matched import EXPECTED
from oracles.matched import Found, Labeled, followed

K = 2
labels = st.integers(0, K - 1)
labeled = st.lists(st.lists(labels, max_size=4), max_size=3)
unlabeled = st.lists(st.lists(st.tuples(st.integers(0, 100), labels), max_size=6), max_size=3)
steps = st.lists(st.tuples(labeled, unlabeled), min_size=1, max_size=5)


def instances(of_class: list[int]) -> Instances:
    return Instances(
        torch.tensor([[0.0, 0, 9, 9]] * len(of_class)).view(-1, 4), torch.tensor(of_class, dtype=torch.int64)
    )


def detections(of_image: list[tuple[int, int]]) -> Detections:
    scores = torch.tensor([float(score) for score, _ in of_image]) / 100
    of_class = torch.tensor([label for _, label in of_image], dtype=torch.int64)
    return Detections(torch.zeros(len(of_image), 4), of_class, scores)


def shown(threshold: MatchedThresholds, given_steps: list[tuple[Labeled, Found]]) -> None:
    for boxes, found in given_steps:
        if boxes:
            threshold.expect([instances(image) for image in boxes])
        for image in found:
            threshold(detections(image))
        threshold.commit()


@settings(derandomize=True, deadline=None, max_examples=60)
@given(steps, st.sampled_from([1.0, 0.5]))
def test_thresholds_keep_as_many_boxes_as_labelled_images_have(
    given_steps: list[tuple[Labeled, Found]], decay: float
) -> None:
    threshold = MatchedThresholds(K, start=0.7, decay=decay)
    shown(threshold, given_steps)
    expected = [0.7 if t is None else t / 100 for t in followed(given_steps, decay, K, EXPECTED)]
    assert threshold.scores.tolist() == pytest.approx(expected)


def test_nothing_changes_before_a_step_is_over() -> None:
    threshold = MatchedThresholds(K, start=0.7)
    threshold.expect([instances([0, 0])])
    for _ in range(3):
        assert threshold(detections([(80, 0), (60, 0), (90, 1)])).tolist() == [True, False, True]
    threshold.commit()
    assert threshold(detections([(80, 0), (60, 0), (90, 1), (60, 1)])).tolist() == [True, True, True, False]


def test_a_class_waits_for_enough_boxes_to_be_expected() -> None:
    """Two images of two boxes each are too few to say; of one in four hundred, a threshold would be that of its box."""
    threshold = MatchedThresholds(K, start=0.7, decay=1.0)
    threshold.expect([instances([0, 0])])
    for images, known in ((2, False), (1, True)):
        for _ in range(images):
            threshold(detections([(60, 0), (50, 0), (40, 1)]))
        threshold.commit()
        assert (float(threshold.scores[0]) < 0.5) is known
    assert float(threshold.scores[1]) == pytest.approx(0.7)


def test_ignored_boxes_are_not_expected() -> None:
    threshold = MatchedThresholds(K, start=0.7)
    crowd = Instances(torch.tensor([[0.0, 0, 9, 9]] * 2), torch.tensor([0, 1]), ignored=torch.tensor([False, True]))
    threshold.expect([crowd])
    threshold.commit()
    assert threshold.labeled_boxes.tolist() == [1, 0]


def test_a_run_that_goes_on_knows_what_was_found() -> None:
    one, other = MatchedThresholds(K, start=0.7), MatchedThresholds(K, start=0.7)
    shown(one, [([[0, 1]], [[(80, 0), (30, 1)], [(40, 0)]] * 3)])
    assert float(one.scores.max()) < 0.7
    other.expect([instances([1])])  # of a step that was not committed
    other(detections([(90, 1)]))
    other.load_state_dict(one.state_dict())
    after = [([[0]], [[(55, 0), (35, 1), (20, 1)]])]
    for threshold in (one, other):
        shown(threshold, after)
    assert torch.equal(one.scores, other.scores)
    assert torch.equal(one.found, other.found)
