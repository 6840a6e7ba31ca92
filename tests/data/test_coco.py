from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mixdet.data.check import check_images
from mixdet.data.coco import read_coco, read_labels
from mixdet.data.dataset import DetectionDataset
from mixdet.data.unlabeled import open_unlabeled
from mixdet.errors import MixdetError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def valid() -> dict[str, Any]:
    """Three images of 40 x 30 (the last one empty), two categories with a gap, five boxes."""
    boxes = [
        (11, 1, [1, 2, 10, 5]),
        (12, 1, [20, 10, 8, 9]),
        (13, 2, [5, 5, 30, 20]),
        (14, 2, [0, 0, 4, 4]),
        (15, 2, [9, 9, 9, 9]),
    ]
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2, 3)],
        "annotations": [
            {"id": a, "image_id": i, "category_id": 90 if a % 2 else 7, "bbox": box} for a, i, box in boxes
        ],
        "categories": [{"id": 90, "name": "dog"}, {"id": 7, "name": "cat"}],
    }


def write(folder: Path, content: Any = None, name: str = "set.json", images: str = ".") -> Path:
    """The JSON (text or object) in ``folder``, and the three images in its sub-folder ``images``."""
    (folder / images).mkdir(parents=True, exist_ok=True)
    for i in (1, 2, 3):
        Image.new("RGB", (40, 30), (i, 0, 0)).save(folder / images / f"{i}.png")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = valid() if content is None else content
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def refused(path: Path, *words: str, images: Path | None = None) -> str:
    """The message of the error, which is one line and holds ``words`` and the file."""
    with pytest.raises(MixdetError) as caught:
        read_coco(path, images)
    message = str(caught.value)
    assert message.isprintable()
    for word in (path.name, *words):
        assert word in message
    return message


def test_reads_boxes_classes_and_ids(tmp_path: Path) -> None:
    data = read_coco(write(tmp_path))
    assert data.name == "set.json"
    assert data.classes == ("cat", "dog")
    assert data.category_ids.tolist() == [7, 90]
    assert data.image_ids.tolist() == [1, 2, 3]
    assert data.sizes.tolist() == [[30, 40]] * 3
    assert data.instances(0).boxes.tolist() == [[1, 2, 11, 7], [20, 10, 28, 19]]
    assert data.instances(0).labels.tolist() == [1, 0]
    assert len(data.instances(2)) == 0
    assert data.areas.tolist() == [50, 72, 600, 16, 81]
    assert data.notes == ()
    assert [int(data.image(i)[0, 0, 0]) for i in range(3)] == [1, 2, 3]
    check_images(data, decode=True)


def test_order_of_annotations_is_free(tmp_path: Path) -> None:
    content = valid()
    content["annotations"].reverse()
    data = read_coco(write(tmp_path, content))
    assert data.instances(0).boxes.tolist() == [[20, 10, 28, 19], [1, 2, 11, 7]]


def test_crowd_area_and_unknown_fields(tmp_path: Path) -> None:
    content = valid()
    content["info"] = {"anything": [1, {"deep": None}]}
    content["annotations"][0] |= {"iscrowd": 1, "area": 12.5, "segmentation": {"counts": "broken RLE", "size": [1]}}
    content["annotations"][1] |= {"iscrowd": True, "area": None, "segmentation": [[1, 2, 3]]}
    content["annotations"][2] |= {"iscrowd": None, "area": 0}
    data = read_coco(write(tmp_path, content))
    assert data.crowd.tolist() == [True, True, False, False, False]
    assert data.ignored.tolist() == data.crowd.tolist()
    assert data.areas.tolist() == [12.5, 72, 600, 16, 81]


def test_boxes_are_clipped_and_counted(tmp_path: Path) -> None:
    content = valid()
    content["annotations"][0]["bbox"] = [-5, 2, 10, 5]
    content["annotations"][3]["bbox"] = [30, 20, 10.4, 10.4]
    data = read_coco(write(tmp_path, content))
    assert data.instances(0).boxes[0].tolist() == [0, 2, 5, 7]
    assert data.instances(1).boxes[1].tolist() == [30, 20, 40, 30]
    assert len(data.notes) == 1
    assert "1 of 5 boxes clipped" in data.notes[0]
    assert "annotation 11 of image 1: bbox = [-5.0, 2.0, 10.0, 5.0]" in data.notes[0]


def test_classes_without_boxes_are_noted(tmp_path: Path) -> None:
    content = valid()
    content["categories"].append({"id": 8, "name": "emu"})
    data = read_coco(write(tmp_path, content))
    assert data.classes == ("cat", "emu", "dog")
    assert "1 of 3 classes have no box: emu" in data.notes[0]


def test_no_annotations_is_a_set_without_labels(tmp_path: Path) -> None:
    data = read_coco(write(tmp_path, valid() | {"annotations": []}))
    assert len(data) == 3
    assert data.boxes.shape == (0, 4)


def test_missing_sizes_are_read_from_the_images(tmp_path: Path) -> None:
    content = valid()
    del content["images"][1]["width"]
    assert read_coco(write(tmp_path, content)).sizes.tolist() == [[30, 40]] * 3


