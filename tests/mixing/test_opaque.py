"""Paste (CutMix) and mosaic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdet.mixing import PRESETS, Fixed, Mix, Mixture
from mixdet.structures import Batch, Instances
from mixing.batches import GREY, generator, outside, pixels, random_batch, same_instances
from oracles import mixing as oracle

steady = settings(derandomize=True, deadline=None, max_examples=60)
size = st.tuples(st.integers(1, 12), st.integers(1, 12))


def cut(mixture: Mixture, i: int, height: int, width: int) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = mixture.cuts[i].tolist()
    return round(x1 * width), round(y1 * height), round(x2 * width), round(y2 * height)


def expected_boxes(batch: Batch, i: int, canvas: tuple[int, int], visible: np.ndarray) -> list[tuple[int, ...]]:
    """The instances of which a quarter is visible, as bounding boxes of visible pixels, in order."""
    height, width = batch.sizes[i].tolist()
    dy, dx = (canvas[0] - height) // 2, (canvas[1] - width) // 2
    boxes = []
    for x1, y1, x2, y2 in batch.labels[i].boxes.int().tolist():
        count, box = oracle.seen_box((x1 + dx, y1 + dy, x2 + dx, y2 + dy), visible)
        if box is not None and count >= 0.25 * (x2 - x1) * (y2 - y1):
            boxes.append(box)
    return boxes


@steady
@given(size, size, st.integers(0, 1000), st.floats(0, 1, width=32))
def test_paste_is_the_pixels_and_boxes_and_shares_that_are_seen(size_a, size_b, seed, lam):
    a = random_batch([size_a], seed, counts=[4], name="a", canvas=(13, 13))
    b = random_batch([size_b], seed + 1, counts=[4], name="b")
    mix = Mix("paste", "interpolate", Fixed(lam))
    mixture = mix.draw(a, b, generator(seed))
    mixed = mix.apply(a, b, mixture)
    canvas = tuple(mixed.sizes[0].tolist())
    image, owner = oracle.paste(pixels(a, 0), pixels(b, 0), cut(mixture, 0, *canvas))
    assert canvas == image.shape[1:]
    np.testing.assert_allclose(pixels(mixed, 0), image)
    assert (outside(mixed, 0) == GREY).all()
    share = (owner == 1).sum() / owner.size
    first = expected_boxes(a, 0, canvas, owner == 0) if share < 1 else []
    second = expected_boxes(b, 0, canvas, owner == 1) if share > 0 else []
    labels = mixed.labels[0]
    assert labels.boxes.tolist() == [list(map(float, box)) for box in first + second]
    assert labels.shares.tolist() == pytest.approx([1 - share] * len(first) + [share] * len(second))
    assert labels.sources.tolist() == [0] * len(first) + [1] * len(second)
    torch.testing.assert_close(mixed.weights, (1 - share) * a.weights + share * b.weights)


@steady
@given(st.lists(size, min_size=4, max_size=4), st.integers(0, 1000))
def test_mosaic_is_the_pixels_and_boxes_that_are_seen(sizes, seed):
    batch = random_batch(sizes, seed, counts=[3, 0, 2, 4], canvas=(14, 13))
    mix = replace(PRESETS["mosaic"], pairing="derangement")
    mixture = mix.draw(batch, batch, generator(seed))
    mixed = mix.apply(batch, batch, mixture)
    partner = mixture.partner.tolist()
    for i in range(4):
        members = [i, partner[i], partner[partner[i]], partner[partner[partner[i]]]]
        canvas = tuple(mixed.sizes[i].tolist())
        _, _, x, y = cut(mixture, i, *canvas)
        image, owner = oracle.mosaic([pixels(batch, k) for k in members], x, y)
        assert canvas == image.shape[1:]
        np.testing.assert_allclose(pixels(mixed, i), image)
        expected = [box for tile, k in enumerate(members) for box in expected_boxes(batch, k, canvas, owner == tile)]
        labels = mixed.labels[i]
        assert labels.boxes.tolist() == [list(map(float, box)) for box in expected]
        assert (labels.shares == 1).all()
        assert mixed.ids[i] == frozenset().union(*(batch.ids[k] for k in members))


@pytest.mark.parametrize("preset", ["cutmix", "mosaic"])
def test_boxes_stay_inside_the_canvas_and_keep_an_area(preset):
    batch = random_batch([(31, 47), (40, 20), (13, 13), (64, 64)], counts=[9] * 4)
    for seed in range(20):
        mixed = PRESETS[preset](batch, batch, generator(seed))
        for labels, (height, width) in zip(mixed.labels, mixed.sizes.tolist(), strict=True):
            assert (labels.boxes >= 0).all()
            assert (labels.boxes <= torch.tensor([width, height, width, height])).all()
            assert (labels.boxes[:, 2:] > labels.boxes[:, :2]).all()


def pasted(boxes: list[list[float]], rectangle: list[float], ignored: bool = False) -> Instances:
    """What is left of boxes in a 100 x 100 image under a pasted rectangle."""
    instances = Instances(torch.tensor(boxes), torch.zeros(len(boxes), dtype=torch.int64))
    if ignored:
        instances = replace(instances, ignored=torch.ones(len(boxes), dtype=torch.bool))
    blank = torch.zeros(1, 3, 100, 100)
    a = Batch(blank, torch.tensor([[100, 100]]), [instances], ids=(frozenset({"a"}),))
    b = Batch(blank, torch.tensor([[100, 100]]), [Instances.empty()], ids=(frozenset({"b"}),))
    mixture = Mixture(torch.tensor([0]), torch.tensor([0.5]), torch.tensor([True]), torch.tensor([rectangle]))
    return Mix("paste", "interpolate").apply(a, b, mixture).labels[0]


@pytest.mark.parametrize(
    ("rectangle", "left"),
    [
        ([0.0, 0.0, 0.3, 1.0], [30.0, 20.0, 60.0, 60.0]),  # the left strip is covered
        ([0.5, 0.2, 1.0, 0.6], [20.0, 20.0, 50.0, 60.0]),  # the right strip, edges just met
        ([0.0, 0.0, 1.0, 0.4], [20.0, 40.0, 60.0, 60.0]),  # the top
        ([0.0, 0.5, 1.0, 1.0], [20.0, 20.0, 60.0, 50.0]),  # the bottom
        ([0.0, 0.0, 0.4, 0.4], [20.0, 20.0, 60.0, 60.0]),  # a corner: every side still shows
        ([0.3, 0.0, 0.4, 1.0], [20.0, 20.0, 60.0, 60.0]),  # across the middle
        ([0.3, 0.3, 0.4, 0.4], [20.0, 20.0, 60.0, 60.0]),  # a hole
        ([0.0, 0.3, 0.5, 0.5], [20.0, 20.0, 60.0, 60.0]),  # half of the left side
        ([0.7, 0.7, 0.9, 0.9], [20.0, 20.0, 60.0, 60.0]),  # elsewhere
    ],
)
def test_a_side_moves_only_where_its_whole_strip_is_covered(rectangle, left):
    assert pasted([[20.0, 20.0, 60.0, 60.0]], rectangle).boxes.tolist() == [left]


def test_below_a_quarter_an_object_is_none_but_an_ignored_region_still_is():
    boxes = [[0.0, 0.0, 40.0, 10.0], [0.0, 0.0, 41.0, 10.0], [0.0, 20.0, 10.0, 30.0]]
    covered = [0.0, 0.0, 0.3, 0.15]
    assert pasted(boxes, covered).boxes.tolist() == [[30.0, 0.0, 40.0, 10.0], [30.0, 0.0, 41.0, 10.0], boxes[2]]
    covered = [0.0, 0.0, 0.31, 0.15]
    assert pasted(boxes, covered).boxes.tolist() == boxes[2:]
    assert pasted(boxes, covered, ignored=True).boxes.tolist() == [
        [31.0, 0.0, 40.0, 10.0],
        [31.0, 0.0, 41.0, 10.0],
        boxes[2],
    ]
    assert pasted(boxes, [0.0, 0.0, 1.0, 1.0]).boxes.tolist() == []


@pytest.mark.parametrize("preset", ["cutmix", "mosaic"])
def test_an_unmixed_image_keeps_even_boxes_that_no_mixed_one_would(preset):
    batch = random_batch([(6, 8)] * 3, counts=[1, 1, 1])
    odd = Instances(torch.tensor([[3.0, 3.0, 3.0, 5.0], [-1.0, 2.0, 9.0, 7.0]]), torch.tensor([0, 1]))
    batch = batch.with_instances([odd] * 3)
    mix = replace(PRESETS[preset], pairing="roll")
    mixture = replace(mix.draw(batch, batch, generator(0)), mixed=torch.tensor([True, False, True]))
    mixed = mix.apply(batch, batch, mixture)
    assert same_instances(mixed.labels[1], odd)
    assert torch.equal(mixed.images[1], batch.images[1])
    assert (mixed.labels[0].boxes[:, 2:] > mixed.labels[0].boxes[:, :2]).all()


@pytest.mark.parametrize("preset", ["cutmix", "mosaic"])
def test_an_image_that_meets_itself_or_its_twin_is_left_alone(preset):
    batch = random_batch([(6, 8), (8, 5), (3, 3)])
    mix = replace(PRESETS[preset], pairing="reverse")
    mixed = mix(batch, batch, generator(0))
    assert torch.equal(mixed.images[1], batch.images[1])
    assert same_instances(mixed.labels[1], batch.labels[1])
    twins = replace(batch, images=1 - batch.images)
    assert replace(mix, pairing="aligned")(batch, twins, generator(0)) is batch


def test_ids_that_a_batch_made_up_say_nothing_about_another_batch():
    a, b = (replace(random_batch([(6, 8)] * 2, seed), ids=()) for seed in (0, 1))
    mix = replace(PRESETS["cutmix"], pairing="aligned")
    assert mix.draw(a, b, generator(0)).mixed.all()
    assert not mix.draw(a, a, generator(0)).mixed.any()
