"""The worked fixture of LossMix's RoI classifier: one car at lam 0.3, one dog at 0.7, one region of background."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mixdet.detectors import PRESETS, FasterRCNN, build_backbone
from mixdet.structures import Batch, Instances, Losses, Regions
from oracles.eq6 import eq6, union

CAR, DOG = torch.tensor([[5.0, 5, 35, 35]]), torch.tensor([[60.0, 60, 110, 100]])
ELSEWHERE = torch.tensor([[80.0, 5, 110, 35]])
LAM = 0.3


def detector(background_pull: float = 0.0) -> FasterRCNN:
    return FasterRCNN(2, build_backbone("tiny", 64), PRESETS["tiny"], background_pull=background_pull)


def objects(car: float | None, dog: float | None) -> Instances:
    """The car and the dog with these shares; None leaves one out."""
    chosen = [(CAR, 0, car), (DOG, 1, dog)]
    boxes = torch.cat([box for box, _, share in chosen if share is not None])
    labels = torch.tensor([label for _, label, share in chosen if share is not None])
    return Instances(boxes, labels, shares=torch.tensor([share for *_, share in chosen if share is not None]))


def roi_losses(model: FasterRCNN, instances: Instances, proposals: Tensor, logits: Tensor) -> Losses:
    """Losses of the three regions (car, dog, elsewhere) for logits in that order."""
    batch = Batch(torch.zeros(1, 3, 128, 128), torch.tensor([[128, 128]]), [instances])
    regions = model.sample(Regions(proposals, torch.zeros(len(proposals), dtype=torch.int64), 1), batch)
    assert len(regions) == 3
    order = [
        next(k for k, known in enumerate((CAR, DOG, ELSEWHERE)) if torch.equal(box, known[0])) for box in regions.boxes
    ]
    return model.region_losses((logits[order], torch.zeros(3, 12)), regions)


def at_uniform(model: FasterRCNN, instances: Instances) -> tuple[float, float, Losses]:
    """roi_cls at uniform logits, and its gradient on the car's logit at the car."""
    logits = torch.zeros(3, 3, requires_grad=True)  # background, car, dog
    losses = roi_losses(model, instances, ELSEWHERE, logits)
    losses.terms["roi_cls"].backward()
    assert logits.grad is not None
    return losses.terms["roi_cls"].item(), logits.grad[0, 1].item(), losses


@pytest.mark.parametrize(
    ("form", "pull", "shares", "loss", "gradient"),
    [
        ("union", 0.0, (1.0, 1.0), 1.0986, -0.2222),
        ("weighted union", 0.0, (LAM, 1 - LAM), 0.7324, -0.0667),
        ("eq. 6, shared sampling", 1.0, (LAM, 1 - LAM), 1.0986, 0.0111),
    ],
)
def test_losses_and_gradients_of_the_three_forms(
    form: str, pull: float, shares: tuple[float, float], loss: float, gradient: float
) -> None:
    found, slope, _ = at_uniform(detector(pull), objects(*shares))
    assert found == pytest.approx(loss, abs=5e-5), form
    assert slope == pytest.approx(gradient, abs=5e-5), form


def test_two_matchings_give_the_literal_form() -> None:
    model = detector()
    logits = torch.zeros(3, 3, requires_grad=True)
    first = roi_losses(model, objects(1.0, None), torch.cat([DOG, ELSEWHERE]), logits)
    second = roi_losses(model, objects(None, 1.0), torch.cat([CAR, ELSEWHERE]), logits)
    total = (LAM * first).merge((1 - LAM) * second).terms["roi_cls"]
    total.backward()
    assert logits.grad is not None
    assert total.item() == pytest.approx(1.0986, abs=5e-5)
    assert logits.grad[0, 1].item() == pytest.approx(0.0111, abs=5e-5)


def test_all_forms_equal_their_oracles_at_random_logits() -> None:
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    rows, car_image, dog_image = logits.tolist(), [1, 0, 0], [0, 2, 0]
    literal = eq6(rows, car_image, dog_image, LAM)
    cases = [
        (0.0, (1.0, 1.0), union(rows, car_image, dog_image, (1.0, 1.0))),
        (0.0, (LAM, 1 - LAM), union(rows, car_image, dog_image, (LAM, 1 - LAM))),
        (1.0, (LAM, 1 - LAM), literal),
    ]
    for pull, shares, expected in cases:
        found = roi_losses(detector(pull), objects(*shares), ELSEWHERE, logits).terms["roi_cls"].item()
        assert found == pytest.approx(expected, abs=1e-6)
    first = roi_losses(detector(), objects(1.0, None), torch.cat([DOG, ELSEWHERE]), logits)
    second = roi_losses(detector(), objects(None, 1.0), torch.cat([CAR, ELSEWHERE]), logits)
    two = LAM * first.terms["roi_cls"] + (1 - LAM) * second.terms["roi_cls"]
    assert two.item() == pytest.approx(literal, abs=1e-6)


def test_box_losses_are_divided_by_the_count_not_by_the_weights() -> None:
    boxes = {
        shares: at_uniform(detector(), objects(*shares))[2].terms["roi_box"].item()
        for shares in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (LAM, 1 - LAM))
    }
    assert boxes[1.0, 1.0] == pytest.approx(boxes[1.0, 0.0] + boxes[0.0, 1.0], abs=1e-7)
    expected = LAM * boxes[1.0, 0.0] + (1 - LAM) * boxes[0.0, 1.0]
    assert boxes[LAM, 1 - LAM] == pytest.approx(expected, abs=1e-7)


def test_an_infinite_term_of_weight_0_stays_silent() -> None:
    logits = torch.zeros(3, 3)
    logits[0] = torch.tensor([float("inf"), float("-inf"), 0.0])
    logits.requires_grad_()
    losses = roi_losses(detector(), objects(0.0, 1.0), ELSEWHERE, logits)
    losses.total.backward()
    assert losses.total.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad[0] == 0).all()
    assert (logits.grad[1] != 0).any()
