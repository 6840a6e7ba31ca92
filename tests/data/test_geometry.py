"""The weak view and its affine."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from mixdet.data.geometry import WeakView, inside, resized, to_original
from mixdet.structures import Detections, Instances, keyed_generator
from mixdet.structures.boxes import transform_boxes


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


def test_a_view_has_the_same_pixels_however_its_image_lies_in_memory() -> None:
    """Resizing bytes of interleaved channels is quicker; and no other resizing than torchvision's is used."""
    interleaved = torch.randint(0, 256, (61, 83, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image = interleaved.permute(2, 0, 1)
    for short in (20, 61, 100):
        view = WeakView((short,), 400)
        found, apart = (view(x, None, keyed_generator(0))[0] for x in (image, image.contiguous()))
        assert torch.equal(found, apart)
        assert torch.equal(found, resize(image.contiguous(), list(found.shape[1:]), antialias=True))


def test_multi_scale_and_flips_are_drawn_by_key() -> None:
    image = torch.zeros(3, 50, 50, dtype=torch.uint8)
    view = WeakView((16, 32, 48), 64, 0.5)
    sizes = [view(image, None, keyed_generator(position))[0].shape[1] for position in range(60)]
    assert set(sizes) == {16, 32, 48}
    assert sizes == [view(image, None, keyed_generator(position))[0].shape[1] for position in range(60)]
    flips = [bool(view(image, None, keyed_generator(p))[2][0, 0] < 0) for p in range(60)]
    assert 15 < sum(flips) < 45


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    height=st.integers(5, 90),
    width=st.integers(5, 90),
    crop=st.floats(0.2, 0.99),
    flip=st.sampled_from([0.0, 1.0]),
    key=st.integers(0, 99),
)
def test_a_crop_keeps_what_is_seen_and_its_affine(height: int, width: int, crop: float, flip: float, key: int) -> None:
    """Boxes that lie inside come back through the affine; pixels are those of the uncropped view."""
    generator = torch.Generator().manual_seed(key)
    corners = torch.rand(8, 2, 2, generator=generator).sort(dim=1).values * torch.tensor([width, height])
    instances = Instances(corners.flatten(1), torch.arange(8))
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    whole, all_moved, _ = WeakView((40,), 80, flip)(image, instances, keyed_generator(key))
    view, moved, affine = WeakView((40,), 80, flip, crop)(image, instances, keyed_generator(key))
    assert moved is not None
    assert all_moved is not None
    rows, columns = view.shape[1:]
    assert rows >= round(crop * whole.shape[1]) - 1
    assert columns >= round(crop * whole.shape[2]) - 1
    left, top = (whole_affine_shift(affine, axis, whole, flip, width, height) for axis in (0, 1))
    assert torch.equal(view, whole[:, top : top + rows, left : left + columns])
    for i, label in enumerate(moved.labels.tolist()):
        full = all_moved.boxes[label] - torch.tensor([left, top, left, top])
        limits = torch.tensor([columns, rows, columns, rows])
        torch.testing.assert_close(moved.boxes[i], torch.minimum(full.clamp(min=0), limits), atol=1e-3, rtol=0)
        if torch.equal(moved.boxes[i], full):
            back = transform_boxes(moved.boxes[i : i + 1], torch.linalg.inv(affine))[0]
            torch.testing.assert_close(back, instances.boxes[label], atol=1e-3, rtol=0)
    gone = sorted(set(range(8)) - set(moved.labels.tolist()))
    for label in gone:
        box = all_moved.boxes[label] - torch.tensor([left, top, left, top])
        seen = torch.minimum(box.clamp(min=0), torch.tensor([columns, rows, columns, rows]))
        share = (seen[2:] - seen[:2]).clamp(min=0).prod() / (box[2:] - box[:2]).prod().clamp(min=1e-9)
        assert float(share) < 0.2501


def whole_affine_shift(affine: Tensor, axis: int, whole: Tensor, flip: float, width: int, height: int) -> int:
    """How many pixels of the uncropped view lie before the crop along x (0) or y (1)."""
    offset = whole.shape[2] if flip and axis == 0 else 0
    return round(offset - float(affine[axis, 2]))


def test_an_ignored_rest_stays_and_a_sliver_goes() -> None:
    instances = Instances(
        torch.tensor([[0.0, 0, 10, 10], [8.0, 0, 18, 10], [8.0, 0, 18, 10], [12.0, 0, 20, 10]]),
        torch.arange(4),
        ignored=torch.tensor([False, False, True, False]),
    )
    left = inside(instances, 10, 10)
    assert left.labels.tolist() == [0, 2]
    assert left.boxes.tolist() == [[0, 0, 10, 10], [8, 0, 10, 10]]
