"""Stand-in data has the form of the real one, as the readers see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mixdet.data import VOC_CLASSES, DetectionDataset, check_images, labeled_subset, open_dataset
from mixdet.data.stand_in import COCO_IDS, SIZES, stand_in
from mixdet.errors import MixdetError


def _opened(path: str, root: Path, count: int = 12, images: str | None = None) -> DetectionDataset:
    dataset = open_dataset(*stand_in(path, images, root, count))
    check_images(dataset)
    assert len(dataset) == count
    assert {tuple(size) for size in dataset.sizes.tolist()} == set(SIZES)
    for i in range(0, count, 5):
        assert tuple(dataset.image(i).shape[1:]) == tuple(dataset.sizes[i])
    return dataset


def test_voc(tmp_path: Path) -> None:
    dataset = _opened("/nowhere/VOCdevkit/VOC2007+2012:trainval", tmp_path)
    assert dataset.name == "VOC2007+2012:trainval"
    assert dataset.classes == VOC_CLASSES
    assert set(dataset.labels.tolist()) == set(range(20))
    assert dataset.difficult.sum() == 6
    assert {dataset.images.name(i).split("/")[0] for i in range(12)} == {"VOC2007", "VOC2012"}
    assert "<part>" in "".join(p.read_text() for p in tmp_path.rglob("*.xml"))
    assert max(p.stat().st_size for p in tmp_path.rglob("*.jpg")) < 40_000
    assert (dataset.boxes[:, 2:] - dataset.boxes[:, :2] >= 40).all()
    assert (dataset.boxes[:, :2] >= 0).all()
    assert (dataset.boxes[:, [3, 2]] <= dataset.sizes[dataset.image_index]).all()


def test_voc_splits_share_their_folders(tmp_path: Path) -> None:
    train = _opened("VOCdevkit/VOC2007+2012:trainval", tmp_path)
    test = _opened("VOCdevkit/VOC2007:test", tmp_path)
    assert (tmp_path / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "trainval.txt").is_file()
    names = [{d.images.name(i) for i in range(len(d))} for d in (train, test)]
    assert not names[0] & names[1]


def test_a_voc_folder_of_any_name(tmp_path: Path) -> None:
    assert _opened("datasets/BCCD:train", tmp_path).classes == VOC_CLASSES


def test_coco(tmp_path: Path) -> None:
    dataset = _opened("data/coco/annotations/instances_train2017.json", tmp_path)
    assert len(dataset.classes) == 80
    assert tuple(dataset.category_ids.tolist()) == COCO_IDS
    assert (COCO_IDS[0], COCO_IDS[-1], np.diff(COCO_IDS).max()) == (1, 90, 3)
    assert len(set(dataset.labels.tolist())) == 20
    assert dataset.crowd.any()
    assert len(dataset.instances(11)) == 0
    assert (tmp_path / "train2017").is_dir()


def test_coco_with_its_images_elsewhere(tmp_path: Path) -> None:
    path, images = stand_in("a/train.json", "b/pictures", tmp_path, 6)
    assert (path, images) == (str(tmp_path / "a" / "train.json"), str(tmp_path / "pictures"))
    assert len(open_dataset(path, images)) == 6


@pytest.mark.parametrize("path", ["VOC2007:train", "annotations/train.json"])
def test_a_tenth_of_it_shows_every_class(path: str, tmp_path: Path) -> None:
    dataset = open_dataset(*stand_in(path, None, tmp_path, 80))
    part = dataset.subset(labeled_subset(dataset, seed=3, fraction=0.1))
    assert len(part) == 8
    assert len(set(part.labels.tolist())) == 20


def test_scenes_stand_for_themselves(tmp_path: Path) -> None:
    assert stand_in("scenes:photo/val,count=90,size=96", None, tmp_path, 4)[0] == "scenes:photo/val,size=96,count=4"
    assert not list(tmp_path.iterdir())


def test_the_same_seed_draws_the_same(tmp_path: Path) -> None:
    one, two = (open_dataset(*stand_in("VOC2007:train", None, tmp_path / name, 4)) for name in ("one", "two"))
    assert (one.boxes == two.boxes).all()
    assert (one.image(3) == two.image(3)).all()


def test_data_of_no_known_form(tmp_path: Path) -> None:
    with pytest.raises(MixdetError, match=r"^pictures: no stand-in for data of this form; give a COCO"):
        stand_in("pictures", None, tmp_path, 4)
