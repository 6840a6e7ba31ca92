"""The weak view and its affine."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdet.data.geometry import WeakView, resized, to_original, transform_boxes
from mixdet.structures import Detections, Instances, keyed_generator


@pytest.mark.parametrize(
    ("size", "short", "long", "expected"),
    [
        ((480, 640), 600, 1333, (600, 800)),
        ((640, 480), 600, 1333, (800, 600)),
        ((300, 1200), 600, 1333, (333, 1333)),  # the long side decides
        ((500, 500), 250, 1333, (250, 250)),
        ((2, 4000), 160, 213, (1, 213)),  # never 0 pixels
    ],
)
def test_short_and_long_side_rules(size: tuple[int, int], short: int, long: int, expected: tuple[int, int]) -> None:
    assert resized(*size, short, long) == expected


def test_boxes_follow_the_pixels_through_resize_and_flip() -> None:
    image = torch.zeros(3, 60, 100, dtype=torch.uint8)
    image[:, 20:40, 10:30] = 255
    instances = Instances(torch.tensor([[10.0, 20.0, 30.0, 40.0]]), torch.tensor([0]))
    for flip, expected in ((0.0, [20.0, 40.0, 60.0, 80.0]), (1.0, [140.0, 40.0, 180.0, 80.0])):
        view, moved, affine = WeakView((120,), 400, flip)(image, instances, keyed_generator(0))
        assert view.shape == (3, 120, 200)
        assert view.dtype == torch.uint8
        assert moved is not None
        torch.testing.assert_close(moved.boxes, torch.tensor([expected]))
        rows, columns = (view[0] > 127).nonzero(as_tuple=True)
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        torch.testing.assert_close(torch.stack(extent).float(), torch.tensor(expected), atol=1.0, rtol=0)
        back = to_original(Detections(moved.boxes, moved.labels, torch.ones(1)), affine)
        torch.testing.assert_close(back.boxes, instances.boxes)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    height=st.integers(5, 90), width=st.integers(5, 90), short=st.integers(8, 60), flip=st.sampled_from([0.0, 0.5, 1.0])
)
def test_the_affine_undoes_the_view(height: int, width: int, short: int, flip: float) -> None:
    boxes = torch.tensor([[0.0, 0.0, width, height], [1.0, 2.0, 4.0, 5.0]])
    instances = Instances(boxes, torch.tensor([0, 1]))
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    view, moved, affine = WeakView((short,), 80, flip)(image, instances, keyed_generator(height, width))
    assert moved is not None
    whole = torch.tensor([0.0, 0.0, view.shape[2], view.shape[1]])
    torch.testing.assert_close(moved.boxes[0], whole, atol=1e-3, rtol=0)
    torch.testing.assert_close(transform_boxes(moved.boxes, torch.linalg.inv(affine)), boxes, atol=1e-3, rtol=0)


def test_multi_scale_and_flips_are_drawn_by_key() -> None:
    image = torch.zeros(3, 50, 50, dtype=torch.uint8)
    view = WeakView((16, 32, 48), 64, 0.5)
    sizes = [view(image, None, keyed_generator(position))[0].shape[1] for position in range(60)]
    assert set(sizes) == {16, 32, 48}
    assert sizes == [view(image, None, keyed_generator(position))[0].shape[1] for position in range(60)]
    flips = [bool(view(image, None, keyed_generator(p))[2][0, 0] < 0) for p in range(60)]
    assert 15 < sum(flips) < 45
