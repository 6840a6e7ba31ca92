"""One network's boxes in another's eyes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mixdet.detectors import PRESETS, FasterRCNN, build_backbone
from mixdet.structures import Batch, Detections, Regions
from mixdet.teaching import second_opinion, suppress
from oracles.instant_teaching import clipped, decoded, rectified


@pytest.fixture
def detector() -> FasterRCNN:
    torch.manual_seed(0)
    return FasterRCNN(3, build_backbone("tiny", 64), PRESETS["tiny"])


def moved(head: Any, box: Any, label: int, score: float) -> Any:
    return decoded(box, head(box)[1][label + 1])


def found(boxes: list[list[float]], labels: list[int], scores: list[float]) -> Detections:
    return Detections(torch.tensor(boxes).float().reshape(-1, 4), torch.tensor(labels).long(), torch.tensor(scores))


@torch.no_grad()
def test_each_box_is_averaged_with_what_the_region_head_makes_of_it(detector: FasterRCNN) -> None:
    """A real head with strong opinions, image by image; no box in the first, boxes that leave the others."""
    detector.roi_heads.box_predictor.bbox_pred.weight.mul_(1000)
    detector.roi_heads.box_predictor.cls_score.weight.mul_(50)
    images = torch.rand(3, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    batch = Batch(images, torch.tensor([[96, 128], [90, 120], [64, 100]]), None)
    side = [
        found([], [], []),
        found([[10, 12, 60, 70], [40, 5, 119, 50]], [2, 0], [0.9, 0.95]),
        found([[50, 10, 100, 64]], [1], [1.0]),
    ]
    features = detector.features(images)
    opinions = second_opinion(detector, features, batch, side)
    for i, (own, opinion) in enumerate(zip(side, opinions, strict=True)):

        def head(box: Any, i: int = i) -> Any:
            regions = Regions(torch.tensor([box]), torch.tensor([i]), 3)
            logits, deltas = detector.region_outputs(detector.region_features(features, regions))
            return logits[0].tolist(), deltas.view(-1, 4).tolist()

        rows = list(zip(own.boxes.tolist(), own.labels.tolist(), own.scores.tolist(), strict=True))
        size = tuple(batch.sizes[i].tolist())
        expected = rectified(rows, head, size)
        assert i == 0 or any(clipped(box := moved(head, *row), *size) != box for row in rows)
        assert opinion.labels.tolist() == own.labels.tolist()
        assert opinion.scores.tolist() == pytest.approx([score for _, _, score in expected], rel=1e-5)
        torch.testing.assert_close(
            opinion.boxes, torch.tensor([box for box, _, _ in expected]).reshape(-1, 4), atol=1e-3, rtol=0
        )


def test_nothing_found_is_no_opinion(detector: FasterRCNN) -> None:
    batch = Batch(torch.rand(2, 3, 64, 64), torch.tensor([[64, 64]] * 2), None)
    opinions = second_opinion(detector, detector.features(batch.images), batch, [found([], [], [])] * 2)
    assert [len(o) for o in opinions] == [0, 0]
    assert [len(suppress(one, 0.5)) for one in opinions] == [0, 0]


def test_suppression_is_within_a_class_and_best_first() -> None:
    same: list[list[float]] = [[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [20, 20, 30, 30]]
    left = suppress(found(same, [0, 0, 1, 0], [0.8, 0.9, 0.7, 0.95]), 0.5)
    assert left.scores.tolist() == pytest.approx([0.95, 0.9, 0.7])
    assert left.labels.tolist() == [0, 0, 1]
    assert isinstance(left.boxes, Tensor)
