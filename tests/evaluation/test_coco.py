"""COCO AP against pycocotools, and what pycocotools keeps silent about."""

from __future__ import annotations

import copy
import random
from collections import Counter
from typing import Any

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mixdet.errors import MixdetError
from mixdet.evaluation import coco_ap, coco_metrics
from mixdet.evaluation.coco import COCO_AP, NUMBERS

Json = dict[str, Any]


def reference(gt: Json, results: list[Json]) -> dict[str, float | None]:
    """The 12 numbers of pycocotools, its -1 as None."""
    truth = COCO()
    truth.dataset = copy.deepcopy(gt)
    truth.createIndex()
    run = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    return {name: None if value == -1 else float(value) for name, value in zip(NUMBERS, run.stats, strict=True)}


def random_case(seed: int, *, crowds: bool = False, ties: bool = False, many: bool = False) -> tuple[Json, list[Json]]:
    """6 images, 1 without boxes, 1 without detections; 4 classes with gaps in their ids, the last without boxes."""
    rng = random.Random(seed)
    categories = [{"id": i, "name": f"class {i}"} for i in (3, 17, 90, 91)]
    images = [{"id": i, "width": 640, "height": 480} for i in (139, 7, 20, 5, 1000, 42)]
    annotations, results = [], []
    for image in images[1:]:
        for _ in range(rng.randrange(3, 9)):
            x, y, side = rng.uniform(0, 300), rng.uniform(0, 200), rng.choice([15, 50, 150])
            box = [round(v, 2) for v in (x, y, side * rng.uniform(0.7, 1.3), side * rng.uniform(0.7, 1.3))]
            crowd = int(crowds and rng.random() < 0.3)
            owner = {"image_id": image["id"], "category_id": rng.choice([3, 17, 90])}
            area = round(box[2] * box[3] * rng.uniform(0.6, 1), 2)
            annotations.append({"id": len(annotations) + 1, **owner, "bbox": box, "area": area, "iscrowd": crowd})
            for _ in range(rng.randrange(60, 90) if many else rng.randrange(4)):
                noise = [round(v + side * rng.uniform(-0.15, 0.15), 2) for v in box]
                category = owner["category_id"] if rng.random() < 0.8 else rng.choice([3, 17, 90, 91])
                score = round(rng.random(), 1 if ties else 5)
                results.append({**owner, "category_id": category, "bbox": noise, "score": score})
    return {"images": images, "categories": categories, "annotations": annotations}, [
        r for r in results if r["image_id"] != 5
    ]


CASES = {
    "plain": {},
    "crowds": {"crowds": True},
    "ties": {"ties": True, "crowds": True},
    "over 100 detections": {"many": True, "ties": True},
}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools(kind: str, seed: int) -> None:
    gt, results = random_case(seed, **CASES[kind])
    if kind == "over 100 detections":
        assert max(Counter((r["image_id"], r["category_id"]) for r in results).values()) > 100
    assert coco_metrics(gt, results).numbers == pytest.approx(reference(gt, results), abs=1e-6)


@pytest.mark.parametrize("kind", CASES)
def test_arrays_equal_pycocotools_on_the_files(kind: str, dataset_from_json, detections_from_json) -> None:
    gt, results = random_case(11, **CASES[kind])
    dataset, detections = dataset_from_json(gt), detections_from_json(gt, results)
    assert coco_ap(detections, dataset).numbers == pytest.approx(reference(gt, results), abs=1e-6)


def test_per_class_equals_pycocotools_on_that_class_alone() -> None:
    gt, results = random_case(5)
    metrics = coco_metrics(gt, results)
    for category in gt["categories"]:
        alone = {**gt, "annotations": [a for a in gt["annotations"] if a["category_id"] == category["id"]]}
        found = [r for r in results if r["category_id"] == category["id"]]
        expected = reference(alone, found)
        assert metrics.per_class[category["name"]] == pytest.approx((expected["AP"], expected["AP50"]), abs=1e-6)
    assert metrics.per_class["class 91"] == (None, None)


def test_annotation_id_0_costs_nothing() -> None:
    gt, _ = random_case(2)
    perfect = [{**a, "score": 0.9} for a in gt["annotations"]]
    for shift in (-1, 0):
        shifted = {**gt, "annotations": [{**a, "id": a["id"] + shift} for a in gt["annotations"]]}
        assert coco_metrics(shifted, perfect).ap == pytest.approx(1.0)
    same_ids = {**gt, "annotations": [{**a, "id": 1} for a in gt["annotations"]]}
    assert coco_metrics(same_ids, perfect).ap == pytest.approx(1.0)


def test_iscrowd_and_area_may_be_missing() -> None:
    gt, results = random_case(3)
    boxes = [{**a, "area": a["bbox"][2] * a["bbox"][3]} for a in gt["annotations"]]
    bare = [{k: a[k] for k in ("id", "image_id", "category_id", "bbox")} for a in boxes]
    full = coco_metrics({**gt, "annotations": boxes}, results)
    assert coco_metrics({**gt, "annotations": bare}, results) == full


def test_area_is_that_of_the_file() -> None:
    gt, _ = random_case(2)
    small = {**gt, "annotations": [{**a, "area": 10.0} for a in gt["annotations"]]}
    metrics = coco_metrics(small, [{**a, "score": 0.9} for a in gt["annotations"]])
    assert metrics.ap_small == pytest.approx(1.0)
    assert (metrics.ap_medium, metrics.ap_large, metrics.ar_large) == (None, None, None)


def test_inputs_are_left_as_they_are() -> None:
    gt, results = random_case(1)
    before = copy.deepcopy((gt, results))
    coco_metrics(gt, results)
    assert (gt, results) == before


def test_nothing_is_printed(capfd) -> None:
    coco_metrics(*random_case(1))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("left", ["none", "crowds"])
def test_without_ground_truth_ap_is_undefined(left: str) -> None:
    gt, results = random_case(1)
    kept = [] if left == "none" else [{**a, "iscrowd": 1} for a in gt["annotations"]]
    metrics = coco_metrics({**gt, "annotations": kept}, results)
    assert metrics.note == "no ground truth"
    assert set(metrics.numbers.values()) == {None}
    assert set(metrics.per_class.values()) == {(None, None)}


def test_without_detections_ap_is_0() -> None:
    gt, _ = random_case(1)
    metrics = coco_metrics(gt, [])
    assert (metrics.ap, metrics.ar100, metrics.note, metrics.name) == (0.0, 0.0, "", COCO_AP)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": 8}, r"results\[1\].image_id: 8 is not in the ground truth"),
        ({"category_id": 1}, r"results\[1\].category_id: 1 is not"),
        ({"score": float("nan")}, r"results\[1\]: box or score is not finite"),
        ({"bbox": [0, 0, float("inf"), 5]}, r"results\[1\]: box or score is not finite"),
    ],
)
def test_results_that_would_be_miscounted_in_silence(change: Json, words: str) -> None:
    gt, results = random_case(1)
    with pytest.raises(MixdetError, match=words):
        coco_metrics(gt, [results[0], {**results[1], **change}, *results[2:]])


def test_a_category_name_used_twice() -> None:
    gt, results = random_case(1)
    doubled = [*gt["categories"], {"id": 100, "name": "class 3"}]
    with pytest.raises(MixdetError, match="category name 'class 3' is used twice"):
        coco_metrics({**gt, "categories": doubled}, results)
