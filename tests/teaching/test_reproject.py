"""Boxes from one view to another, against one corner at a time in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mixdet.structures import Batch, Instances
from mixdet.teaching import from_original, reproject

QUICK = settings(deadline=None, derandomize=True, max_examples=40)


def scale(x: float, y: float) -> Tensor:
    return torch.diag(torch.tensor([x, y, 1.0]))


def shift(x: float, y: float) -> Tensor:
    return torch.tensor([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def flip(width: float) -> Tensor:
    return torch.tensor([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def rotation(degrees: float) -> Tensor:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def view(*affines: Tensor, sizes: tuple[tuple[int, int], ...]) -> Batch:
    """Images of (h, w) ``sizes`` that nobody looks at."""
    return Batch(torch.zeros(len(sizes), 3, 1, 1), torch.tensor(sizes), None, affines=torch.stack(affines))


def instances(boxes: Tensor) -> Instances:
    return Instances(boxes, torch.arange(len(boxes)))


def literal(box: list[float], source: Tensor, target: Tensor) -> list[float]:
    """The corners of a box back to the original and on to the other view, and what bounds them."""
    a, b = source.double().numpy(), target.double().numpy()
    x1, y1, x2, y2 = box
    corners = [b @ np.linalg.solve(a, [x, y, 1.0]) for x in (x1, x2) for y in (y1, y2)]
    xs, ys = [c[0] for c in corners], [c[1] for c in corners]
    return [min(xs), min(ys), max(xs), max(ys)]


@st.composite
def geometries(draw: st.DrawFn, quarter_turns: bool) -> tuple[Tensor, tuple[int, int]]:
    """An affine of a 640 x 480 original and the size of its view: resized, perhaps mirrored, cropped and turned."""
    height, width = draw(st.integers(200, 1344)), draw(st.integers(200, 1344))
    affine = scale(width / 640, height / 480)
    if draw(st.booleans()):
        affine = flip(width) @ affine
    if draw(st.booleans()):
        left, top = draw(st.integers(0, width // 2)), draw(st.integers(0, height // 2))
        affine, height, width = shift(-left, -top) @ affine, height - top, width - left
    if quarter_turns:
        turns = draw(st.integers(0, 3))
        for _ in range(turns):
            affine, height, width = shift(height, 0) @ rotation(90) @ affine, width, height
    else:
        centred = rotation(draw(st.floats(-45, 45))) @ shift(-width / 2, -height / 2) @ affine
        affine = shift(width / 2, height / 2) @ centred
    return affine, (height, width)


@QUICK
@given(geometries(quarter_turns=True), geometries(quarter_turns=True), st.integers(0, 999))
def test_there_and_back_to_a_thousandth_of_a_pixel(
    first: tuple[Tensor, tuple[int, int]], second: tuple[Tensor, tuple[int, int]], seed: int
) -> None:
    source, target = view(first[0], sizes=(first[1],)), view(second[0], sizes=(second[1],))
    height, width = first[1]
    corners = torch.rand(16, 2, 2, generator=torch.Generator().manual_seed(seed)).sort(dim=1).values
    boxes = (corners * torch.tensor([width, height])).flatten(1)
    there = [literal(box, first[0], second[0]) for box in boxes.tolist()]
    limits = [second[1][1], second[1][0]] * 2
    whole = [i for i, box in enumerate(there) if all(0 <= v <= m for v, m in zip(box, limits, strict=True))]
    whole = [i for i in whole if (boxes[i, 2:] - boxes[i, :2]).min() > 0.1]
    (moved,) = reproject([instances(boxes)], source, target)
    at = [moved.labels.tolist().index(i) for i in whole]
    expected = torch.tensor([there[i] for i in whole]).reshape(-1, 4)
    torch.testing.assert_close(moved.boxes[at], expected.to(moved.boxes), atol=1e-3, rtol=0)
    (back,) = reproject([moved.select(torch.tensor(at, dtype=torch.int64))], target, source)
    torch.testing.assert_close(back.boxes, boxes[whole], atol=1e-3, rtol=0)


@QUICK
@given(geometries(quarter_turns=False), geometries(quarter_turns=False), st.integers(0, 999))
def test_a_turned_box_is_bounded_cut_and_dropped_where_too_little_is_seen(
    first: tuple[Tensor, tuple[int, int]], second: tuple[Tensor, tuple[int, int]], seed: int
) -> None:
    source, target = view(first[0], sizes=(first[1],)), view(second[0], sizes=(second[1],))
    height, width = first[1]
    corners = torch.rand(16, 2, 2, generator=torch.Generator().manual_seed(seed)).sort(dim=1).values
    boxes = (corners * torch.tensor([width, height])).flatten(1)
    (moved,) = reproject([instances(boxes)], source, target)
    rest = dict(zip(moved.labels.tolist(), moved.boxes.tolist(), strict=True))
    for i, box in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = literal(box, first[0], second[0])
        cut = [max(x1, 0), max(y1, 0), min(x2, second[1][1]), min(y2, second[1][0])]
        share = max(cut[2] - cut[0], 0) * max(cut[3] - cut[1], 0) / ((x2 - x1) * (y2 - y1))
        if abs(share - 0.25) > 1e-6:
            assert (i in rest) == (share > 0.25)
        if i in rest:
            assert rest[i] == pytest.approx(cut, abs=1e-3)


def test_several_images_of_different_geometry_and_no_box_in_one() -> None:
    """Image by image, in the types and with all that instances carry."""
    source = view(scale(1, 1), scale(2, 2), flip(10), sizes=((20, 20),) * 3)
    target = view(scale(3, 3), shift(-4, 0), flip(20), sizes=((60, 60), (8, 8), (20, 20)))
    first = Instances(torch.tensor([[1.0, 2, 3, 4], [5, 5, 9, 9]]), torch.tensor([7, 8]), torch.tensor([0.5, 0.25]))
    third = Instances(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([3]))
    moved = reproject([first, Instances.empty(), third], source, target)
    assert [i.boxes.tolist() for i in moved] == [[[3, 6, 9, 12], [15, 15, 27, 27]], [], [[10, 0, 14, 4]]]
    assert moved[0].labels.tolist() == [7, 8]
    assert moved[0].cls_weights.tolist() == [0.5, 0.25]
    assert moved[1].boxes.shape == (0, 4)
    assert {i.boxes.dtype for i in moved} == {torch.float32}


def test_what_is_outside_is_gone_and_of_ignored_instances_any_rest_stays() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [8.0, 0, 18, 10], [8.0, 0, 18, 10], [12.0, 0, 20, 10], [7.5, 0, 17.5, 10]])
    some = Instances(boxes, torch.arange(5), ignored=torch.tensor([False, False, True, True, False]))
    whole, half = view(scale(1, 1), sizes=((10, 20),)), view(scale(1, 1), sizes=((10, 10),))
    (left,) = reproject([some], whole, half)
    assert left.labels.tolist() == [0, 2, 4]
    assert left.boxes.tolist() == [[0, 0, 10, 10], [8, 0, 10, 10], [7.5, 0, 10, 10]]
    assert len(reproject([some.select(torch.tensor([3]))], whole, half)[0]) == 0


def test_one_geometry_is_no_work() -> None:
    batch = view(scale(2, 2), sizes=((10, 10),))
    same = Batch(torch.ones(1, 3, 1, 1), batch.sizes, None, affines=batch.affines)
    found = [instances(torch.tensor([[0.0, 0, 99, 99]]))]
    assert reproject(found, batch, same) is found
    mixed = Batch(torch.ones(1, 3, 1, 1), batch.sizes, None)
    assert reproject(found, mixed, mixed) is found


@pytest.mark.parametrize("mixed_first", [True, False])
def test_mixed_images_have_no_geometry(mixed_first: bool) -> None:
    batch, mixed = view(scale(2, 2), sizes=((10, 10),)), Batch(torch.zeros(1, 3, 1, 1), torch.tensor([[9, 9]]), None)
    pair = (mixed, batch) if mixed_first else (batch, mixed)
    with pytest.raises(ValueError, match="without affines cannot be reprojected: its images were mixed"):
        reproject([instances(torch.ones(1, 4))], *pair)
    with pytest.raises(ValueError, match="without affines"):
        reproject([instances(torch.ones(1, 4))], mixed, Batch(mixed.images, mixed.sizes, None))


def test_from_the_original() -> None:
    batch = view(scale(2, 4), flip(10), sizes=((40, 20), (20, 10)))
    original = [instances(torch.tensor([[1.0, 1, 3, 2]])), instances(torch.zeros(0, 4))]
    assert [i.boxes.tolist() for i in from_original(original, batch)] == [[[2, 4, 6, 8]], []]


def test_autocast_changes_nothing() -> None:
    source, target = view(scale(1.7, 1.3), sizes=((900, 1300),)), view(flip(801.0), sizes=((900, 801),))
    found = [instances(torch.tensor([[101.3, 99.7, 703.1, 641.9]]))]
    plain = reproject(found, source, target)[0].boxes
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(reproject(found, source, target)[0].boxes, plain)
