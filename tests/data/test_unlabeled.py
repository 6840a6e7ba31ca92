"""Unlabelled images: folders, lists, VOC splits, drawn scenes; and that no annotation is opened."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mixdet.data import open_dataset
from mixdet.data.overlap import left_out, overlap
from mixdet.data.unlabeled import open_unlabeled
from mixdet.errors import MixdetError
from mixdet.recipes.recipe import PoolSection
from mixdet.runs.commands import train
from mixdet.runs.data import build_pool
from recipes_for_tests import quick_recipe


def picture(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, tuple(path.name.encode()[:3])).save(path)  # no two alike
    return path


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "deep/er/c.jpeg", ".hidden/d.jpg", "deep/.e.jpg"):
        picture(tmp_path / "pool" / name)
    (tmp_path / "pool" / "labels.json").write_text("not opened")
    (tmp_path / "pool" / "deep" / "notes.txt").write_text("not opened")
    return tmp_path / "pool"


def names(path: str | Path, images: str | None = None) -> list[str]:
    dataset = open_unlabeled(str(path), images)
    return [dataset.images.name(i) for i in range(len(dataset))]


def test_a_folder_with_all_below_it(pool: Path) -> None:
    dataset = open_unlabeled(str(pool))
    assert names(pool) == ["a.PNG", "b.jpg", "deep/er/c.jpeg"]
    assert dataset.classes == ()
    assert len(dataset.labels) == 0
    assert (dataset.sizes == [30, 40]).all()
    assert dataset.image(2).shape == (3, 30, 40)
    assert len(dataset.instances(0)) == 0
    assert dataset.name == "pool"


def test_a_list_relative_to_its_folder_to_another_or_absolute(pool: Path, tmp_path: Path) -> None:
    here = tmp_path / "lists" / "unlabeled.txt"
    here.parent.mkdir()
    here.write_text(f"\ufeff../pool/b.jpg\n\n{pool}/deep/er/c.jpeg\n../pool/b.jpg\n", "utf-8")
    assert names(here) == ["b.jpg", "deep/er/c.jpeg"]
    here.write_text("b.jpg\n")
    assert names(here, str(pool)) == ["b.jpg"]


def test_a_split_of_voc_opens_no_annotation(tmp_path: Path) -> None:
    folder = tmp_path / "VOC2012"
    for stem in ("x", "y", "z"):
        picture(folder / "JPEGImages" / f"{stem}.jpg")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text("z\nx\n")
    assert names(f"{folder}:trainval") == ["z.jpg", "x.jpg"]


def test_drawn_scenes() -> None:
    dataset = open_unlabeled("scenes:clipart/train,count=3,size=64")
    assert len(dataset) == 3
    assert dataset.classes == ()
    assert len(dataset.labels) == 0


def test_linked_folders_are_searched_each_once(pool: Path, tmp_path: Path) -> None:
    (tmp_path / "more" / "here").mkdir(parents=True)
    shutil.copyfile(pool / "a.PNG", tmp_path / "more" / "here" / "z.png")
    os.symlink(tmp_path / "more", pool / "linked")
    os.symlink(pool, tmp_path / "more" / "circle")
    os.symlink(pool / "deep", pool / "zdeep")
    os.symlink(tmp_path, pool / "up")
    found = open_unlabeled(str(pool)).images
    all_four = ["a.PNG", "b.jpg", "deep/er/c.jpeg", "linked/here/z.png"]
    assert [found.name(i) for i in range(len(found))] == all_four
    picture(tmp_path / "elsewhere" / "y.png")
    os.symlink(tmp_path / "elsewhere" / "y.png", pool / "y.png")
    picture(tmp_path / "third" / "x.png")
    os.symlink(tmp_path / "third", pool / "too")
    kept = build_pool(PoolSection(path=str(pool)), open_dataset("scenes:photo/train,count=2,size=64"))
    assert sorted(kept.images.name(i) for i in range(len(kept))) == [*all_four, "too/x.png", "y.png"]
    assert kept.notes == ()


def test_a_list_leads_through_links_as_the_system_does(tmp_path: Path) -> None:
    picture(tmp_path / "far" / "other" / "right.png")
    picture(tmp_path / "other" / "right.png", (9, 9))
    (tmp_path / "far" / "x").mkdir()
    os.symlink(tmp_path / "far" / "x", tmp_path / "link")
    (tmp_path / "list.txt").write_text("../other/right.png\n")
    assert open_unlabeled(str(tmp_path / "list.txt"), str(tmp_path / "link")).sizes.tolist() == [[30, 40]]


def test_labelled_images_are_left_out_whatever_they_are_called(pool: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    os.symlink(pool / "b.jpg", tmp_path / "links" / "other.jpg")
    labeled = open_unlabeled(str(tmp_path / "links"))
    rest = left_out(open_unlabeled(str(pool)), labeled)
    assert [rest.images.name(i) for i in range(len(rest))] == ["a.PNG", "deep/er/c.jpeg"]
    assert len(left_out(rest, labeled)) == 2
    (tmp_path / "copies").mkdir()
    shutil.copyfile(pool / "a.PNG", tmp_path / "copies" / "called_otherwise.png")
    assert [*overlap(open_unlabeled(str(pool)), open_unlabeled(str(tmp_path / "copies")))] == [0]
    for name, last in (("one.bmp", 0), ("other.bmp", 255)):  # of one size, alike for a long way
        image = Image.new("RGB", (200, 200))
        image.putpixel((199, 0), (last, 0, 0))  # BMP begins with the lowest row
        (tmp_path / name[:3]).mkdir()
        image.save(tmp_path / name[:3] / name)
    assert overlap(open_unlabeled(str(tmp_path / "one")), open_unlabeled(str(tmp_path / "oth"))) == []
    all_scenes = open_unlabeled("scenes:photo/train,count=6,size=64")
    some = open_dataset("scenes:photo/train,count=6,size=64").subset([1, 4])
    assert list(left_out(all_scenes, some).image_ids) == [1, 3, 4, 6]
    assert len(left_out(all_scenes, open_dataset("scenes:photo/val,count=6,size=64"))) == 6


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Every file that Python opens, by ``open`` or ``os.open``, also within libraries written in Python."""
    names: list[str] = []
    watching = True

    def note(event: str, details: tuple[Any, ...]) -> None:
        if watching and event == "open" and isinstance(details[0], str | os.PathLike):
            names.append(os.fspath(details[0]))

    sys.addaudithook(note)  # there is no taking it off
    yield names
    watching = False


