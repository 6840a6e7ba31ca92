"""Grad-CAM of a box's class score."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mixdet.detectors import PRESETS, Ensemble, FasterRCNN, TwoHeadRCNN, UnrelatedLayer, build_backbone, grad_cam
from mixdet.detectors.grad_cam import layers_of
from mixdet.structures import Batch, Regions
from oracles.grad_cam import heat as literal_heat

SMALL, LARGE = torch.tensor([10.0, 12.0, 40.0, 44.0]), torch.tensor([0.0, 0.0, 120.0, 94.0])
STAGES = ("stem", "stride4", "stride8", "stride16", "stride32")


@pytest.fixture(params=[FasterRCNN, TwoHeadRCNN])
def detector(request: pytest.FixtureRequest) -> FasterRCNN:
    torch.manual_seed(0)
    found: FasterRCNN = request.param(3, build_backbone("tiny", 64), PRESETS["tiny"])
    return found.eval()


@pytest.fixture
def batch() -> Batch:
    image = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    return Batch(image, torch.tensor([[94, 120]]), None)


def literal(detector: FasterRCNN, batch: Batch, box: Tensor, label: int, layer: str) -> tuple[Tensor, float]:
    """The map on the image, and the logit: one backward pass through the whole detector, activations kept by a hook."""
    kept: list[Tensor] = []

    def keep(module: object, inputs: object, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    fpn = detector.backbone.fpn.layer_blocks
    modules = {"p2": fpn[0], "p3": fpn[1], "p4": fpn[2], "p5": fpn[3]}
    handle = (modules.get(layer) or detector.backbone.body.get_submodule(layer)).register_forward_hook(keep)
    features = detector.features(batch.images)
    handle.remove()
    regions = Regions(box[None], torch.zeros(1, dtype=torch.int64), 1)
    logit = detector.region_outputs(detector.region_features(features, regions))[0][0, label + 1]
    logit.backward()
    assert kept[0].grad is not None
    small = torch.tensor(literal_heat(kept[0][0].detach(), kept[0].grad[0]))
    detector.zero_grad()
    return F.interpolate(small[None, None], size=(96, 128), mode="bilinear")[0, 0, :94, :120], float(logit.detach())


@pytest.mark.parametrize("layer", [*STAGES, "p2", None])
@pytest.mark.parametrize("label", [0, 2])
def test_it_is_the_papers_two_equations(detector: FasterRCNN, batch: Batch, label: int, layer: str | None) -> None:
    found = grad_cam(detector, batch, SMALL, label, layer)
    assert found.layer == (layer or "stride32")
    expected, logit = literal(detector, batch, SMALL, label, found.layer)
    assert expected.max() > 0
    torch.testing.assert_close(found.heat, expected / expected.max(), atol=1e-5, rtol=1e-4)
    assert found.logit == pytest.approx(logit, abs=1e-5)
    assert 0 < found.score < 1


def test_nothing_is_left_behind_in_the_detector(detector: FasterRCNN, batch: Batch) -> None:
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    grad_cam(detector, batch, SMALL, 1)
    assert all(p.grad is None for p in detector.parameters())
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_frozen_stages_are_no_obstacle(detector: FasterRCNN, batch: Batch) -> None:
    expected = grad_cam(detector, batch, SMALL, 1, "stem").heat
    detector.requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(grad_cam(detector, batch, SMALL, 1, "stem").heat, expected)


def test_classes_differ(detector: FasterRCNN, batch: Batch) -> None:
    heats = [grad_cam(detector, batch, LARGE, label).heat for label in range(3)]
    assert not torch.allclose(heats[0], heats[1], atol=0.1)
    assert not torch.allclose(heats[1], heats[2], atol=0.1)


def test_a_box_has_one_level_and_all_stages(detector: FasterRCNN, batch: Batch) -> None:
    assert layers_of(detector) == (*STAGES, "p2", "p3", "p4", "p5")
    with pytest.raises(UnrelatedLayer, match="does not depend on p5: it is pooled from another level"):
        grad_cam(detector, batch, SMALL, 0, "p5")
    with pytest.raises(ValueError, match="no layer 'res5'; this detector has stem, stride4"):
        grad_cam(detector, batch, SMALL, 0, "res5")


def test_what_cannot_be_asked(detector: FasterRCNN, batch: Batch) -> None:
    with pytest.raises(TypeError, match="Ensemble has no logit of a box"):
        grad_cam(Ensemble([detector], [1.0]), batch, SMALL, 0)
    with pytest.raises(ValueError, match="2 images; it takes one"):
        grad_cam(detector, Batch.concat([batch, batch]), SMALL, 0)
