"""Which detections become labels."""

from __future__ import annotations

import pytest
import torch

from mixdet.structures import Batch, Detections
from mixdet.teaching import ClassThresholds, FallbackThreshold, FixedThreshold, kept


def detections(*scores: float, labels: tuple[int, ...] | None = None) -> Detections:
    boxes = torch.arange(4.0).repeat(len(scores), 1) + torch.arange(len(scores))[:, None]
    return Detections(boxes, torch.tensor(labels or [0] * len(scores), dtype=torch.int64), torch.tensor(scores))


NOTHING = detections()


def test_a_fixed_threshold() -> None:
    assert FixedThreshold(0.7)(detections(0.9, 0.7, 0.71, 0.1)).tolist() == [True, False, True, False]


def test_stacs_fallback_keeps_one_box_at_least() -> None:
    rule = FallbackThreshold(0.9)
    assert rule(detections(0.95, 0.9, 0.5)).tolist() == [True, True, False]
    assert rule(detections(0.4, 0.6, 0.6)).tolist() == [False, True, True]
    assert rule(NOTHING).tolist() == []


def test_thresholds_of_classes() -> None:
    rule = ClassThresholds(torch.tensor([0.5, 0.9]))
    assert rule(detections(0.6, 0.6, 0.95, labels=(0, 1, 1))).tolist() == [True, False, True]
    assert rule(NOTHING).tolist() == []


def test_what_is_kept_becomes_labels_and_an_image_without_any_is_truly_empty() -> None:
    found = kept([detections(0.9, 0.2), NOTHING, detections(0.1)], FixedThreshold(0.5), 2)
    assert [len(i) for i in found.instances] == [1, 0, 0]
    assert found.instances[1].boxes.shape == (0, 4)
    assert (found.instances[0].cls_weights == 1).all()
    assert float(found.notes["pseudo_boxes"]) == pytest.approx(1 / 3)
    assert float(found.notes["pseudo_kept"]) == pytest.approx(1 / 3)
    assert found.notes["pseudo_boxes_of_class"].tolist() == pytest.approx([1 / 3, 0])
    assert (3 * found.notes["pseudo_scores"]).round().tolist() == [0, 1, 1, 0, 0, 0, 0, 0, 0, 1]
    empty = kept([NOTHING], FixedThreshold(0.5), 2)
    assert all(torch.isfinite(value).all() for value in empty.notes.values())


def test_labels_on_another_view() -> None:
    found = kept([detections(0.9, 0.8), NOTHING], FixedThreshold(0.5), 2)
    batch = Batch(torch.zeros(2, 3, 32, 32), torch.full((2, 2), 32), None)
    assert (found.on(batch).labels[0].box_weights == 1).all()
    classes_only = found.on(batch, box_loss=False)
    assert (classes_only.labels[0].box_weights == 0).all()
    assert (classes_only.labels[0].cls_weights == 1).all()
    assert found.on(batch).weights.tolist() == [1, 1]
    assert found.on(batch, skip_empty=True).weights.tolist() == [1, 0]
