from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mixdet.data.check import bad_name, check_images, clean_boxes, refuse, refuse_wrong_units
from mixdet.data.dataset import DetectionDataset
from mixdet.data.images import FileImages
from mixdet.errors import MixdetError

SIZE = np.array([[30, 40]], np.int32)


def files(folder: Path, names: list[str]) -> DetectionDataset:
    """A data set of files that are 40 wide and 30 high, without boxes."""
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.new("RGB", (40, 30)).save(folder / name)
    return DetectionDataset.from_rows(
        "set.json",
        FileImages.from_names(folder, names),
        ["a"],
        sizes=[[30, 40]] * len(names),
        image_index=[],
        boxes=[],
        labels=[],
        image_ids=np.arange(len(names)) + 100,
    )


def refused(dataset: DetectionDataset, *words: str, decode: bool = False) -> str:
    with pytest.raises(MixdetError) as caught:
        check_images(dataset, decode=decode)
    message = str(caught.value)
    assert message.isprintable()
    for word in ("set.json: image 10", *words):
        assert word in message
    return message


def test_good_images_pass(tmp_path: Path) -> None:
    check_images(files(tmp_path / "i", ["a.png", "b.jpg"]), decode=True)


def test_missing_images_are_named_and_counted(tmp_path: Path) -> None:
    data = files(tmp_path / "i", ["a.png", "b.png", "c.png"])
    (tmp_path / "i" / "b.png").unlink()
    assert "more" not in refused(data, "image 101", "b.png: no such file")
    (tmp_path / "i" / "c.png").unlink()
    refused(data, "image 101", "(and 1 more images with a defect)")
    check_images(data.subset([0]))
    refused(data.subset([2]), "image 102", "c.png")


def test_case_and_spelling_hints(tmp_path: Path) -> None:
    data = files(tmp_path / "i", ["img.jpg"])
    (tmp_path / "i" / "img.jpg").rename(tmp_path / "i" / "IMG.JPG")
    refused(data, "did you mean IMG.JPG?")
    (tmp_path / "i" / "IMG.JPG").rename(tmp_path / "i" / "imh.jpg")
    refused(data, "did you mean imh.jpg?")
    (tmp_path / "i" / "imh.jpg").rename(tmp_path / "i" / "z")
    refused(data, "add it, or remove its entry")
    (tmp_path / "i" / "z").rename(tmp_path / "z")
    (tmp_path / "i").rmdir()
    refused(data, "there is no folder")


def test_sizes_are_compared_with_the_displayed_image(tmp_path: Path) -> None:
    data = files(tmp_path / "i", ["a.jpg", "b.jpg"])
    Image.new("RGB", (50, 30)).save(tmp_path / "i" / "b.jpg")
    refused(data, "image 101", "width 40 and height 30", "width 50 and height 30", "correct width and height")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "i" / "b.jpg", exif=exif)
    refused(data, "image 101", "displayed with width 30 and height 40", "EXIF")
    Image.new("RGB", (30, 40)).save(tmp_path / "i" / "b.jpg", exif=exif)
    check_images(data)


def test_files_that_would_hang_or_are_no_images(tmp_path: Path) -> None:
    data = files(tmp_path / "i", ["a.png"])
    path = tmp_path / "i" / "a.png"
    path.unlink()
    os.mkfifo(path)
    refused(data, "pipe")
    path.unlink()
    path.mkdir()
    refused(data, "a folder")
    path.rmdir()
    path.write_bytes(b"")
    refused(data, "a.png", "empty")
    path.unlink()
    path.symlink_to("a.png")
    refused(data, "a.png")


def test_truncation_needs_decoding(tmp_path: Path) -> None:
    data = files(tmp_path / "i", ["a.jpg"])
    path = tmp_path / "i" / "a.jpg"
    Image.effect_noise((40, 30), 99).convert("RGB").save(path)
    cut = path.read_bytes()[:-60]
    path.write_bytes(cut)
    check_images(data)
    refused(data, "a.jpg: damaged image", decode=True)
    assert path.read_bytes() == cut


