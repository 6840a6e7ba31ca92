"""Which detections become labels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from mixdet.structures import Batch, Detections
from mixdet.teaching import (
    ClassThresholds,
    FallbackThreshold,
    FixedThreshold,
    LeastThreshold,
    asking,
    kept,
    pseudo_label,
)


def detections(*scores: float, labels: tuple[int, ...] | None = None) -> Detections:
    boxes = torch.arange(4.0).repeat(len(scores), 1) + torch.arange(len(scores))[:, None]
    return Detections(boxes, torch.tensor(labels or [0] * len(scores), dtype=torch.int64), torch.tensor(scores))


NOTHING = detections()
AFFINES = torch.eye(3).repeat(3, 1, 1)


def images(count: int, width: int = 32, affines: torch.Tensor = AFFINES) -> Batch:
    sizes = torch.tensor([[32, width]] * count)
    return Batch(torch.zeros(count, 3, 32, width), sizes, None, affines=affines[:count])


def test_a_fixed_threshold() -> None:
    assert FixedThreshold(0.7)(detections(0.9, 0.7, 0.71, 0.1)).tolist() == [True, False, True, False]


def test_a_least_score() -> None:
    assert LeastThreshold(0.5)(detections(0.9, 0.5, 0.49)).tolist() == [True, True, False]


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
    found = kept([detections(0.9, 0.2), NOTHING, detections(0.1)], FixedThreshold(0.5), 2, images(3))
    assert [len(i) for i in found.instances] == [1, 0, 0]
    assert found.instances[1].boxes.shape == (0, 4)
    assert (found.instances[0].cls_weights == 1).all()
    assert float(found.notes["pseudo_boxes"]) == pytest.approx(1 / 3)
    assert float(found.notes["pseudo_passed"]) == pytest.approx(1 / 3)
    assert found.notes["pseudo_boxes_of_class"].tolist() == pytest.approx([1 / 3, 0])
    assert (3 * found.notes["pseudo_scores"]).round().tolist() == [0, 1, 1, 0, 0, 0, 0, 0, 0, 1]
    empty = kept([NOTHING], FixedThreshold(0.5), 2, images(1))
    assert all(torch.isfinite(value).all() for value in empty.notes.values())


def test_labels_on_another_view() -> None:
    asked = images(2)
    found = kept([detections(0.9, 0.8), NOTHING], FixedThreshold(0.5), 2, asked)
    batch = replace(asked, images=asked.images + 1)
    assert found.on(batch).labels[0].boxes is found.instances[0].boxes
    assert (found.on(batch).labels[0].box_weights == 1).all()
    classes_only = found.on(batch, box_loss=False)
    assert (classes_only.labels[0].box_weights == 0).all()
    assert (classes_only.labels[0].cls_weights == 1).all()
    assert len(found.on(batch).labels[1]) == 0
    skipped = found.on(batch, skip_empty=True).labels
    assert skipped[0].ignored.tolist() == [False, False]
    assert skipped[1].ignored.tolist() == [True]


def test_labels_on_a_view_of_another_geometry() -> None:
    """Twice as large and mirrored; a box that is not to be seen there leaves a negative image, or a skipped one."""
    asked = images(2)
    found = kept([detections(0.9, 0.8), detections(0.9)], FixedThreshold(0.5), 2, asked)
    mirrored = torch.tensor([[[-2.0, 0, 64], [0, 2, 0], [0, 0, 1]], [[1.0, 0, -20], [0, 1, 0], [0, 0, 1]]])
    view = images(2, 64, mirrored)
    labels = found.on(view, box_loss=False, skip_empty=True)
    assert labels.labels[0].boxes.tolist() == [[60, 2, 64, 6], [58, 4, 62, 8]]
    assert labels.labels[0].box_weights.tolist() == [0, 0]
    assert [i.ignored.tolist() for i in labels.labels] == [[False, False], [True]]
    assert [len(i) for i in found.on(view).labels] == [2, 0]


class Asked(nn.Module):
    """A detector that says whether it is asked in eval mode, and without gradient."""

    num_classes = 1

    def __init__(self) -> None:
        super().__init__()
        self.live, self.still = nn.BatchNorm2d(3), nn.BatchNorm2d(3).eval()
        self.said: list[tuple[bool, bool]] = []

    def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        self.said.append((self.training or self.live.training, torch.is_grad_enabled()))
        return {"p2": self.live(images)}

    def predict(self, features: dict[str, torch.Tensor], batch: Batch) -> list[Detections]:
        return [NOTHING] * len(batch)


def test_whoever_is_asked_is_in_eval_mode_meanwhile_and_every_part_gets_its_own_mode_back() -> None:
    network = Asked()
    pseudo_label(network, images(2), FixedThreshold(0.5))  # type: ignore[arg-type]
    assert network.said == [(False, False)]
    assert int(network.live.num_batches_tracked) == 0  # type: ignore[arg-type]
    assert [m.training for m in (network, network.live, network.still)] == [True, True, False]
    with pytest.raises(KeyError), asking(network):  # type: ignore[arg-type]
        raise KeyError
    assert network.training
    assert torch.is_grad_enabled()
