from __future__ import annotations

import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from mixdet.data import opencv
from mixdet.data.images import FileImages, image_size, read_image
from mixdet.errors import MixdetError


@pytest.fixture(autouse=True, params=["pillow", "opencv"])
def decoding(request, monkeypatch) -> str:
    """Every test below, with and without OpenCV."""
    if request.param == "pillow":
        monkeypatch.setattr(opencv, "cv2", None)
    elif opencv.cv2 is None:
        pytest.skip("OpenCV is not installed")
    return request.param


def noise(height: int = 20, width: int = 30, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def as_numpy(path: Path) -> np.ndarray:
    image = read_image(path)
    assert image.dtype == torch.uint8
    assert image.stride(0) == 1  # channels side by side
    assert image.shape[1:] == image_size(path)
    return image.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm"])
def test_lossless_formats_come_back_exactly(tmp_path: Path, name: str) -> None:
    Image.fromarray(noise()).save(tmp_path / name)
    assert np.array_equal(as_numpy(tmp_path / name), noise())


def test_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.full((20, 30, 3), (200, 100, 50), np.uint8)).save(path, quality=95)
    assert np.abs(as_numpy(path).astype(int) - [200, 100, 50]).max() <= 2


def test_wrong_extension_is_read_by_content(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.jpg", format="PNG")
    assert np.array_equal(as_numpy(tmp_path / "a.jpg"), noise())


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, name: str) -> None:
    Image.fromarray(noise(channels=1)).save(tmp_path / name)
    image = as_numpy(tmp_path / name)
    assert (image == image[..., :1]).all()
    assert image.std() > 10


def test_palette(tmp_path: Path) -> None:
    palette = Image.new("P", (4, 2))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putdata([0, 1] * 4)
    palette.save(tmp_path / "a.png")
    assert as_numpy(tmp_path / "a.png")[0, :2].tolist() == [[10, 20, 30], [200, 100, 50]]


def test_cmyk_jpeg_has_its_colours(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (220, 30, 40)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(as_numpy(tmp_path / "a.jpg").astype(int) - [220, 30, 40]).max() < 12


def test_alpha_is_composited_on_white(tmp_path: Path) -> None:
    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image = as_numpy(tmp_path / "a.png")
    assert image[0, :2].tolist() == [[255, 0, 0], [255, 255, 255]]
    assert abs(int(image[0, 2, 0]) - 127) <= 1


def test_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putdata([0, 1])
    palette.save(tmp_path / "a.png", transparency=0)
    assert as_numpy(tmp_path / "a.png")[0].tolist() == [[255, 255, 255], [200, 100, 50]]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bit_grey_keeps_its_high_byte(tmp_path: Path, name: str) -> None:
    deep = np.linspace(0, 65535, 256 * 4).reshape(4, 256).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / name)
    assert np.array_equal(as_numpy(tmp_path / name)[..., 1], (deep >> 8).astype(np.uint8))


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(MixdetError, match=r"f\.tif: pixels are 32-bit \(F\).*save the image with 8 bits"):
        read_image(tmp_path / "f.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    blocks = noise(4, 6).repeat(8, 0).repeat(8, 1)
    options = {"lossless": True} if name.endswith("webp") else {"quality": 100} if name.endswith("jpg") else {}
    Image.fromarray(blocks).save(tmp_path / name, exif=exif, **options)
    with Image.open(tmp_path / name) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    image = as_numpy(tmp_path / name)
    assert image.shape == ((48, 32, 3) if orientation >= 5 else (32, 48, 3))
    assert np.abs(image.astype(int) - expected.astype(int)).mean() < 1


def test_meaningless_exif_is_ignored(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffrubbish")
    assert image_size(tmp_path / "a.jpg") == (20, 30)
    read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png"])
def test_truncated_files_name_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(noise(100, 100)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert image_size(path) == (100, 100)
    with pytest.raises(MixdetError, match=rf"{name}: damaged image .*replace the file"):
        read_image(path)
    assert path.read_bytes() == whole[: len(whole) // 2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<html>404</html>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not"),
    ],
)
@pytest.mark.parametrize("read", [read_image, image_size])
def test_files_that_are_no_images(tmp_path: Path, content: bytes, words: str, read) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(MixdetError, match=rf"x\.png: the file is {words}"):
        read(tmp_path / "x.png")


@pytest.mark.parametrize("read", [read_image, image_size])
def test_pipes_devices_and_folders_do_not_hang(tmp_path: Path, read) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    for path, words in [
        (tmp_path / "pipe.png", "pipe, socket or device"),
        (tmp_path / "folder.png", "is a folder"),
        ("/dev/zero", "pipe, socket or device"),
        (tmp_path / "loop.png", "symbolic links"),
        (tmp_path / "gone.png", "No such file"),
        (f"{tmp_path}/nul\0.png", r"nul\x00.png"),
    ]:
        with pytest.raises(MixdetError) as caught:
            read(path)
        assert words in str(caught.value)
        assert str(caught.value).isprintable()


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(14_000, 14_000), (60_000, 60_000)])
def test_bombs_are_refused_before_decoding(tmp_path: Path, size: tuple[int, int], monkeypatch) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb(*size))
    for limit in (Image.MAX_IMAGE_PIXELS, None):  # None: some other library switched Pillow's own check off
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for read in (read_image, image_size):
            with pytest.raises(MixdetError, match=r"bomb\.png: .*downscale it"):
                read(tmp_path / "bomb.png")


def test_large_but_allowed_headers_do_not_warn(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(bomb(10_000, 10_000))
    assert image_size(tmp_path / "large.png") == (10_000, 10_000)


def test_file_images_are_packed(tmp_path: Path) -> None:
    names = ["a.png", "sub folder/ü#%.png", "c.png"]
    (tmp_path / "sub folder").mkdir()
    for value, name in enumerate(names):
        Image.new("RGB", (3, 2), (value, 0, 0)).save(tmp_path / name)
    images = pickle.loads(pickle.dumps(FileImages.from_names(tmp_path, names)))
    assert [images.name(i) for i in range(len(images))] == names
    assert [int(images.read(i)[0, 0, 0]) for i in range(3)] == [0, 1, 2]
    assert images.path(1) == str(tmp_path / names[1])
    many = FileImages.from_names(tmp_path, [f"{i:012}.jpg" for i in range(1000)])
    assert len(pickle.dumps(many)) < 1000 * 26
    assert len(FileImages.from_names(tmp_path, [])) == 0
