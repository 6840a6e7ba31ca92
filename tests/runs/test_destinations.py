"""Files of the user's are never written over."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mixdet.errors import MixdetError
from mixdet.runs.destinations import check_apart, check_folder, check_picture, check_unused, save_picture


@pytest.fixture
def picture() -> Image.Image:
    return Image.new("RGB", (8, 8), "red")


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tiff"])
def test_of_the_pictures_that_are_there_only_those_of_mixdet_are_replaced(
    tmp_path: Path, picture: Image.Image, ending: str
) -> None:
    ours, theirs = tmp_path / f"ours.{ending}", tmp_path / f"theirs.{ending}"
    check_picture(ours)
    save_picture(picture, ours)
    check_picture(ours)
    picture.save(theirs)
    with pytest.raises(MixdetError, match=r"theirs\.\w+: is there already, and not drawn by mixdet; name another file"):
        check_picture(theirs)


def test_something_else_under_the_name_of_a_picture_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("notes")
    (tmp_path / "b.png").mkdir()
    for name in ("a.png", "b.png"):
        with pytest.raises(MixdetError, match="is there already"):
            check_picture(tmp_path / name)


def test_a_picture_goes_where_a_folder_is_or_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_picture(tmp_path / "new" / "folder" / "a.png")
    with pytest.raises(MixdetError, match=r"file is a file, not a folder; name another file with --out"):
        check_picture(tmp_path / "file" / "a.png")


def test_a_folder_is_no_file_and_lies_in_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "new" / "folder", Path("new"), Path()):
        check_folder(path)
    for path in (tmp_path / "file", tmp_path / "file" / "in" / "it"):
        with pytest.raises(MixdetError, match=r"file is a file, not a folder; use another"):
            check_folder(path, "use another")


def test_a_file_that_is_there_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.png").touch()
    check_unused(tmp_path, ["a.png", "c.png"])
    check_unused(tmp_path / "new", ["b/c.png"])
    with pytest.raises(MixdetError, match=r"c\.png: is there already; name another folder with --out"):
        check_unused(tmp_path, ["a.png", "b/c.png"])


def test_what_is_found_does_not_go_among_what_was_looked_at(tmp_path: Path) -> None:
    image = tmp_path / "photos" / "more" / "a.jpg"
    image.parent.mkdir(parents=True)
    image.touch()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    for folder in (tmp_path / "found", tmp_path / "photos" / "found", tmp_path / "photo"):
        check_apart(folder, [str(image)])
    for folder in (tmp_path, tmp_path / "photos", image.parent, tmp_path / "link"):
        with pytest.raises(MixdetError, match="holds the images themselves; name another folder with --out"):
            check_apart(folder, [str(image)])
