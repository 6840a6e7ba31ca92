"""The strong view: the same distribution and, but for hue, the same pixels as torchvision's operations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from mixdet.data import opencv
from mixdet.data.photometric import BRIGHTNESS, CONTRAST, SATURATION, Erase, Photometric, PhotometricView
from mixdet.structures import Batch, Instances

STRONG = PhotometricView()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photo(height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth, colourful, far from black and white, so that nothing is clamped."""
    x = torch.rand(1, 3, 6, 6, generator=seeded(seed)) * 0.2 + 0.4
    return torch.nn.functional.interpolate(x, (height, width), mode="bicubic")[0]


def batch_of(images: list[Tensor], canvas: tuple[int, int], colour: float = 0.5) -> Batch:
    pixels = torch.full((len(images), 3, *canvas), colour)
    for place, image in zip(pixels, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    sizes = torch.tensor([image.shape[1:] for image in images])
    instances = [Instances(torch.tensor([[1.0, 2.0, 9.0, 9.0]]), torch.tensor([1])) for _ in images]
    return Batch(pixels, sizes, instances, pad_colour=torch.full((3,), colour))


def plain(count: int = 1, exact: bool = False) -> Photometric:
    """Parameters that change nothing."""
    return Photometric(
        torch.arange(4).repeat(count, 1),
        torch.tensor([[1.0, 1.0, 1.0, 0.0]]).repeat(count, 1),
        torch.zeros(count, dtype=torch.bool),
        torch.zeros(count),
        torch.zeros(count, 3, 4, dtype=torch.int64),
        torch.zeros(count, dtype=torch.int64),
        torch.tensor([exact]).repeat(count),
    )


def exactly(drawn: Photometric) -> Photometric:
    return replace(drawn, exact=torch.ones_like(drawn.exact))


def test_nothing_drawn_changes_nothing() -> None:
    batch = batch_of([photo(40, 50), photo(60, 30)], (64, 64))
    for exact in (False, True):
        torch.testing.assert_close(plain(2, exact).apply(batch).images, batch.images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("operation", [BRIGHTNESS, CONTRAST, SATURATION])
def test_one_operation_is_torchvisions(operation: int) -> None:
    image = photo(40, 50)
    factors = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    factors[0, operation] = 1.3
    found = replace(plain(), factors=factors).apply(batch_of([image], (64, 64))).images[0, :, :40, :50]
    adjust = {BRIGHTNESS: TF.adjust_brightness, CONTRAST: TF.adjust_contrast, SATURATION: TF.adjust_saturation}
    torch.testing.assert_close(found, adjust[operation](image, 1.3), rtol=0, atol=3e-4)


@given(st.integers(0, 2**31), st.booleans())
def test_all_operations_but_hue_in_any_order_are_torchvisions(seed: int, grey: bool) -> None:
    generator = seeded(seed)
    order = torch.randperm(4, generator=generator)
    factors = torch.cat([0.8 + 0.4 * torch.rand(3, generator=generator), torch.zeros(1)])
    drawn = replace(plain(), order=order[None], factors=factors[None], grey=torch.tensor([grey]))
    batch = batch_of([photo(20, 30, seed)], (32, 32))
    torch.testing.assert_close(drawn.apply(batch).images, exactly(drawn).apply(batch).images, rtol=0, atol=1e-3)


@pytest.mark.parametrize("hue", [-0.1, -0.05, 0.05, 0.1])
def test_the_fast_hue_turns_as_hsv_does(hue: float) -> None:
    """Not the same pixels (this keeps the mean, HSV the value), but nearer to them than none or the other turn."""
    batch = batch_of([torch.rand(3, 32, 32, generator=seeded(0)) * 0.5 + 0.25], (32, 32))

    def turned(by: float, exact: bool = False) -> Tensor:
        return replace(plain(exact=exact), factors=torch.tensor([[1.0, 1.0, 1.0, by]])).apply(batch).images

    exact = turned(hue, exact=True)
    differences = [float((turned(by) - exact).abs().mean()) for by in (hue, 0.0, -hue)]
    assert differences[0] < 0.9 * differences[1] < 0.6 * differences[2]


def test_a_third_of_the_circle_is_torchvisions_hue_too() -> None:
    batch = batch_of([photo(8, 8)], (32, 32))
    for by in (-1 / 3, 1 / 3, 0.5):
        drawn = replace(plain(), factors=torch.tensor([[1.0, 1.0, 1.0, by]]))
        fast, exact = (d.apply(batch).images for d in (drawn, exactly(drawn)))
        assert torch.allclose(fast, exact, atol=1e-4) == (by != 0.5)
        torch.testing.assert_close(fast.mean(1), batch.images.mean(1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_the_fast_blur_is_torchvisions(sigma: float, grey: bool) -> None:
    batch = batch_of([torch.rand(3, 40, 50, generator=seeded(0)), torch.rand(3, 3, 64, generator=seeded(1))], (64, 64))
    drawn = replace(plain(2), sigmas=torch.tensor([sigma, sigma]), grey=torch.tensor([grey, grey]))
    near = 2e-4 if grey else 1e-5  # torchvision's grey has 0.2989 red
    torch.testing.assert_close(drawn.apply(batch).images, exactly(drawn).apply(batch).images, rtol=0, atol=near)


@pytest.mark.parametrize("exact", [False, True])
def test_geometry_instances_padding_and_the_weak_view_stay(exact: bool) -> None:
    view = replace(STRONG, exact=exact, jitter_p=1.0, blur_p=1.0, grey_p=0.5)
    batch = batch_of([photo(40, 50), photo(64, 32), photo(1, 1)], (64, 64))
    before = batch.images.clone()
    drawn = Photometric.stack([view.draw(*size, seeded(i)) for i, size in enumerate(batch.sizes.tolist())])
    strong = drawn.apply(batch)
    assert torch.equal(batch.images, before)
    assert strong.instances is batch.instances
    assert strong.affines is batch.affines
    assert (strong.images[0, :, 40:] == 0.5).all()
    assert (strong.images[1, :, :, 32:] == 0.5).all()
    assert strong.images.min() >= 0
    assert strong.images.max() <= 1
    assert (strong.images != before).flatten(1).any(1).all()


@pytest.mark.skipif(opencv.cv2 is None, reason="OpenCV is not installed")
@given(st.integers(0, 2**31))
def test_in_bytes_the_view_is_the_same_to_two_levels(seed: int) -> None:
    view = replace(STRONG, jitter_p=0.9, blur_p=0.7, grey_p=0.3)
    sizes = torch.tensor([[40, 50], [64, 32], [1, 9], [3, 3]])
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8, generator=seeded(seed))
    drawn = Photometric.stack([view.draw(*size, seeded(seed + i)) for i, size in enumerate(sizes.tolist())])
    before, found = images.clone(), drawn.apply_to_bytes(images, sizes)
    floats = drawn.apply(Batch(images.permute(0, 3, 1, 2) / 255, sizes, None, pad_colour=torch.zeros(3))).images
    assert found is not None
    assert torch.equal(images, before)
    for octets, image, (height, width) in zip(found.permute(0, 3, 1, 2), floats, sizes.tolist(), strict=True):
        difference = octets[:, :height, :width] - 255 * image[:, :height, :width]
        assert difference.abs().max() <= 2
        assert difference.mean().abs() < 0.5


def test_in_bytes_there_is_no_exact_view_and_none_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    images, sizes = torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.full((2, 2), 8)
    mixed = Photometric.stack([plain(), plain(exact=True)])
    assert mixed.apply_to_bytes(images, sizes) is None
    assert (plain(2).apply_to_bytes(images, sizes) is None) == (opencv.cv2 is None)
    monkeypatch.setattr(opencv, "cv2", None)
    assert plain(2).apply_to_bytes(images, sizes) is None


def test_an_image_looks_the_same_in_any_batch() -> None:
    images = [photo(40, 50, i) for i in range(3)]
    drawn = [STRONG.draw(40, 50, seeded(i)) for i in range(3)]
    together = Photometric.stack(drawn).apply(batch_of(images, (64, 64))).images
    for i in range(3):
        alone = drawn[i].apply(batch_of([images[i]], (40, 50))).images[0]
        torch.testing.assert_close(together[i, :, :40, :50], alone, rtol=0, atol=1e-6)


def test_chances_and_ranges_are_the_references() -> None:
    generator, count = seeded(0), 3000
    drawn = Photometric.stack([STRONG.draw(100, 200, generator) for _ in range(count)])
    jittered = (drawn.factors != torch.tensor([1.0, 1.0, 1.0, 0.0])).any(1)
    blurred = drawn.sigmas > 0
    erased = (drawn.patches[..., 2] > drawn.patches[..., 0]).float().mean(0)
    assert abs(float(jittered.float().mean()) - 0.8) < 0.03
    assert abs(float(drawn.grey.float().mean()) - 0.2) < 0.03
    assert abs(float(blurred.float().mean()) - 0.5) < 0.04
    assert torch.allclose(erased, torch.tensor([0.7, 0.5, 0.3]), atol=0.04)
    factors = drawn.factors[jittered]
    assert factors[:, :3].min() >= 0.6
    assert factors[:, :3].max() <= 1.4
    assert abs(float(factors[:, :3].mean()) - 1) < 0.01
    assert factors[:, 3].abs().max() <= 0.1
    assert drawn.sigmas[blurred].min() >= 0.1
    assert drawn.sigmas.max() <= 2
    assert abs(float(drawn.sigmas[blurred].mean()) - 1.05) < 0.05
    passes = (((0.05, 0.2), (0.3, 3.3)), ((0.02, 0.2), (0.1, 6.0)), ((0.02, 0.2), (0.05, 8.0)))
    assert tuple((erase.area, erase.ratio) for erase in STRONG.erase) == passes
    for i, (shares, ratios) in enumerate(passes):
        x1, y1, x2, y2 = drawn.patches[drawn.patches[:, i, 2] > 0][:, i].unbind(1)
        area, ratio = (x2 - x1) * (y2 - y1) / 20_000, (y2 - y1) / (x2 - x1)
        assert x1.min() >= 0
        assert y1.min() >= 0
        assert x2.max() <= 200
        assert y2.max() <= 100
        assert area.min() > shares[0] - 0.01
        assert area.max() < shares[1] + 0.01
        assert ratio.min() > ratios[0] * 0.8
        assert ratio.max() < ratios[1] * 1.25


def test_a_patch_that_never_fits_is_none() -> None:
    assert Erase(1.0, (0.9, 1.0), (5.0, 6.0)).draw(10, 10, seeded(0)) == (0, 0, 0, 0)


def test_patches_are_noise_and_later_ones_lie_on_top() -> None:
    patches = torch.tensor([[[0, 0, 20, 20], [10, 10, 30, 30], [0, 0, 0, 0]]])
    drawn = replace(plain(), patches=patches, noise=torch.tensor([5]))
    batch = batch_of([torch.full((3, 32, 32), 0.4)], (32, 32))
    image = drawn.apply(batch).images[0]
    assert (image[:, 30:] == 0.4).all()
    assert (image[:, 25:, :10] == 0.4).all()
    inside = torch.cat([image[:, :10, :20].flatten(), image[:, 10:30, 10:30].flatten()])
    assert abs(float(inside.mean()) - 0.5) < 0.05
    assert abs(float(inside.std()) - 0.289) < 0.02
    assert torch.equal(image, drawn.apply(batch).images[0])


@pytest.mark.skipif(opencv.cv2 is None, reason="OpenCV is not installed")
def test_bytes_may_lie_in_memory_as_they_will() -> None:
    planes = torch.randint(0, 256, (2, 3, 40, 50), dtype=torch.uint8, generator=seeded(0))
    sizes = torch.tensor([[40, 50], [31, 44]])
    drawn = Photometric.stack([STRONG.draw(h, w, seeded(i)) for i, (h, w) in enumerate(sizes.tolist())])
    images = planes.permute(0, 2, 3, 1)
    found, wanted = (drawn.apply_to_bytes(of, sizes) for of in (images, images.contiguous()))
    assert found is not None
    assert wanted is not None
    for one, other, (height, width) in zip(found, wanted, sizes.tolist(), strict=True):
        assert torch.equal(one[:height, :width], other[:height, :width])
