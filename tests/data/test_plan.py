"""Batch n of an endless stream, as a function of n."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdet.data import DetectionDataset, FileImages
from mixdet.data.plan import BatchPlan, aspect_groups, class_balanced


def first_images(plan: BatchPlan, batches: int) -> list[int]:
    return [index for number in range(batches) for index in plan.batch(number)]


@settings(deadline=None, derandomize=True, max_examples=40)
@given(sizes=st.lists(st.integers(1, 17), min_size=1, max_size=3), batch_size=st.integers(1, 6), seed=st.integers(0, 9))
def test_every_image_comes_once_an_epoch_and_batches_keep_to_a_group(
    sizes: list[int], batch_size: int, seed: int
) -> None:
    starts = np.cumsum([0, *sizes])
    groups = [np.arange(a, b) for a, b in pairwise(starts)]
    plan = BatchPlan(groups, batch_size, seed)
    epochs = 6
    batches = sum(epochs * size // batch_size for size in sizes)
    seen = Counter(first_images(plan, batches))
    for size, group in zip(sizes, groups, strict=True):
        read = epochs * size // batch_size * batch_size
        counts = [seen[i] for i in group.tolist()]
        assert sum(counts) == read
        assert max(counts) - min(counts) <= 1
    for number in range(batches):
        assert any(set(plan.batch(number)) <= set(group.tolist()) for group in groups)


def test_batches_are_read_in_any_order_and_depend_on_the_seed() -> None:
    groups = [np.arange(7), np.arange(7, 20)]
    plan = BatchPlan(groups, 4, 3)
    ahead = plan.batch(37)
    assert [plan.batch(n) for n in range(50)][37] == ahead == BatchPlan(groups, 4, 3).batch(37)
    assert first_images(plan, 20) != first_images(BatchPlan(groups, 4, 4), 20)


def test_epochs_are_shuffled_anew() -> None:
    plan = BatchPlan([np.arange(12)], 4, 0)
    assert sorted(first_images(plan, 3)) == list(range(12))
    assert [plan.batch(n) for n in range(3)] != [plan.batch(n) for n in range(3, 6)]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(3, 4)] * 5 + [(4, 3)] * 4, [5, 4]),
        ([(3, 4)] * 5 + [(4, 3)] * 3, [8]),  # three portrait images fill no batch of four
        ([(4, 4)] * 6, [6]),
    ],
)
def test_aspect_groups(sizes: list[tuple[int, int]], expected: list[int]) -> None:
    groups = aspect_groups(np.array(sizes, np.int32), 4)
    assert [len(g) for g in groups] == expected
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(sizes)))


def test_images_of_rare_classes_come_more_often() -> None:
    """Class 0 is in 16 images of 20, class 1 in 4, class 2 in 1; three have no box; counted by hand."""
    labels = [[0]] * 12 + [[0, 1]] * 4 + [[2]] + [[]] * 3
    flat = [(i, label) for i, row in enumerate(labels) for label in row]
    data = DetectionDataset.from_rows(
        "d",
        FileImages.from_names(".", [f"{i}.jpg" for i in range(20)]),
        ["a", "b", "c"],
        sizes=[[8, 9]] * 10 + [[9, 8]] * 10,
        image_index=[i for i, _ in flat],
        boxes=[[0, 0, 1, 1]] * len(flat),
        labels=[label for _, label in flat],
    )
    counts = Counter(class_balanced(data).tolist())
    assert [counts[i] for i in range(20)] == [1] * 12 + [2] * 4 + [4] + [1] * 3  # sqrt(16 / 4), sqrt(16 / 1)
    groups = aspect_groups(data.sizes, 2, class_balanced(data))
    assert [len(g) for g in groups] == [10, 17]
    seen = Counter(first_images(BatchPlan(groups, 1, 0), 27))
    assert seen == counts
    assert class_balanced(data.subset([17, 18])).tolist() == [0, 1]
