from __future__ import annotations

import json
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch

import mixdet.evaluation
from mixdet.errors import MixdetError
from mixdet.evaluation import coco_metrics, detections_to_coco, evaluate, match_classes, voc_ap
from mixdet.evaluation.arrays import decimal
from mixdet.evaluation.coco import ground_truth_json
from mixdet.structures import Detections

CLASSES = ("cat", "dog", "cow")
ROWS = [(0, 0, 10, 10, 50, 60), (0, 1, 100, 100, 220, 260), (2, 0, 30, 30, 90, 90), (2, 1, 200, 20, 280, 90)]
FOUND = [
    (0, 0, 0.9, 10, 10, 50, 60),
    (0, 1, 0.8, 104, 100, 220, 260),
    (1, 1, 0.7, 5, 5, 20, 30),
    (2, 0, 0.6, 30, 36, 90, 90),
    (2, 2, 0.5, 0, 0, 40, 40),
]


@pytest.fixture
def dataset(make_dataset):
    return make_dataset(ROWS, 3, CLASSES, image_ids=[77, 5, 20], category_ids=[18, 3, 90])


@pytest.fixture
def detections(make_detections) -> list[Detections]:
    return make_detections(FOUND, 3)


def test_coco(dataset, detections) -> None:
    result = evaluate(detections, dataset, "coco")
    assert result.metric == "COCO AP @[IoU=0.50:0.95 | area=all | maxDets=100]"
    assert len(result.numbers) == 12
    assert result.headline == result.numbers["AP"] is not None
    assert (result.images, result.boxes, result.detections, result.note) == (3, 4, 5, "")
    assert list(result.per_class) == list(CLASSES)
    cat, cow = result.per_class["cat"], result.per_class["cow"]
    assert (cat.boxes, cat.detections, cat.numbers["AP50"]) == (2, 2, pytest.approx(1.0))
    assert (cow.boxes, cow.detections, cow.numbers) == (0, 1, {"AP": None, "AP50": None})


@pytest.mark.parametrize(
    ("metric", "name", "dog"),
    [("voc07", "VOC07 11-point AP50", 6 / 11), ("voc12", "VOC area AP50 (2010+)", 1 / 2)],
)
def test_voc(metric: str, name: str, dog: float, dataset, detections) -> None:
    result = evaluate(detections, dataset, metric)
    assert result.metric == name
    assert list(result.numbers) == ["AP50", "AP", "AP75"]
    assert result.numbers["AP50"] == result.headline == pytest.approx((1 + dog) / 2)
    year = "07" if metric == "voc07" else "12"
    at = [voc_ap(detections, dataset, year=year, iou=k / 100) for k in range(50, 100, 5)]
    assert result.numbers["AP"] == pytest.approx(sum(m.ap for m in at) / 10)
    assert result.numbers["AP75"] == at[5].ap
    dog_aps = [m.per_class["dog"] for m in at]
    assert result.per_class["dog"].numbers == pytest.approx({"AP50": dog, "AP": sum(dog_aps) / 10})


def test_boxes_counted_are_those_the_metric_counts(make_dataset, detections) -> None:
    dataset = make_dataset(ROWS, 3, CLASSES, crowd=[1, 0, 0, 0], difficult=[0, 1, 0, 0])
    assert evaluate(detections, dataset, "coco").boxes == 3
    assert evaluate(detections, dataset, "voc07").boxes == 2


@pytest.mark.parametrize("metric", ["coco", "voc07", "voc12"])
def test_no_ground_truth_is_undefined_not_minus_1(metric: str, make_dataset, detections) -> None:
    result = evaluate(detections, make_dataset([], 3, CLASSES), metric)
    assert (result.headline, result.note, result.boxes) == (None, "no ground truth", 0)


@pytest.mark.parametrize("metric", ["coco", "voc07", "voc12"])
def test_permuted_classes_change_nothing(metric: str, dataset, detections) -> None:
    model = ("horse", "cow", "dog", "cat")  # another order, and one class more
    position = torch.tensor([model.index(c) for c in CLASSES])
    permuted = [Detections(d.boxes, position[d.labels], d.scores) for d in detections]
    horse = Detections(torch.tensor([[0.0, 0, 50, 50]]), torch.tensor([0]), torch.tensor([0.99]))
    permuted[1] = Detections(*(torch.cat([getattr(horse, f), getattr(permuted[1], f)]) for f in vars(horse)))
    assert evaluate(permuted, dataset, metric, classes=model) == evaluate(detections, dataset, metric)
    assert detections_to_coco(permuted, dataset, classes=model) == detections_to_coco(detections, dataset)


