"""Matching and suppression against torchvision's own."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import batched_nms, remove_small_boxes
from torchvision.ops import box_iou as torchvision_iou

from mixdet.detectors.matching import Truth, box_iou, match, repeated
from mixdet.detectors.rpn import survivors
from mixdet.structures import Instances


def random_boxes(count: int, seed: int, snapped: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = 80 * torch.rand(count, 2, generator=generator)
    boxes = torch.cat([corner, corner + 1 + 40 * torch.rand(count, 2, generator=generator)], dim=1)
    return (boxes / 8).round() * 8 + torch.tensor([0, 0, 8, 8]) if snapped else boxes


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("snapped", [False, True])
def test_iou_is_torchvisions_bit_for_bit(seed: int, snapped: bool) -> None:
    boxes, others = random_boxes(7, seed, snapped), random_boxes(300, seed + 100, snapped)
    assert torch.equal(box_iou(boxes, others), torchvision_iou(boxes, others))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("snapped", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize(("high", "low", "low_quality"), [(0.7, 0.3, True), (0.5, 0.5, False), (0.5, 0.4, False)])
def test_matches_are_torchvisions(seed: int, snapped: bool, high: float, low: float, low_quality: bool) -> None:
    quality = box_iou(random_boxes(6, seed, snapped), random_boxes(1000, seed + 50, snapped))
    expected = Matcher(high, low, allow_low_quality_matches=low_quality)(quality)
    found = match(quality, high, low, low_quality)
    assert torch.equal(found, expected)
    assert (found >= 0).any()


@pytest.mark.parametrize("one_call", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_survivors_are_those_of_torchvisions_batched_nms(one_call: bool, seed: int) -> None:
    sizes = [60, 30, 0, 10]
    boxes = torch.stack([random_boxes(100, seed), random_boxes(100, seed + 10)])
    boxes[0, ::7, 2] = boxes[0, ::7, 0]  # too small
    scores = torch.rand(2, 100, generator=torch.Generator().manual_seed(seed))
    levels = repeated(range(4), sizes, boxes.device)
    large = (boxes[..., 2:] - boxes[..., :2] >= 1e-3).all(2)
    found = survivors(boxes, torch.where(large, scores, -1.0), sizes, 0.5, one_call=one_call)
    for b, s, f in zip(boxes, scores, found, strict=True):
        kept = remove_small_boxes(b, 1e-3)
        expected = kept[batched_nms(b[kept], s[kept], levels[kept], 0.5)]
        best, order = f.sort(descending=True)
        assert torch.equal(order[best >= 0], expected)
        assert len(expected) < len(kept)


def test_truth_leaves_ignored_instances_out_of_what_is_matched() -> None:
    boxes = random_boxes(5, 0)
    first = Instances(boxes[:3], torch.arange(3), ignored=torch.tensor([False, True, False]))
    truth = Truth.of([first, Instances.empty(), Instances(boxes[3:], torch.arange(2))])
    assert [c.tolist() for c in truth.counted] == [[0, 2], [], [0, 1]]
    assert torch.equal(torch.cat(truth.boxes), boxes[[0, 2, 3, 4]])
    assert truth.offsets == [0, 3, 3]
    assert truth.some_ignored
    assert [len(i) for i in truth.per_image()] == [3, 0, 2]


def test_truth_of_images_without_instances() -> None:
    truth = Truth.of([Instances.empty(), Instances.empty()])
    assert [len(c) for c in truth.counted] == [0, 0]
    assert not truth.some_ignored
