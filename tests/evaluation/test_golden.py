"""Predictions with published AP, kept beside the repository where someone has put them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mixdet.evaluation import coco_ap, coco_metrics, evaluate, voc_ap
from mixdet.structures import Detections

GOLDEN = Path(__file__).parents[3] / "shared" / "data" / "golden_eval"
COCO_CASES = (
    "coco_val2014_100",
    "padilla_coco_100",
    "ignore_flag_1img",
    "tiny_3img",
    "voc2012_100_real_dets",
    "synthetic_coco665_val",
    "synthetic_bccd_test_ties",
    "synthetic_bccd_test_over100dets",
)
VOC_IOUS = ("0.1", "0.3", "0.5", "0.75")


def load(case: str, name: str) -> Any:
    path = GOLDEN / case / f"{name}.json"
    if not path.exists():
        pytest.skip(f"no golden case {case}")
    return json.loads(path.read_text())


def signed(value: float | None) -> float:
    return -1.0 if value is None else value


@pytest.mark.parametrize("case", COCO_CASES)
def test_coco_numbers(case: str) -> None:
    gt, results, expected = load(case, "gt"), load(case, "dt"), load(case, "expected")
    metrics = coco_metrics(gt, results)
    numbers = {name: signed(value) for name, value in metrics.numbers.items()}
    assert numbers == pytest.approx(expected["recomputed"]["stats"], abs=1e-9)
    names = {str(c["id"]): c["name"] for c in gt["categories"]}
    for category, pair in expected["recomputed"]["per_category_AP_AP50"].items():
        assert [signed(v) for v in metrics.per_class[names[category]]] == pytest.approx(pair, abs=1e-9)
    for name, value in (expected["published"] or {}).items():
        assert numbers[name] == pytest.approx(value, abs=expected["published_tolerance"])


@pytest.mark.parametrize("case", COCO_CASES)
def test_coco_numbers_from_arrays(case: str, dataset_from_json, detections_from_json) -> None:
    """The way of a run: packed arrays and tensors, all float32, and still the number of the files."""
    gt, results = load(case, "gt"), load(case, "dt")
    metrics = coco_ap(detections_from_json(gt, results), dataset_from_json(gt))
    exact = coco_metrics(gt, results)
    assert metrics.numbers == pytest.approx(exact.numbers, abs=1e-9)
    assert metrics.per_class.keys() == exact.per_class.keys()


def voc_case(make_dataset, make_detections) -> tuple[list[Detections], Any, Any]:
    boxes, expected = load("voc_ap_7img", "boxes"), load("voc_ap_7img", "expected")
    names = sorted(boxes["gt"])
    rows = [(names.index(n), 0, x, y, x + w, y + h) for n in names for x, y, w, h in boxes["gt"][n]]
    found = [(names.index(n), 0, s, x, y, x + w, y + h) for n in names for s, x, y, w, h in boxes["dt"][n]]
    return make_detections(found, len(names)), make_dataset(rows, len(names)), expected


@pytest.mark.parametrize("iou", VOC_IOUS)
def test_voc_area(iou: str, make_dataset, make_detections) -> None:
    detections, dataset, expected = voc_case(make_dataset, make_detections)
    metrics = voc_ap(detections, dataset, year="12", iou=float(iou), inclusive_pixels=True)
    assert metrics.ap == pytest.approx(expected["every_point"][iou], abs=1e-9)


@pytest.mark.parametrize("iou", VOC_IOUS)
def test_voc_eleven_points(iou: str, make_dataset, make_detections) -> None:
    detections, dataset, expected = voc_case(make_dataset, make_detections)
    published = expected["eleven_point"][iou]
    if iou == "0.1":  # published with a point lost to rounding: 9/15 >= linspace(0, 1, 11)[6] is False
        published = 0.368906
    assert voc_ap(detections, dataset, year="07", iou=float(iou), inclusive_pixels=True).ap == pytest.approx(
        published, abs=1e-6
    )


@pytest.mark.parametrize("metric", ["voc07", "voc12"])
def test_difficult_boxes_of_voc2012_only_help(metric, dataset_from_json, detections_from_json) -> None:
    gt, results = load("voc2012_100_real_dets", "gt"), load("voc2012_100_real_dets", "dt")
    without_flag = {**gt, "annotations": [{**a, "difficult": 0} for a in gt["annotations"]]}
    detections = detections_from_json(gt, results)
    ignoring = evaluate(detections, dataset_from_json(gt), metric)
    keeping = evaluate(detections, dataset_from_json(without_flag), metric)
    assert keeping.boxes - ignoring.boxes == sum(a["difficult"] for a in gt["annotations"]) > 0
    assert ignoring.headline > keeping.headline > 0.5