def test_links_out_of_the_folder_are_refused_and_inside_are_fine(tmp_path: Path) -> None:
    data = files(tmp_path / "i", ["a.png", "b.png"])
    (tmp_path / "i" / "b.png").rename(tmp_path / "b.png")
    (tmp_path / "i" / "b.png").symlink_to("a.png")
    check_images(data)
    (tmp_path / "i" / "b.png").unlink()
    (tmp_path / "i" / "b.png").symlink_to(tmp_path / "b.png")
    refused(data, "image 101", "b.png", "link out of the images' folder")
    (tmp_path / "link").symlink_to(tmp_path / "i")
    check_images(files(tmp_path / "link", ["a.png"]))


def test_other_image_sources_pass() -> None:
    class Drawn:
        def __len__(self) -> int:
            return 1

        def read(self, i: int) -> Tensor:
            return torch.zeros(3, 9, 9, dtype=torch.uint8)

        def name(self, i: int) -> str:
            return "drawn"

    data = DetectionDataset.from_rows("d", Drawn(), ["a"], sizes=[[9, 9]], image_index=[], boxes=[], labels=[])
    check_images(data)
    check_images(data.subset([0]))


def test_refuse_counts() -> None:
    refuse([False, False], str)
    with pytest.raises(MixdetError, match=r"^row 1$"):
        refuse([False, True], lambda k: f"row {k}")
    with pytest.raises(MixdetError, match=r"^row 0 \(and 2 more like this\)$"):
        refuse([True, True, False, True], lambda k: f"row {k}")


@pytest.mark.parametrize("name", ["a.png", "sub/ü #%.png", "..a.png", "a..b/c.png", "-rf"])
def test_good_names(name: str) -> None:
    assert bad_name(name) is None


@pytest.mark.parametrize("name", ["..", "a/..", "a/../b", "//a", "c:a", "\\\\host\\a", "s3://b/a", "a\u202eb", "\t"])
def test_bad_names(name: str) -> None:
    assert bad_name(name)


def test_subpixel_and_touching_boxes_are_accepted() -> None:
    boxes = np.array([[1, 1, 1.25, 1.5], [-0.5, -1, 40.5, 30.9], [39.75, 0, 41, 30]])
    cleaned, notes = clean_boxes("f", boxes, SIZE.repeat(3, 0), str)
    assert cleaned.tolist() == [[1, 1, 1.25, 1.5], [0, 0, 40, 30], [39.75, 0, 40, 30]]
    assert cleaned.dtype == np.float32
    assert notes == []


def test_boxes_that_vanish_in_float32_are_refused() -> None:
    with pytest.raises(MixdetError, match=r"0 lies outside .*thinner than a float"):
        clean_boxes("f", np.array([[30, 1, 30 + 1e-7, 2]]), SIZE, str)


def test_no_boxes_at_all() -> None:
    none = np.zeros((0, 4))
    refuse_wrong_units("f", none, SIZE[:0])
    assert clean_boxes("f", none, SIZE[:0], str)[0].shape == (0, 4)


def test_units_are_not_guessed_from_few_boxes_or_proper_ones() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 30, 200), rng.uniform(0, 20, 200)
    proper = np.stack([x, y, rng.uniform(1, 40 - x), rng.uniform(1, 30 - y)], axis=1)
    refuse_wrong_units("f", proper, SIZE.repeat(200, 0))
    refuse_wrong_units("f", np.array([[10.0, 10, 38, 28]]), SIZE)
    refuse_wrong_units("f", np.array([[0.1, 0.1, 0.5, np.nan], [0, 0, 1, 1]]), SIZE.repeat(2, 0))
    proper[:, 2:] += proper[:, :2]
    with pytest.raises(MixdetError, match="looks like corners"):
        refuse_wrong_units("f", proper, SIZE.repeat(200, 0))