ALLOWED = (".jpg", ".png", ".jpeg", "unlabeled.txt")


@pytest.mark.parametrize("listed", [False, True])
def test_no_annotation_can_be_opened(listed: bool, pool: Path, opened: list[str]) -> None:
    """Reading and decoding open images and the list, and nothing beside them."""
    (pool / "labeled.json").write_text("as mixdet split writes it, beside the list")
    (pool / "unlabeled.txt").write_text("a.PNG\nb.jpg\ndeep/er/c.jpeg\n")
    opened.clear()
    dataset = open_unlabeled(str(pool / "unlabeled.txt" if listed else pool))
    assert [dataset.image(i).shape[0] for i in range(len(dataset))] == [3, 3, 3]
    of_pool = [name for name in opened if name.startswith(str(pool))]
    assert len(of_pool) >= 3 + listed
    assert all(name.lower().endswith(ALLOWED) for name in of_pool)


def test_a_run_opens_no_annotation_of_its_pool(tmp_path: Path, opened: list[str]) -> None:
    """The same from a recipe to the end of a run, which a file that cannot be parsed would end, too."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in "abcd":
        Image.new("RGB", (96, 64), "grey").save(photos / f"{name}.jpg")
        (photos / f"{name}.xml").write_text("no XML")
    for name in ("annotations.json", "_annotations.coco.json", "instances_train.json"):
        (photos / name).write_text("no JSON")
    opened.clear()
    method = "method={name: unbiased_teacher, labeled_views: strong, decay: {burn_in_steps: 0}}"
    words = (f"data.unlabeled={photos}", method, "schedule.steps=1", "evaluation.visualize=0")
    assert train(quick_recipe(tmp_path / "run", *words)).step == 1
    of_pool = {os.path.basename(name) for name in opened if name.startswith(str(photos))}
    assert of_pool == {"a.jpg", "b.jpg", "c.jpg", "d.jpg"}


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("train.json", "unlabelled images need no annotations; give a folder of images"),
        ("nowhere", "nowhere: no such file or folder"),
        ("empty", "empty: no images in this folder"),
        ("empty.txt", "empty.txt: the file is empty"),
        ("bad.txt", "bad.txt: line 2: 'missing.jpg': no such file"),
        ("binary.txt", "the text is not UTF-8"),
        ("VOC2012:trainval", "there is no folder"),
        ("text.jpg", "not an image"),
        ("VOC2007", "is a VOC folder, with masks beside its photographs; name a split"),
    ],
)
def test_defects_in_one_line(tmp_path: Path, path: str, line: str) -> None:
    (tmp_path / "empty").mkdir()
    for part in ("JPEGImages", "ImageSets"):
        (tmp_path / "VOC2007" / part).mkdir(parents=True)
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "bad.txt").write_text("\nmissing.jpg\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "train.json").write_text("{}")
    with pytest.raises(MixdetError) as caught:
        open_unlabeled(str(tmp_path / path))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("way", ["folder", "list"])
def test_files_that_are_no_images_are_passed_over_and_counted(pool: Path, tmp_path: Path, way: str) -> None:
    whole = open_unlabeled(str(pool))
    (pool / "deep" / "empty.jpg").write_bytes(b"")
    (pool / "text.png").write_text("hello")
    path = pool
    if way == "list":
        path = tmp_path / "list.txt"
        names = [whole.images.name(i) for i in range(len(whole))]
        path.write_text("\n".join(str(pool / name) for name in (*names, "deep/empty.jpg", "text.png")))
    found = open_unlabeled(str(path))
    assert found.fingerprint() == whole.fingerprint()
    (note,) = found.notes
    assert note.startswith(f"{path.name}: 2 of 5 unlabelled images cannot be read and were passed over: ")
    assert "deep/empty.jpg" in note or "text.png" in note


def test_images_goes_with_a_list_only(pool: Path) -> None:
    with pytest.raises(MixdetError, match="goes with a list of images only"):
        open_unlabeled(str(pool), "elsewhere")


def test_sizes_are_as_displayed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "pool").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "pool" / "turned.jpg", exif=exif)
    assert np.array_equal(open_unlabeled(str(tmp_path / "pool")).sizes, [[40, 30]])
