"""CSD: consistency between an image and its mirror image."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mixdet.detectors import PRESETS, FasterRCNN, ProposalLimit, build_backbone
from mixdet.detectors.rpn import RPNOutputs
from mixdet.methods import CSD
from mixdet.methods.csd import consistency_losses, mirror, ramp
from mixdet.structures import Batch, Instances, Losses, Regions, Step, Views, keyed_generator, supervise


@pytest.fixture
def detector() -> FasterRCNN:
    torch.manual_seed(0)
    return FasterRCNN(3, build_backbone("tiny", 64), PRESETS["tiny"])


def views(seed: int, labeled: bool) -> Views:
    images = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(seed))
    instances = [Instances(torch.tensor([[5.0, 6.0, 60.0, 70.0]]), torch.tensor([1]))] * 2 if labeled else None
    return Views(weak=Batch(images, torch.tensor([[96, 128], [90, 100]]), instances))


LABELED, UNLABELED = views(1, labeled=True), views(2, labeled=False)


def losses_of(method: CSD, index: int) -> Losses:
    torch.manual_seed(1)
    return method(step=Step(index, 100, keyed_generator(0)), labeled=LABELED, unlabeled=UNLABELED)


def by_hand(p: list[float], q: list[float], d: list[float], d_m: list[float]) -> tuple[float, float]:
    """Steps 5 and 6 for one region, number by number."""
    forward = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    backward = sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
    box = ((d[0] + d_m[0]) ** 2 + sum((d[i] - d_m[i]) ** 2 for i in (1, 2, 3))) / 4
    return 0.5 * (forward + backward), box


def test_the_losses_are_those_of_the_equations() -> None:
    p = torch.tensor([[0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])  # the second is background
    q = torch.tensor([[0.3, 0.5, 0.2], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    generator = torch.Generator().manual_seed(0)
    d, d_m = (torch.rand(3, 12, generator=generator) for _ in range(2))
    found = consistency_losses(p.log(), d, q.log(), d_m)
    expected = [
        by_hand(p[r].tolist(), q[r].tolist(), d[r, 4 * c : 4 * c + 4].tolist(), d_m[r, 4 * c : 4 * c + 4].tolist())
        for r, c in ((0, 1), (2, 2))
    ]
    assert float(found.terms["cls"]) == pytest.approx(sum(e[0] for e in expected) / 2, rel=1e-4)
    assert float(found.terms["box"]) == pytest.approx(sum(e[1] for e in expected) / 2, rel=1e-5)


def test_each_side_of_the_divergence_learns_from_the_other_held_fixed() -> None:
    logits = [torch.tensor([[0.0, 1.0]]).requires_grad_(), torch.tensor([[0.0, 3.0]]).requires_grad_()]
    boxes = torch.zeros(1, 8)
    consistency_losses(logits[0], boxes, logits[1], boxes).terms["cls"].backward()
    for mine, other in (logits, logits[::-1]):
        a, b = mine.detach().softmax(1), other.detach().softmax(1)
        torch.testing.assert_close(mine.grad, 0.5 * (a - b), atol=1e-5, rtol=1e-4)  # of KL(other || mine)


def test_mirrored_twice_is_the_same_and_nothing_left_is_no_loss() -> None:
    regions = Regions(torch.tensor([[3.0, 4.0, 20.0, 30.0]]), torch.tensor([0]), 1)
    assert mirror(regions, 64).boxes.tolist() == [[44, 4, 61, 30]]
    assert torch.equal(mirror(mirror(regions, 64), 64).boxes, regions.boxes)
    logits, boxes = torch.tensor([[5.0, 0.0]]).requires_grad_(), torch.zeros(1, 8)
    losses = consistency_losses(logits, boxes, logits, boxes)
    assert float(losses.total.detach()) == 0
    losses.total.backward()
    assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]


def test_the_ramp() -> None:
    steps = [ramp(t) for t in (0, 0.1, 0.2, 32 / 120, 0.5, 0.83)]
    assert steps == sorted(steps)
    assert (ramp(0), ramp(0.3), ramp(0.8)) == (0, 1, 1)
    assert ramp(0.1) == pytest.approx(math.exp(-5 * (1 - 12 / 32) ** 2))
    assert ramp(110 / 120) == pytest.approx(math.exp(-12.5 * 0.25))
    assert ramp(1) < 1e-5


def test_labelled_and_consistency_losses(detector: FasterRCNN) -> None:
    method = CSD(detector, consistency_weight=2.0)
    first, later = losses_of(method, 0), losses_of(method, 50)
    torch.manual_seed(1)
    sup = supervise(detector, LABELED.weak)
    for name, value in sup.terms.items():
        torch.testing.assert_close(first.terms[f"sup/{name}"], value, rtol=1e-4, atol=1e-6)
    assert float(first.terms["csd/cls"].detach()) == 0
    assert float(first.notes["csd_weight"]) == 0
    assert float(later.notes["csd_weight"]) == 2
    assert float(later.terms["csd/box"].detach()) >= 0
    later.total.backward()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)
    assert list(method.detectors()) == ["student"]
    pointers = [value.data_ptr() for value in method.state_dict().values() if value.numel()]
    assert len(set(pointers)) == len(pointers)  # nothing is registered, and saved, twice


def test_a_step_is_the_algorithm_line_by_line(detector: FasterRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps 2 to 7, image by image, from the detector's own parts; regions chosen here, off centre."""
    method = CSD(detector, consistency_weight=2.0)
    images = torch.cat([LABELED.weak.images, UNLABELED.weak.images])
    boxes = torch.tensor([[4.0, 8, 50, 60], [70, 20, 120, 90], [30, 2, 40, 80], [90, 40, 127, 60]])
    regions = Regions(boxes, torch.arange(4), 4)
    own = FasterRCNN.propose

    def propose(self: FasterRCNN, outputs: RPNOutputs, batch: Batch, limit: ProposalLimit | None = None) -> Regions:
        return regions if limit is method.limit else own(self, outputs, batch, limit)

    monkeypatch.setattr(FasterRCNN, "propose", propose)
    found = losses_of(method, 50)
    pairs = []
    for k in range(4):
        sides = []
        for image, x1, x2 in (
            (images[k], boxes[k, 0], boxes[k, 2]),
            (images[k].flip(-1), 128 - boxes[k, 2], 128 - boxes[k, 0]),
        ):
            box = torch.stack([x1, boxes[k, 1], x2, boxes[k, 3]])[None]
            features = detector.features(image[None])
            region = Regions(box, torch.tensor([0]), 1)
            sides.append(detector.region_outputs(detector.region_features(features, region)))
        pairs.append(sides)
    (logits, deltas), (logits_m, deltas_m) = (
        [torch.cat([pair[side][part] for pair in pairs]) for part in (0, 1)] for side in (0, 1)
    )
    expected = consistency_losses(logits, deltas, logits_m, deltas_m)
    assert all(float(value.detach()) > 0 for value in expected.terms.values())
    for name, value in expected.terms.items():
        torch.testing.assert_close(found.terms[f"csd/{name}"], 2 * value, rtol=1e-3, atol=1e-7)


def test_heads_that_know_no_left_and_right_are_consistent(detector: FasterRCNN) -> None:
    method = CSD(detector)
    features = detector.features(LABELED.weak.images)
    regions = detector.propose(detector.rpn_outputs(features), LABELED.weak, method.limit)

    def outputs(regions: Regions) -> tuple[Tensor, Tensor]:
        sides = regions.boxes[:, 2:] - regions.boxes[:, :2]  # the same for a region and its mirror image
        logits = torch.stack([-sides[:, 0], sides[:, 0], sides[:, 1], sides[:, 1]], dim=1) / 100
        deltas = torch.zeros(len(sides), 16)
        deltas[:, 1::4] = sides[:, :1]
        return logits, deltas

    losses = consistency_losses(*outputs(regions), *outputs(mirror(regions, 128.0)))
    assert float(losses.terms["cls"]) == pytest.approx(0, abs=1e-6)
    assert float(losses.terms["box"]) == pytest.approx(0, abs=1e-6)


def test_it_needs_regions() -> None:
    with pytest.raises(TypeError, match="needs a two-stage detector"):
        CSD(torch.nn.Identity())  # type: ignore[arg-type]