def test_image_order_changes_nothing(dataset, detections) -> None:
    turned = evaluate([detections[i] for i in (2, 0, 1)], dataset.subset([2, 0, 1]), "coco")
    assert turned == evaluate(detections, dataset, "coco")


def test_results_file_has_the_ids_of_the_files(dataset, detections) -> None:
    results = detections_to_coco(detections, dataset)
    assert results[1] == {"image_id": 77, "category_id": 3, "bbox": [104.0, 100.0, 116.0, 160.0], "score": 0.8}
    assert [r["image_id"] for r in results] == [77, 77, 5, 20, 20]
    assert json.loads(json.dumps(results)) == results
    numbers = coco_metrics(ground_truth_json(dataset), results).numbers
    assert numbers == pytest.approx(evaluate(detections, dataset, "coco").numbers, abs=1e-9)


def test_results_file_is_rounded(dataset) -> None:
    found = Detections(torch.tensor([[-0.001, 1 / 3, 10.126, 20.0]]), torch.tensor([0]), torch.tensor([2 / 3]))
    empty = Detections(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    (row,) = detections_to_coco([found, empty, empty], dataset)
    assert json.dumps(row["bbox"]) == "[0.0, 0.33, 10.13, 19.67]"
    assert row["score"] == 0.6667


def test_ground_truth_json_numbers_annotations_from_1_and_keeps_decimals(make_dataset) -> None:
    dataset = make_dataset([(0, 0, 258.15, 41.29, 606.41, 285.07)], 1, areas=[1234.56], crowd=[1])
    (annotation,) = ground_truth_json(dataset)["annotations"]
    assert annotation["bbox"] == pytest.approx([258.15, 41.29, 348.26, 243.78], abs=1e-9)
    assert (annotation["id"], annotation["area"], annotation["iscrowd"]) == (1, 1234.56, 1)


def test_decimals_that_float32_stands_for() -> None:
    for digits in range(4):
        values = (np.random.default_rng(digits).random(500) * 2000).round(digits)
        np.testing.assert_array_equal(decimal(values.astype(np.float32)), values)
    binary = np.float32([1 / 3, 1e-7, 1e9])
    np.testing.assert_array_equal(decimal(binary).astype(np.float32), binary)


def test_a_diverged_model_is_named(dataset, detections) -> None:
    broken = [*detections[:2], Detections(torch.full((1, 4), float("nan")), torch.tensor([0]), torch.tensor([0.5]))]
    for metric in ("coco", "voc07"):
        with pytest.raises(MixdetError, match=r"image id 20: the model predicted box \[nan"):
            evaluate(broken, dataset, metric)


def test_wrong_calls(dataset, detections) -> None:
    with pytest.raises(ValueError, match="2 images of detections for 3 images"):
        evaluate(detections[:2], dataset, "coco")
    two = replace(dataset, classes=CLASSES[:2], labels=dataset.labels % 2, category_ids=dataset.category_ids[:2])
    with pytest.raises(ValueError, match=r"labels 0\.\.2 for the 2 classes"):
        evaluate(detections, two, "coco")
    with pytest.raises(ValueError, match="'map' is not one of coco, voc07, voc12"):
        evaluate(detections, dataset, "map")


def test_match_classes() -> None:
    assert match_classes(CLASSES, CLASSES).tolist() == [0, 1, 2]
    assert match_classes(("cow", "hen", "cat", "dog"), CLASSES).tolist() == [2, -1, 0, 1]


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        (("cat", "dog"), ("cat", "dog", "cow"), "missing 'cow'; the model has no others"),
        (("cat", "hen"), ("cat", "dog", "cow"), "missing 'dog', 'cow'; the model has 'hen'"),
        (("a", "b"), ("cat", "dog"), "no class of the data set is among the model's: missing 'cat', 'dog'"),
        ([f"m{i}" for i in range(80)], [f"d{i}" for i in range(80)], "'d7' and 72 more; the model has 'm0'"),
        (("cat", "cat"), ("cat",), "the model has 'cat' more than once"),
        (("cat",), ("cat", "cat"), "the data set has 'cat' more than once"),
        (("cat",), ("cat\x1b[2J\n",), r"missing 'cat\\x1b\[2J\\n'"),
    ],
)
def test_match_classes_says_in_one_line_what_is_missing(model, data, words: str) -> None:
    with pytest.raises(MixdetError, match=words) as error:
        match_classes(model, data)
    assert "\n" not in str(error.value)


def test_all_is_complete() -> None:
    public = {
        name
        for name, value in vars(mixdet.evaluation).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public == set(mixdet.evaluation.__all__)
