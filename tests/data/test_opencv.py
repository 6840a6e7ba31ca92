"""What OpenCV does in place of Pillow and torch gives what they give."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from mixdet.data import opencv
from mixdet.data.images import read_image

needs_opencv = pytest.mark.skipif(opencv.cv2 is None, reason="OpenCV is not installed")


@needs_opencv
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True, "quality": 30}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpegs_are_decoded_to_pillows_very_pixels(tmp_path: Path, options: dict[str, int], mode: str) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    image = Image.fromarray(blocks).resize((101, 67), Image.Resampling.BICUBIC).convert(mode)
    image.save(tmp_path / "a.jpg", **options)
    with Image.open(tmp_path / "a.jpg") as stored:
        expected = np.asarray(stored.convert("RGB"))
    found = opencv.decode_jpeg(tmp_path / "a.jpg")
    assert found is not None
    assert np.array_equal(found, expected)


@needs_opencv
def test_what_may_be_cut_off_or_is_no_image_is_left_to_pillow(tmp_path: Path) -> None:
    Image.new("RGB", (99, 99), "red").save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    for data in (whole[:-2], whole[: len(whole) // 2], b"\xff\xd8 nothing \xff\xd9", whole + b"\0"):
        (tmp_path / "b.jpg").write_bytes(data)
        assert opencv.decode_jpeg(tmp_path / "b.jpg") is None


def test_jpegs_of_four_colours_are_pillows(tmp_path: Path) -> None:
    """OpenCV converts them by another formula."""
    ramp = Image.linear_gradient("L")
    Image.merge("CMYK", [ramp, ramp.rotate(90), ramp, ramp.rotate(180)]).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as stored:
        assert np.array_equal(read_image(tmp_path / "a.jpg").permute(1, 2, 0), np.asarray(stored.convert("RGB")))


def test_planar_images_have_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.randint(0, 256, (5, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for interleaved in (image.permute(2, 0, 1), image.permute(2, 0, 1).flip(-1), image.permute(2, 1, 0)):
        planes = opencv.planar(interleaved)
        assert torch.equal(planes, interleaved)
        assert opencv.cv2 is None or planes.is_contiguous()
    monkeypatch.setattr(opencv, "cv2", None)
    assert opencv.planar(image.permute(2, 0, 1)).stride(0) == 1


@needs_opencv
def test_colours_are_mapped_as_by_a_product_of_matrices() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 5, 7, generator=generator)
    matrices, shifts = torch.rand(3, 3, 3, generator=generator) - 0.2, torch.rand(3, 3, generator=generator) - 0.5
    matrices[0], shifts[0] = torch.eye(3), 0.0  # changes nothing
    matrices[1], shifts[1] = matrices[1, :1], shifts[1, :1]  # grey
    before = images.clone()
    mapped = opencv.recoloured(images, matrices, shifts)
    product = torch.einsum("bij,bjhw->bihw", matrices, images) + shifts[:, :, None, None]
    torch.testing.assert_close(mapped, product.clamp(0, 1), rtol=0, atol=1e-6)
    assert product.min() < 0
    assert product.max() > 1
    assert torch.equal(mapped[0], images[0])
    assert torch.equal(mapped[1, 0], mapped[1, 2])
    assert torch.equal(images, before)


def test_an_opencv_older_than_the_extra_asks_for_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", ModuleType("cv2"))
    assert opencv._load() is None


def test_the_decoder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opencv.cv2 is None or opencv.decoder() == f"opencv {opencv.cv2.__version__}"
    monkeypatch.setattr(opencv, "cv2", None)
    assert opencv.decoder().startswith("pillow ")
