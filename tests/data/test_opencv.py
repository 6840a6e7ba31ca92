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


@pytest.mark.parametrize("fast", [False, True])
def test_planes_have_the_same_pixels(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if fast and opencv.cv2 is None:
        pytest.skip("OpenCV is not installed")
    if not fast:
        monkeypatch.setattr(opencv, "cv2", None)
    images = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    planes = opencv.planes(images)
    assert torch.equal(planes, images.permute(0, 3, 1, 2))
    assert planes.is_contiguous()


COLOURS = np.array([[0.9, 0.3, -0.2, 30], [0.1, 1.1, 0.1, -40], [0.2, -0.1, 0.8, 3]], np.float32)
MAPS = {"same": np.eye(3, 4, dtype=np.float32), "grey": COLOURS[[0, 0, 0]], "colours": COLOURS}


@needs_opencv
@pytest.mark.parametrize("taps", [1, 3, 13])
@pytest.mark.parametrize("colours", MAPS)
def test_colours_are_mapped_and_blurred_each_within_a_level(colours: str, taps: int) -> None:
    """Against the equations in float64, inside of a larger canvas of which the rest stays."""
    generator = np.random.default_rng(0)
    canvas = generator.integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    before, kernel = canvas.copy(), generator.random(taps).astype(np.float32)
    kernel = (kernel + kernel[::-1]) / (2 * kernel.sum())
    pixels, out = (image[:31, :37] for image in canvas)
    opencv.recolour_and_blur(pixels, MAPS[colours], kernel, out)
    mapped = (pixels @ MAPS[colours][:, :3].T.astype(np.float64) + MAPS[colours][:, 3]).clip(0, 255)
    padded = np.pad(mapped, [(taps // 2,) * 2] * 2 + [(0, 0)], mode="reflect")
    rows = sum(weight * padded[i : i + 31] for i, weight in enumerate(kernel))
    blurred = sum(weight * rows[:, i : i + 37] for i, weight in enumerate(kernel))
    steps = (colours != "same") + (taps > 1)
    assert np.abs(out - blurred).max() <= 0.75 * steps
    assert abs(float((out - blurred).mean())) < 0.1
    canvas[1, :31, :37] = before[1, :31, :37]
    assert np.array_equal(canvas, before)


@needs_opencv
def test_each_process_that_reads_images_has_one_thread_of_it() -> None:
    """Where it is imported it is set; a process that is forked from there has it so."""
    opencv.cv2.setNumThreads(2)
    assert opencv._load().getNumThreads() == 1


def test_an_opencv_older_than_the_extra_asks_for_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", ModuleType("cv2"))
    assert opencv._load() is None


def test_the_decoder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opencv.cv2 is None or opencv.decoder() == f"opencv {opencv.cv2.__version__}"
    monkeypatch.setattr(opencv, "cv2", None)
    assert opencv.decoder().startswith("pillow ")
