"""Two RoI heads on one backbone: each is a head of a Faster R-CNN, and what they find is merged."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mixdet.detectors import PRESETS, FasterRCNN, TwoHeadRCNN, build_backbone
from mixdet.structures import Batch, Detections, Instances, Losses, supervise
from oracles.label_store import Box, nms

EVERY = replace(PRESETS["tiny"], roi_samples=1000, rpn_samples=1000)  # nothing is left to the sampler


def build(kind: type[FasterRCNN]) -> FasterRCNN:
    torch.manual_seed(0)
    return kind(3, build_backbone("tiny", 64), EVERY)


@pytest.fixture
def detector() -> TwoHeadRCNN:
    found = build(TwoHeadRCNN)
    assert isinstance(found, TwoHeadRCNN)
    return found


@pytest.fixture
def batch() -> Batch:
    images = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[5.0, 6.0, 60.0, 70.0], [50.0, 20.0, 90.0, 60.0]])
    return Batch(images, torch.tensor([[96, 128], [80, 100]]), [Instances(boxes, torch.tensor([0, 2]))] * 2)


def alone(detector: TwoHeadRCNN, head: int) -> FasterRCNN:
    """A Faster R-CNN of one of the heads."""
    single = build(FasterRCNN)
    single.backbone, single.rpn, single.roi_heads = detector.backbone, detector.rpn, detector.heads[head]
    return single


def test_the_first_head_begins_as_a_faster_rcnns_and_the_second_elsewhere(detector: TwoHeadRCNN) -> None:
    own, single = detector.state_dict(), build(FasterRCNN).state_dict()
    assert all(torch.equal(value, own[name]) for name, value in single.items())
    second = {name.replace("second_heads.", "roi_heads.") for name in own.keys() - single.keys()}
    assert second == {name for name in single if name.startswith("roi_heads.")}
    for name in second:
        if name.endswith("weight"):
            assert not torch.equal(own[name], own[name.replace("roi_heads.", "second_heads.")]), name


def test_the_losses_are_those_of_either_head_added_up(detector: TwoHeadRCNN, batch: Batch) -> None:
    both = supervise(detector, batch)
    first, second = (supervise(alone(detector, head), batch) for head in (0, 1))
    assert list(both.terms) == list(first.terms)
    for name in ("rpn_cls", "rpn_box"):
        torch.testing.assert_close(both.terms[name], first.terms[name], rtol=1e-5, atol=1e-7)
    for name in ("roi_cls", "roi_box"):
        assert first.terms[name] != second.terms[name]
        torch.testing.assert_close(both.terms[name], first.terms[name] + second.terms[name], rtol=1e-5, atol=1e-7)


def test_each_part_learns_from_its_own_labels(detector: TwoHeadRCNN, batch: Batch) -> None:
    """The part that is told of no object has no box to learn; the others have."""
    nothing = batch.with_instances([Instances.empty()] * 2)
    features = detector.features(batch.images)

    def taught(rpn: Batch, *heads: Batch) -> Losses:
        return detector.head_losses(features, rpn, heads)

    assert taught(nothing, batch, batch).terms["rpn_box"] == 0
    assert taught(batch, nothing, nothing).terms["roi_box"] == 0
    for heads, silent in (((nothing, batch), 0), ((batch, nothing), 1)):
        detector.zero_grad()
        losses = taught(batch, *heads)
        assert losses.terms["rpn_box"] > 0
        losses.terms["roi_box"].backward(retain_graph=True)
        grads = [head.box_predictor.bbox_pred.weight.grad for head in detector.heads]
        assert grads[silent] is None or not grads[silent].any()
        assert grads[1 - silent].any()


def test_what_either_finds_is_predicted_once(detector: TwoHeadRCNN, batch: Batch) -> None:
    with torch.no_grad():
        features = detector.features(batch.images)
        merged = detector.predict(features, batch)
        pairs = list(zip(*detector.head_detections(features, batch), strict=True))
        singles = [alone(detector, head).predict(features, batch) for head in (0, 1)]
    for image, found in enumerate(merged):
        assert [len(d) for d in pairs[image]] == [len(single[image]) for single in singles]
        every = [box for d in pairs[image] for box in listed(d)]
        expected = nms(every, EVERY.nms)[: EVERY.max_detections]
        assert listed(found) == expected
        assert 0 < len(found) < len(every)


def listed(found: Detections) -> list[Box]:
    rows = zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
    return [Box((x1, y1, x2, y2), label, score) for (x1, y1, x2, y2), label, score in rows]
