from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from mixdet.data.sources import open_dataset
from mixdet.errors import MixdetError


def coco(folder: Path, images: Path) -> str:
    images.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(images / "1.png")
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 8, "height": 6}],
        "annotations": [],
        "categories": [{"id": 1, "name": "a"}],
    }
    (folder / "train.JSON").write_text(json.dumps(content))
    return str(folder / "train.JSON")


def test_coco(tmp_path: Path) -> None:
    assert len(open_dataset(coco(tmp_path, tmp_path))) == 1
    (tmp_path / "1.png").unlink()
    data = open_dataset(coco(tmp_path, tmp_path / "far"), images=str(tmp_path / "far"))
    assert data.images.name(0) == "1.png"


def test_voc(tmp_path: Path) -> None:
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / "VOC2007" / part).mkdir(parents=True)
    (tmp_path / "VOC2007/ImageSets/Main/train.txt").write_text("a")
    (tmp_path / "VOC2007/Annotations/a.xml").write_text("<annotation/>")
    Image.new("RGB", (8, 6)).save(tmp_path / "VOC2007/JPEGImages/a.jpg")
    assert len(open_dataset(f"{tmp_path}/VOC2007:train").classes) == 20
    with pytest.raises(MixdetError, match="names no split"):
        open_dataset(f"{tmp_path}/VOC2007")
    with pytest.raises(MixdetError, match=r"images = x: goes with a COCO file only, not with .*VOC2007:train"):
        open_dataset(f"{tmp_path}/VOC2007:train", images="x")


def test_scenes_get_the_text_behind_the_colon(monkeypatch: pytest.MonkeyPatch) -> None:
    module, seen = ModuleType("mixdet.data.scenes"), []
    module.open_scenes = seen.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mixdet.data.scenes", module)
    open_dataset("scenes:clipart#val")
    assert seen == ["clipart#val"]


def test_unknown_forms(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    for path, words in [
        (str(tmp_path / "gone"), "gone: does not exist; give a COCO file"),
        (str(tmp_path / "notes.txt"), "notes.txt: is of no known form; give a COCO file"),
        ("", "does not exist|of no known form"),
        (str(tmp_path / "gone.json"), "No such file"),
    ]:
        with pytest.raises(MixdetError, match=words):
            open_dataset(path)
    with pytest.raises(MixdetError, match=r"VOC2007:trainval.*scenes:photo"):
        open_dataset(str(tmp_path))
