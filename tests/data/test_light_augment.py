"""Instant Teaching's strong view."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import pytest
import torch

from mixdet.data.light_augment import HOLE, HOLES, LightAugmentView, LightlyAugmented, shift_hsv, smoothed
from mixdet.structures import Batch

HEIGHT, WIDTH = 40, 60


def batch() -> Batch:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    images[:, :, HEIGHT:] = images[:, :, :, WIDTH:] = 0.5
    return Batch(images, torch.tensor([[HEIGHT, WIDTH]]), None, pad_colour=torch.full((3,), 0.5))


def nothing() -> LightlyAugmented:
    one = LightAugmentView().draw(HEIGHT, WIDTH, torch.Generator().manual_seed(0))
    names = ("holes", "brighter", "shift", "hsv", "quality", "smooth")
    return replace(one, order=torch.arange(3)[None], **{name: torch.zeros_like(getattr(one, name)) for name in names})


def test_nothing_drawn_changes_nothing() -> None:
    torch.testing.assert_close(nothing().apply(batch()).images, batch().images)


@pytest.mark.parametrize(
    "change",
    [
        {"holes": torch.tensor([[[4, 4, 12, 12]] + [[0, 0, 0, 0]] * (HOLES - 1)])},
        {"brighter": torch.tensor([[0.2, 0.3]])},
        {"shift": torch.tensor([[0.03, -0.03, 0.01]])},
        {"hsv": torch.tensor([[0.1, 0.1, -0.05]])},
        {"quality": torch.tensor([85])},
        {"order": torch.tensor([[2, 0, 1]])},
        {"smooth": torch.tensor([1])},
        {"smooth": torch.tensor([2])},
    ],
)
def test_each_change_alone_leaves_geometry_and_padding(change: dict[str, torch.Tensor]) -> None:
    before = batch()
    after = replace(nothing(), **change).apply(before)
    assert not torch.equal(after.images[:, :, :HEIGHT, :WIDTH], before.images[:, :, :HEIGHT, :WIDTH])
    assert torch.equal(after.images[:, :, HEIGHT:], before.images[:, :, HEIGHT:])
    assert torch.equal(after.images[:, :, :, WIDTH:], before.images[:, :, :, WIDTH:])
    assert after.images.min() >= 0
    assert after.images.max() <= 1
    assert torch.equal(after.sizes, before.sizes)


@pytest.mark.parametrize("shifts", [(0.1, 0.0, 0.0), (0.0, 0.1, 0.0), (0.0, -0.1, 0.05), (-0.05, 0.05, -0.05)])
def test_hsv_is_that_of_the_standard_library(shifts: tuple[float, float, float]) -> None:
    image = torch.rand(3, 2, 8, generator=torch.Generator().manual_seed(2))
    image[:, 0, 0] = 0  # black, and a grey
    image[:, 0, 1] = 0.4
    found = shift_hsv(image, torch.tensor(shifts)).flatten(1).T.tolist()
    for before, after in zip(image.flatten(1).T.tolist(), found, strict=True):
        h, s, v = colorsys.rgb_to_hsv(*before)
        grey = s == 0  # has no hue to saturate
        wanted_s = 0.0 if grey else min(max(s + shifts[1], 0), 1)
        wanted = colorsys.hsv_to_rgb((h + shifts[0]) % 1, wanted_s, min(max(v + shifts[2], 0), 1))
        assert after == pytest.approx(wanted, abs=2e-3)


def test_windows() -> None:
    image = torch.arange(27.0).view(3, 3, 3)
    assert smoothed(image, median=False)[0, 1, 1] == 4
    spike = torch.zeros(3, 5, 5)
    spike[:, 2, 2] = 1
    assert not smoothed(spike, median=True).any()
    assert smoothed(spike, median=False)[0, 1:4, 1:4].allclose(torch.tensor(1 / 9))


def test_the_distribution() -> None:
    view, generator = LightAugmentView(), torch.Generator().manual_seed(0)
    many = LightlyAugmented.stack([view.draw(HEIGHT, WIDTH, generator) for _ in range(3000)])
    holes = (many.holes[:, :, 2] - many.holes[:, :, 0]) == HOLE
    assert holes.any(1).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (holes.all(1) == holes.any(1)).all()
    for part, wanted in (
        (many.brighter.any(1), 0.2),
        (many.shift.any(1), 0.1),
        (many.hsv.any(1), 0.1),
        (many.quality > 0, 0.2),
        ((many.order != torch.arange(3)).any(1), 0.2 * 5 / 6),
        (many.smooth == 1, 0.1),
        (many.smooth == 2, 0.1),
    ):
        assert part.float().mean().item() == pytest.approx(wanted, abs=0.025)
    assert not (many.shift.any(1) & many.hsv.any(1)).any()
    brighter = many.brighter[many.brighter.any(1)]
    assert brighter.aminmax() == (pytest.approx(0.1, abs=0.01), pytest.approx(0.3, abs=0.01))
    for shifts, limit in (
        (many.shift, 10 / 255),
        (many.hsv[:, 0], 20 / 180),
        (many.hsv[:, 1], 30 / 255),
        (many.hsv[:, 2], 20 / 255),
    ):
        assert shifts.aminmax() == (pytest.approx(-limit, rel=0.05), pytest.approx(limit, rel=0.05))
        assert shifts.abs().max() <= limit
    assert (HOLES, HOLE) == (8, 8)
    assert set(many.quality[many.quality > 0].tolist()) == set(range(85, 96))
