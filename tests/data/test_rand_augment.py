"""STAC's strong view: what it does to pixels, boxes and affines."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from mixdet.data.rand_augment import (
    COLOURS,
    GREY,
    RandAugmented,
    RandAugmentView,
    affine_about,
    change_colour,
    warp,
)
from mixdet.structures import Batch, Instances
from mixdet.structures.boxes import transform_boxes

HEIGHT, WIDTH = 48, 64


def drawn(seed: int = 0, **changes: object) -> RandAugmented:
    """Nothing but what is asked for."""
    one = RandAugmentView().draw(HEIGHT, WIDTH, torch.Generator().manual_seed(seed))
    nothing = replace(
        one,
        colour=torch.tensor([0]),
        within=torch.tensor([-1.0]),
        affine=torch.zeros(1, 4),
        squares=torch.zeros_like(one.squares),
    )
    return replace(nothing, **changes)  # type: ignore[arg-type]


def batch(boxes: list[list[float]] | None = None) -> Batch:
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    image[:, :, HEIGHT:] = image[:, :, :, WIDTH:] = 0.5
    instances = None
    if boxes is not None:
        instances = [Instances(torch.tensor(boxes), torch.zeros(len(boxes), dtype=torch.int64))]
    affine = torch.diag(torch.tensor([0.5, 0.5, 1.0]))[None]
    return Batch(image, torch.tensor([[HEIGHT, WIDTH]]), instances, None, affine, (), torch.full((3,), 0.5))  # type: ignore[arg-type]


def test_nothing_drawn_changes_nothing() -> None:
    before = batch([[4.0, 4, 20, 20]])
    after = drawn().apply(before)
    torch.testing.assert_close(after.images, before.images, atol=1e-5, rtol=0)
    torch.testing.assert_close(after.labels[0].boxes, before.labels[0].boxes)
    torch.testing.assert_close(after.affines, before.affines)


@pytest.mark.parametrize("amounts", [(0.1, 0, 0, 0), (0, -0.1, 0, 0), (0, 0, 30, 0), (0, 0, 0, -30)])
def test_boxes_and_affines_move_with_the_pixels(amounts: tuple[float, ...]) -> None:
    before = batch([[28.0, 20, 36, 28]])
    before.images[0, :, :HEIGHT, :WIDTH] = 0
    before.images[0, :, 20:28, 28:36] = 1  # a white square: its box is known from the pixels
    after = drawn(affine=torch.tensor([amounts])).apply(before)
    bright = (after.images[0, 0, :HEIGHT, :WIDTH] > 0.5).nonzero()
    seen = torch.cat([bright.amin(0).flip(0), bright.amax(0).flip(0) + 1]).float()
    torch.testing.assert_close(after.labels[0].boxes[0], seen, atol=1.01, rtol=0)
    assert before.affines is not None
    assert after.affines is not None
    original = transform_boxes(before.labels[0].boxes, torch.linalg.inv(before.affines[0]))
    torch.testing.assert_close(transform_boxes(original, after.affines[0]), after.labels[0].boxes, atol=1e-4, rtol=0)
    assert (after.images[0, :, HEIGHT:] == 0.5).all()  # padding


def test_the_corners_of_a_turned_box() -> None:
    quarter = affine_about((0, 0, 10, 10), (0, 0, 90, 0))
    turned = transform_boxes(torch.tensor([[0.0, 0, 4, 2]]), quarter)
    torch.testing.assert_close(turned, torch.tensor([[8.0, 0, 10, 4]]))
    diagonal = transform_boxes(torch.tensor([[4.0, 4, 6, 6]]), affine_about((0, 0, 10, 10), (0, 0, 45, 0)))[0]
    assert (diagonal[2] - diagonal[0]).item() == pytest.approx(2 * math.sqrt(2), abs=1e-4)


def test_what_comes_into_view_is_grey() -> None:
    shifted = warp(torch.zeros(3, 10, 10), affine_about((0, 0, 10, 10), (0.1, 0, 0, 0)))
    torch.testing.assert_close(shifted[:, :, 0], torch.full((3, 10), GREY))
    torch.testing.assert_close(shifted[:, :, 1:], torch.zeros(3, 10, 9), atol=1e-6, rtol=0)


def test_within_an_object_only_its_pixels_move() -> None:
    before = batch([[4.0, 4, 20, 20], [30, 10, 50, 40]])
    after = drawn(within=torch.tensor([0.6]), affine=torch.tensor([[0, 0, 10.0, 0]])).apply(before)
    changed = (after.images != before.images).any(1)[0]
    assert changed[10:40, 30:50].any()
    changed[10:40, 30:50] = False
    assert not changed.any()
    assert torch.equal(after.labels[0].boxes, before.labels[0].boxes)
    assert torch.equal(after.affines, before.affines)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "box", [[WIDTH - 0.4, 3, WIDTH, 9], [3, HEIGHT - 0.4, 9, HEIGHT], [0, 0, 0.3, 0.3], [4.5, 4.5, 4.6, 4.6]]
)
def test_an_object_of_half_a_pixel_has_a_pixel(box: list[float]) -> None:
    before = batch([box])
    after = drawn(within=torch.tensor([0.0]), affine=torch.tensor([[0.5, 0, 0, 0]])).apply(before)
    assert (after.images != before.images).any(1).sum() <= 9
    assert after.images.isfinite().all()


def test_an_image_that_would_lose_all_its_objects_stays_as_it_is() -> None:
    before = batch([[0.0, 0, 3, 40]])
    squares = drawn().squares.clone()
    squares[0, 0] = torch.tensor([30, 10, 40, 20])
    lost = drawn(affine=torch.tensor([[-0.1, 0, 0, 0]]), squares=squares).apply(before)
    assert torch.equal(lost.images, before.images)
    kept = drawn(squares=squares).apply(before)
    assert (kept.images[0, :, 10:20, 30:40] == GREY).all()


def test_unlabelled_images_are_seen_too() -> None:
    view = RandAugmentView()
    for seed in range(20):
        one = view.draw(HEIGHT, WIDTH, torch.Generator().manual_seed(seed))
        assert one.apply(batch()).instances is None


def test_the_distribution() -> None:
    view, generator = RandAugmentView(), torch.Generator().manual_seed(0)
    many = RandAugmented.stack([view.draw(HEIGHT, WIDTH, generator) for _ in range(2000)])
    assert set(many.colour.tolist()) == set(range(len(COLOURS)))
    assert set(many.level.abs().tolist()) == set(range(1, 10))
    assert 0.45 < (many.within < 0).float().mean() < 0.55
    assert ((many.affine != 0).sum(1) == 1).all()
    for chosen, limits in ((many.within < 0, (0.1, 0.1, 30, 30)), (many.within >= 0, (0.05, 0.05, 10, 10))):
        reached = many.affine[chosen].abs().amax(0)
        assert (reached <= torch.tensor(limits)).all()
        assert (reached > 0.9 * torch.tensor(limits)).all()
    sides = many.squares[:, :, 2:] - many.squares[:, :, :2]
    assert (sides >= 0).all()
    assert sides.max() <= round(0.2 * WIDTH)
    assert (many.squares[:, :, 2] <= WIDTH).all()
    assert (many.squares[:, :, 3] <= HEIGHT).all()


def by_pillow(image: Image.Image, operation: str, level: int) -> Image.Image:
    """The operation on the scale of torchvision's RandAugment of ten magnitudes, by Pillow."""
    signed, size = 0.9 * level / 10, abs(level) / 10
    changes: dict[str, Callable[[], Image.Image]] = {
        "identity": lambda: image,
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "solarize": lambda: ImageOps.solarize(image, math.ceil(255 * (1 - size) - 1e-6)),
        "posterize": lambda: ImageOps.posterize(image, 8 - round(4 * size)),
        "color": lambda: ImageEnhance.Color(image).enhance(1 + signed),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(1 + signed),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(1 + signed),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(1 + signed),
    }
    return changes[operation]()


@pytest.mark.parametrize("operation", COLOURS)
@pytest.mark.parametrize("level", [-9, -4, 3, 9])
def test_colours_are_pillows(operation: str, level: int) -> None:
    octets = torch.randint(30, 220, (3, 20, 30), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    octets[:, 0] = torch.arange(30, dtype=torch.uint8)
    pillow = by_pillow(Image.fromarray(octets.permute(1, 2, 0).numpy()), operation, level)
    expected = torch.from_numpy(np.array(pillow)).permute(2, 0, 1).float()
    found = 255 * change_colour(octets.float() / 255, operation, level)
    assert (found - expected).abs().max() <= 2


@pytest.mark.parametrize("operation", COLOURS)
@pytest.mark.parametrize("level", [-9, 1, 9])
def test_colours(operation: str, level: int) -> None:
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(3))
    changed = change_colour(image, operation, level)
    assert changed.shape == image.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.equal(changed, image) == (operation == "identity")