def test_image_ids_may_be_text(tmp_path: Path) -> None:
    content = valid()
    for entry in content["images"] + content["annotations"]:
        key = "image_id" if "image_id" in entry else "id"
        entry[key] = f"img-{entry[key]}"
    data = read_coco(write(tmp_path, content))
    assert data.image_ids.tolist() == [1, 2, 3]
    assert len(data.instances(1)) == 3
    assert "image ids are text, e.g. 'img-1'" in data.notes[0]


def test_annotation_ids_do_not_matter(tmp_path: Path) -> None:
    content = valid()
    for row in content["annotations"]:
        row["id"] = 0
    del content["annotations"][2]["id"]
    assert len(read_coco(write(tmp_path, content)).labels) == 5


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("set.json", "."),
        ("set.json", "images"),
        ("annotations/set.json", "images"),
        ("annotations/instances_train.json", "train"),
        ("annotations/instances_train.json", "train2017"),
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_val.json", "images/val"),
        ("annotations/val.json", "images/val2014"),
        ("instances_val.json", "val"),
        ("annotations/set.json", "."),
    ],
)
def test_images_are_found_beside_the_json(tmp_path: Path, name: str, images: str) -> None:
    data = read_coco(write(tmp_path, name=name, images=images))
    assert data.image(1)[0, 0, 0] == 2


def test_the_folder_that_holds_most_is_taken(tmp_path: Path) -> None:
    write(tmp_path, images="images")
    write(tmp_path, images="train")
    (tmp_path / "images" / "2.png").unlink()
    assert read_coco(write(tmp_path, name="annotations/train.json", images="train")).images.root.endswith("train")


def test_images_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path / "a")
    for i in (1, 2, 3):
        (tmp_path / "b" / "sub").mkdir(parents=True, exist_ok=True)
        os.rename(tmp_path / "a" / f"{i}.png", tmp_path / "b" / "sub" / f"{i}.png")
    message = refused(path, "image 1: file_name = '1.png'", "images=FOLDER")
    assert str(tmp_path / "a" / "images") in message
    assert read_coco(path, tmp_path / "b" / "sub").image(2)[0, 0, 0] == 3
    assert str(tmp_path / "a" / "images") not in refused(path, str(tmp_path / "b"), images=tmp_path / "b")
    content = valid()
    for image in content["images"]:
        image["file_name"] = "sub/" + image["file_name"]
    data = read_coco(write(tmp_path / "c", content), tmp_path / "b")
    assert data.images.name(0) == "sub/1.png"
    check_images(data)


def test_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    assert len(read_coco(write(tmp_path, b"\xef\xbb\xbf" + json.dumps(valid()).encode()))) == 3


BOXES: list[tuple[Any, str]] = [
    ([1, 2, 0, 5], "width 0 and height 5"),
    ([1, 2, 5, -5], "width 5 and height -5"),
    ([1, 2, float("nan"), 5], "[1, 2, nan, 5] is not finite"),
    ([1, 2, float("inf"), 5], "is not finite"),
    ([float("-inf"), 2, 3, 5], "is not finite"),
    ([1, 2, 1e30, 5], "larger than any image"),
    ([1, 2, 1e308, 5], "larger than any image"),
    ([100, 2, 5, 5], "outside its image of width 40 and height 30"),
    ([-9, 2, 5, 5], "outside its image"),
]


@pytest.mark.parametrize(("box", "words"), BOXES)
def test_senseless_boxes(tmp_path: Path, box: Any, words: str) -> None:
    content = valid()
    content["annotations"][3]["bbox"] = box
    refused(write(tmp_path, content), "14", "bbox", words)


def test_the_count_of_defects_is_given(tmp_path: Path) -> None:
    content = valid()
    for k in (0, 2, 4):
        content["annotations"][k]["bbox"][2] = 0
    refused(write(tmp_path, content), "annotation 11 of image 1", "(and 2 more like this)")


def test_normalised_boxes(tmp_path: Path) -> None:
    content = valid()
    for row in content["annotations"]:
        row["bbox"] = [0.1, 0.2, 0.5, 0.25]
    refused(
        write(tmp_path, content), "all 5 boxes lie in [0, 1]", "[0.1, 0.2, 0.5, 0.25]", "looks like coordinates divided"
    )


