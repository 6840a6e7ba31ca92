"""docs/methods/mum.md: its studies are those there are, and its list of COCO20cls is what the recipe reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mixdet.data.stand_in import draw_images
from mixdet.data.unlabeled import open_unlabeled
from mixdet.recipes import load_recipe, load_study, study_names

PAGE = (Path(__file__).parents[2] / "docs" / "methods" / "mum.md").read_text("utf-8")


def test_the_page_names_every_study_and_its_recipe() -> None:
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if "| `mum_" in line
    ]
    assert {row[0]: row[2] for row in rows} == {
        name: load_study(name).recipe for name in study_names() if name.startswith("mum")
    }


def test_the_list_of_voc12_and_coco20cls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    annotations = tmp_path / "datasets/coco/annotations"
    voc = tmp_path / "datasets/VOCdevkit/VOC2012"
    for folder in (annotations, annotations.parent / "train2017", voc / "JPEGImages", voc / "ImageSets/Main"):
        folder.mkdir(parents=True)
    names = ("bench", "dining table", "tv")
    coco = {
        "categories": [{"id": 10 * k, "name": name} for k, name in enumerate(names)],
        "images": [{"id": k, "file_name": f"{k}.jpg"} for k in range(4)],  # the last has no box
        "annotations": [{"image_id": k, "category_id": 10 * k} for k in range(3)],
    }
    (annotations / "instances_train2017.json").write_text(json.dumps(coco))
    (voc / "ImageSets/Main/trainval.txt").write_text("2008_1\n2008_2\n")
    files = [
        *(annotations.parent / f"train2017/{k}.jpg" for k in range(4)),
        *(voc / f"JPEGImages/2008_{k}.jpg" for k in (1, 2)),
    ]
    for file, drawn in zip(files, draw_images(len(files), 4), strict=True):
        drawn.image.save(file)
    exec(PAGE.split("```python\n")[1].split("```")[0], {})
    pool = load_recipe("mum_voc_coco").data.unlabeled
    assert pool is not None
    found = open_unlabeled(pool.path, pool.images)
    assert [Path(found.images.name(i)).name for i in range(len(found))] == [
        "1.jpg",
        "2.jpg",
        "2008_1.jpg",
        "2008_2.jpg",
    ]
