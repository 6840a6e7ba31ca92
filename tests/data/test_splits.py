from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mixdet.data.coco import read_coco
from mixdet.data.dataset import DetectionDataset
from mixdet.data.images import FileImages
from mixdet.data.splits import labeled_subset, select_files
from mixdet.errors import MixdetError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def dataset(labels: list[list[int]], classes: int = 4, crowd: bool = False) -> DetectionDataset:
    """One image a list, named 0000.jpg and so on; one box a label."""
    flat = [(i, label) for i, row in enumerate(labels) for label in row]
    return DetectionDataset.from_rows(
        "d",
        FileImages.from_names(".", [f"{i:04}.jpg" for i in range(len(labels))]),
        [f"c{k}" for k in range(classes)],
        sizes=[[9, 9]] * len(labels),
        image_index=[i for i, _ in flat],
        boxes=[[0, 0, 1, 1]] * len(flat),
        labels=[label for _, label in flat],
        crowd=[crowd] * len(flat),
    )


def common(count: int = 500) -> DetectionDataset:
    """Classes 0 and 1 are common, 2 is in image 77 alone, 3 nowhere."""
    labels = [[0], [1], [0, 1], []] * (count // 4)
    labels[77] = [2]
    return dataset(labels)


@pytest.mark.parametrize("seed", range(5))
def test_every_class_is_covered(seed: int) -> None:
    data = common()
    chosen = labeled_subset(data, count=5, seed=seed)
    assert chosen.dtype == np.int64
    assert len(chosen) == 5
    assert (np.diff(chosen) > 0).all()
    assert set(data.subset(chosen).labels.tolist()) == {0, 1, 2}


def test_fraction_and_count() -> None:
    data = common(100)
    assert len(labeled_subset(data, fraction=0.1, seed=0)) == 10
    assert len(labeled_subset(data, fraction=1.0, seed=0)) == 100
    assert labeled_subset(data, fraction=0.25, seed=3).tolist() == labeled_subset(data, count=25, seed=3).tolist()
    assert len(labeled_subset(dataset([[0]] * 30), fraction=0.001, seed=0)) == 1


def test_a_share_that_binary_fractions_miss_is_a_whole_one() -> None:
    assert 0.29 * 100 < 29
    assert len(labeled_subset(dataset([[0]] * 100), fraction=0.29, seed=0, rule="uniform")) == 29


def test_deterministic_nested_and_different_by_seed() -> None:
    data = common()
    small, large = (set(labeled_subset(data, count=n, seed=1).tolist()) for n in (20, 60))
    assert small == set(labeled_subset(common(), count=20, seed=1).tolist())
    assert small < large
    assert len(small & set(labeled_subset(data, count=20, seed=2).tolist())) < 10


def test_a_split_is_the_same_for_ever() -> None:
    assert labeled_subset(common(160), count=6, seed=0).tolist() == [19, 56, 77, 98, 113, 131]


def test_the_order_of_the_images_does_not_matter() -> None:
    data = common()
    turned = data.subset(np.arange(len(data))[::-1])
    names = [{d.images.name(int(i)) for i in labeled_subset(d, count=30, seed=4)} for d in (data, turned)]
    assert names[0] == names[1]


def test_uniform_beyond_the_cover() -> None:
    data, hits = dataset([[0, 1]] * 40, classes=2), np.zeros(40)
    for seed in range(2000):
        hits[labeled_subset(data, count=8, seed=seed)] += 1
    assert abs(hits - 400).max() < 5 * np.sqrt(400 * 0.8)


def test_impossible_requests() -> None:
    data = common()
    for request, words in [
        ({"fraction": 0.0}, "fraction = 0.0"),
        ({"fraction": 1.5}, "fraction = 1.5"),
        ({"fraction": float("nan")}, "fraction = nan"),
        ({"count": 0}, "0 labelled images were asked for; it has 500: ask for 1 to 500"),
        ({"count": 501}, "501 labelled images were asked for"),
        ({"count": 1}, "1 labelled images cannot show all classes .* at least 2"),
    ]:
        with pytest.raises(MixdetError, match=words):
            labeled_subset(data, seed=0, **request)
    for request in ({}, {"fraction": 0.5, "count": 3}):
        with pytest.raises(ValueError, match="either fraction or count"):
            labeled_subset(data, seed=0, **request)


def test_ignored_boxes_ask_for_no_cover() -> None:
    assert len(labeled_subset(dataset([[0], [1], [2]], crowd=True), count=1, seed=0)) == 1


def test_select_files() -> None:
    data = common()
    assert select_files(data, ["0007.jpg", "0003.jpg"]).tolist() == [7, 3]
    assert select_files(data, []).tolist() == []
    with pytest.raises(MixdetError, match=r"d: has no image 'x403\.jpg'; did you mean 0403\.jpg\?"):
        select_files(data, ["0001.jpg", "x403.jpg"])
    with pytest.raises(MixdetError, match=r"has no image 'xyz'; its names look like 0000\.jpg"):
        select_files(data, ["xyz"])
    with pytest.raises(MixdetError, match=r"image '0001\.jpg' is named twice"):
        select_files(data, ["0001.jpg", "0001.jpg"])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")
def test_real_splits() -> None:
    data = read_coco(SHARED / "coco665/annotations/instances_train.json")
    assert len(np.unique(data.subset(labeled_subset(data, fraction=0.2, seed=0)).labels)) == 80
    cells = read_coco(SHARED / "bccd/annotations/instances_train.json")
    splits = json.loads((SHARED / "bccd/annotations/ssod_splits.json").read_text())["splits"]
    for split in splits:
        labelled = select_files(cells, split["labelled"])
        assert [cells.images.name(int(i)) for i in labelled] == split["labelled"]
        assert len(np.unique(cells.subset(labelled).labels)) == 3