def test_corner_boxes(tmp_path: Path) -> None:
    content = valid()
    for row in content["annotations"]:
        x, y, w, h = row["bbox"]
        row["bbox"] = [x, y, x + w, y + h]
    refused(write(tmp_path, content), "looks like corners", "bbox = [1.0, 2.0, 11.0, 7.0]", "subtract x1 and y1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c["annotations"][1].update(category_id=8),
            ["annotation 12 of image 1", "category_id = 8", "[7, 90]"],
        ),
        (lambda c: c["annotations"][1].update(category_id="7"), ["annotations[1] (id 12)", "category_id = '7'"]),
        (
            lambda c: c["annotations"][1].update(image_id=99),
            ["annotation 12", "image_id = 99 is no image of this file"],
        ),
        (lambda c: c["categories"][1].update(id=90), ["category 90", "'dog'", "'cat'", "own id"]),
        (lambda c: c["categories"][1].update(name="dog \n"), ["category 90", "'dog'", "is used twice"]),
        (lambda c: c["categories"][1].update(name=" "), ["category 7", "name = ' '", "empty"]),
        (lambda c: c["categories"][1].update(id="7"), ["categories[1] (id '7')", "id = '7'", "write an integer"]),
        (lambda c: c.update(categories=[]), ["categories = []"]),
        (lambda c: c.update(images=[]), ["images = []"]),
        (lambda c: c["images"][1].update(id=1), ["image 1", "'1.png'", "'2.png'", "own id"]),
        (lambda c: c["images"][1].update(file_name="./1.png"), ["image 2", "file_name = './1.png'", "image 1 too"]),
        (lambda c: c["images"][1].update(file_name=5), ["images[1] (id 2)", "file_name = 5", "as text"]),
        (lambda c: c["images"][1].update(width=0), ["image 2", "width = 0"]),
        (lambda c: c["images"][1].update(height=-30), ["image 2", "height = -30"]),
        (lambda c: c["images"][1].update(height=30.5), ["image 2", "height = 30.5"]),
        (lambda c: c["images"][1].update(width="40"), ["images[1] (id 2)", "width = '40'"]),
    ],
)
def test_other_defects(tmp_path: Path, change, words: list[str]) -> None:
    content = valid()
    change(content)
    refused(write(tmp_path, content), *words)


NAMES = ["../1.png", "sub/../../1.png", "/etc/hostname", "C:/1.png", "a\\1.png", "1.png\0", "\x1b[31m1.png", "", " "]
NAMES += ["a\n.png", "http://host/1.png", "file:///etc/hostname"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_must_not_be_opened(tmp_path: Path, name: str) -> None:
    content = valid()
    content["images"][1]["file_name"] = name
    refused(write(tmp_path, content), "image 2: file_name = ")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")
@pytest.mark.parametrize(
    ("file", "images", "boxes", "classes", "crowd"),
    [
        ("bccd/annotations/instances_train.json", 205, 2804, 3, 0),
        ("coco665/annotations/instances_train.json", 337, 2827, 80, 18),
        ("fod_bright2dark/annotations/instances_source_val.json", 160, 160, 16, 0),
    ],
)
def test_real_data_sets(file: str, images: int, boxes: int, classes: int, crowd: int) -> None:
    data = read_coco(SHARED / file)
    assert (len(data), len(data.labels), len(data.classes), data.crowd.sum()) == (images, boxes, classes, crowd)
    raw = json.loads((SHARED / file).read_text())
    first = [a["bbox"] for a in raw["annotations"] if a["image_id"] == raw["images"][5]["id"]]
    found = data.instances(5).boxes.numpy()
    found[:, 2:] -= found[:, :2]
    assert np.allclose(found, first, atol=0.02)
    check_images(data)
    assert data.image(5).shape[1:] == tuple(data.sizes[5])


def labels_of(folder: Path, content: dict[str, Any]) -> DetectionDataset:
    """``content`` as labels that a detector gave for the folder ``pool``; dog and cat are classes 1 and 2 of three."""
    path = write(folder, content, images="pool")
    return read_labels(path, open_unlabeled(str(folder / "pool")), ["ant", "dog", "cat"], np.array([1, 2, 3]))


def test_labels_that_a_detector_gave_are_matched_by_name(tmp_path: Path) -> None:
    content = valid()
    content["images"] = content["images"][1::-1]  # not in the pool's order, and not all of it
    content["images"][0]["id"] = content["images"][1]["file_name"]  # text that is another image's name is an id too
    for row in content["annotations"]:
        row["image_id"] = "1.png" if row["image_id"] == 2 else row["image_id"]
    found = labels_of(tmp_path, content)
    assert [found.images.name(i) for i in range(len(found))] == ["2.png", "1.png"]
    assert [found.labels[found.image_index == i].tolist() for i in (0, 1)] == [[1, 2, 1], [1, 2]]
    assert (found.classes, found.category_ids.tolist()) == (("ant", "dog", "cat"), [1, 2, 3])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda c: c.update(annotations=[]), "annotations = []; there is nothing to learn from"),
        (lambda c: c["categories"][0].update(name="bird"), "category 'bird' is no class of data.labeled; remove it"),
        (lambda c: c["images"][0].update(file_name="9.png"), "image 1: file_name = '9.png' is no image of pool"),
        (lambda c: c["images"][1].update(width=41), "is 41 x 30 pixels there, and 40 x 30 in pool; label the images"),
        (lambda c: c["images"][1].update(id=1), "image 1: file_name = '2.png': its id or its name is used twice"),
        (lambda c: c["images"][1].update(file_name="1.png"), "'1.png': its id or its name is used twice; remove one"),
    ],
)
def test_labels_that_do_not_fit_their_images_are_refused(
    change: Callable[[dict[str, Any]], object], line: str, tmp_path: Path
) -> None:
    content = valid()
    change(content)
    with pytest.raises(MixdetError) as caught:
        labels_of(tmp_path, content)
    assert line in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "set.json"))
