"""What is remembered of an image, and when others see it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdet.structures import Detections
from mixdet.teaching import LabelStore, merge, suppress
from oracles.label_store import Box, visits

CORNERS = st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 8)] * 2).map(
    lambda t: (float(t[0]), float(t[1]), float(t[0] + t[2]), float(t[1] + t[3]))
)
BOXES = st.lists(st.builds(Box, CORNERS, st.integers(0, 2), st.integers(1, 64).map(lambda n: n / 64)), max_size=9)


def detections(*boxes: Box) -> Detections:
    """Best first, as detectors give them."""
    ordered = sorted(boxes, key=lambda box: -box.score)
    corners = torch.tensor([box.corners for box in ordered]).reshape(-1, 4)
    labels = torch.tensor([box.label for box in ordered], dtype=torch.int64)
    return Detections(corners, labels, torch.tensor([box.score for box in ordered]))


def listed(found: Detections) -> list[Box]:
    rows = zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
    return [Box((x1, y1, x2, y2), label, score) for (x1, y1, x2, y2), label, score in rows]


def box(score: float, x: float = 0.0, label: int = 0) -> Box:
    return Box((x, 0.0, x + 10, 10.0), label, score)


def seen(store: LabelStore, image: str, *found: Sequence[Box]) -> list[list[Box]]:
    return [listed(d) for d in store.visit(image, [detections(*boxes) for boxes in found])]


@given(st.lists(BOXES, min_size=1, max_size=4), st.sampled_from([0.5, 1.0]), st.sampled_from([0.0, 0.25]))
@settings(max_examples=60, deadline=None)
def test_visits_are_those_of_the_oracle(found: list[list[Box]], decay: float, threshold: float) -> None:
    """Scores and decay are binary fractions, so that equal scores are equal in float32 too."""
    numbers = {"decay": decay, "limit": 5}
    store = LabelStore(1, threshold, iou=0.5, **numbers)  # type: ignore[arg-type]
    ordered = [listed(detections(*boxes)) for boxes in found]
    expected = visits(ordered, overlap=0.5, threshold=threshold, **numbers)  # type: ignore[arg-type]
    for boxes, memory in zip(found, expected, strict=True):
        assert seen(store, "a", boxes) == [memory]
        store.commit()
        assert [listed(d) for d in store.of("a")] == [memory]
    assert len(store) == bool(expected[-1])


@given(BOXES)
@settings(max_examples=30, deadline=None)
def test_what_is_found_again_changes_nothing(boxes: list[Box]) -> None:
    once = suppress(detections(*boxes), 0.5)
    again = merge(once, detections(*boxes), decay=0.5, iou=0.5, score_threshold=0.0, limit=100)
    assert listed(again) == listed(once)


def test_a_box_that_is_not_found_again_fades_and_dies() -> None:
    """0.9 * 0.99^25 is above 0.7, 0.9 * 0.99^26 is not."""
    store = LabelStore(1, 0.7)
    seen(store, "a", [box(0.9)])
    store.commit()
    lives = 0
    while seen(store, "a", [])[0]:
        store.commit()
        lives += 1
    assert lives == 25
    store.commit()
    assert len(store) == 0
    assert store.state_dict() == {}


def test_a_better_box_takes_the_place_of_an_old_one_of_its_class_and_head() -> None:
    store = LabelStore(2, 0.3, decay=1.0)
    seen(store, "a", [box(0.8)], [box(0.9, label=1)])
    store.commit()
    first, second = seen(store, "a", [box(0.85, x=1), box(0.5, label=1)], [box(0.5, x=1, label=1)])
    assert [(b.corners[0], b.label) for b in first] == [(1, 0), (0, 1)]
    assert [(b.corners[0], b.label) for b in second] == [(0, 1)]


def test_a_visit_is_seen_after_the_step_and_of_two_the_later_counts() -> None:
    store = LabelStore(1, 0.3, decay=1.0)
    earlier = seen(store, "a", [box(0.8)])
    assert [b.corners[0] for b in earlier[0]] == [0]
    assert [len(d) for d in store.of("a")] == [0]
    later = seen(store, "a", [box(0.7, x=50)])
    assert [b.corners[0] for b in later[0]] == [50]
    store.commit()
    assert [b.corners[0] for b in listed(store.of("a")[0])] == [50]
    store.commit()  # nothing new
    assert len(store) == 1


def test_the_state_comes_back_bit_for_bit_whatever_the_names() -> None:
    store = LabelStore(2, 0.1)
    names = ["b/\nline.jpg", "ä 1.png", "a"]
    for i, name in enumerate(names):
        seen(store, name, [box(0.3 + 0.1 * i), box(1 / 3, x=50.1, label=79)], [box(0.77, x=i)] if i else [])
    store.commit()
    state = store.state_dict()
    assert {name: value.dtype for name, value in state.items()} == {
        "names": torch.uint8,
        "counts": torch.int64,
        "rows": torch.float32,
    }
    assert json.loads(bytes(state["names"].tolist())) == sorted(names)
    other = LabelStore(2, 0.1)
    seen(other, "old", [box(0.9)], [box(0.9)])
    other.commit()
    other.load_state_dict(state)
    assert len(other) == 3
    for name in names:
        for a, b in zip(store.of(name), other.of(name), strict=True):
            assert torch.equal(a.boxes, b.boxes)
            assert torch.equal(a.labels, b.labels)
            assert torch.equal(a.scores, b.scores)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in state.items())
    other.load_state_dict({})
    assert len(other) == 0


def test_the_order_of_visits_leaves_no_trace() -> None:
    states = []
    for names in ("abc", "cab"):
        store = LabelStore(1, 0.1)
        for name in names:
            seen(store, name, [box(ord(name) / 200)])
        store.commit()
        states.append(store.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
