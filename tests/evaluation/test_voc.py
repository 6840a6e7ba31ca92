"""VOC AP on cases done by hand, and against the development kit written out in fractions."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest

from mixdet.evaluation import evaluate, voc_ap
from mixdet.evaluation.voc import area_ap, eleven_point_ap
from oracles.ap import area, eleven_points, voc_curve

A, B = (10, 10, 49, 49), (200, 200, 259, 259)
FAR = (400, 400, 420, 420)


def aps(detections, dataset, inclusive_pixels=True, **options) -> tuple[float | None, float | None]:
    options["inclusive_pixels"] = inclusive_pixels
    return tuple(voc_ap(detections, dataset, year=year, **options).ap for year in ("07", "12"))


def test_perfect_predictions_are_1(make_dataset, make_detections) -> None:
    dataset = make_dataset([(0, 0, *A), (0, 0, *B)], 1)
    assert aps(make_detections([(0, 0, 0.9, *A), (0, 0, 0.8, *B)], 1), dataset) == (1.0, 1.0)


def test_a_second_detection_of_one_box_is_false(make_dataset, make_detections) -> None:
    dataset = make_dataset([(0, 0, *A), (0, 0, *B)], 1)
    found = make_detections([(0, 0, 0.9, *A), (0, 0, 0.8, *A), (0, 0, 0.7, *B)], 1)
    # precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1: 6 points see 1, 5 points 2/3; area 1/2 + 1/2 * 2/3
    assert aps(found, dataset) == pytest.approx(((6 + 5 * 2 / 3) / 11, 5 / 6), abs=1e-12)


def test_a_detection_of_a_taken_box_does_not_go_to_the_next_best(make_dataset, make_detections) -> None:
    near = (14, 10, 53, 49)  # overlaps A well beyond 0.5
    dataset = make_dataset([(0, 0, *A), (0, 0, *near)], 1)
    found = make_detections([(0, 0, 0.9, *A), (0, 0, 0.8, *A)], 1)
    assert aps(found, dataset) == pytest.approx((6 / 11, 1 / 2), abs=1e-12)  # COCO matching would say 1


def test_difficult_boxes_are_neither_wanted_nor_punished(make_dataset, make_detections) -> None:
    dataset = make_dataset([(0, 0, *A), (0, 0, *B)], 1, difficult=[False, True])
    on_difficult = [(0, 0, 0.9, *B), (0, 0, 0.85, *B)]  # twice: still ignored
    found = make_detections([*on_difficult, (0, 0, 0.8, *A)], 1)
    assert aps(found, dataset) == (1.0, 1.0)
    metrics = voc_ap(found, dataset)
    assert metrics.positives == {"thing": 1}


def test_difficult_is_ignored_by_iou_and_not_by_the_share_of_the_detection(make_dataset, make_detections) -> None:
    inside = (210, 210, 220, 220)  # lies in the difficult box, IoU 0.03: false, where COCO's crowd rule ignores it
    dataset = make_dataset([(0, 0, *A), (0, 0, *B)], 1, difficult=[False, True])
    found = make_detections([(0, 0, 0.9, *inside), (0, 0, 0.8, *A)], 1)
    assert aps(found, dataset) == pytest.approx((1 / 2, 1 / 2), abs=1e-12)


def test_crowd_counts_as_difficult(make_dataset, make_detections) -> None:
    rows, found = [(0, 0, *A), (0, 0, *B)], make_detections([(0, 0, 0.9, *B), (0, 0, 0.8, *A)], 1)
    assert aps(found, make_dataset(rows, 1, crowd=[False, True])) == (1.0, 1.0)


def test_inclusive_pixels(make_dataset, make_detections) -> None:
    dataset = make_dataset([(0, 0, 0, 0, 9, 9)], 1)
    found = make_detections([(0, 0, 0.9, 0, 0, 9, 4)], 1)  # 10 x 5 of 10 x 10 pixels; 9 x 4 of 9 x 9 as edges
    assert aps(found, dataset) == (1.0, 1.0)  # exactly the threshold is enough
    assert aps(found, dataset, inclusive_pixels=False) == (0.0, 0.0)


def test_edges_are_corners_with_1_taken_from_the_first(make_dataset, make_detections) -> None:
    corners, found = (5, 5, 14, 14), (5, 5, 14, 9)  # as in a file: 10 x 10 and 10 x 5 pixels, IoU exactly 1/2
    edges, found_edges = ((x1 - 1, y1 - 1, x2, y2) for x1, y1, x2, y2 in (corners, found))
    dataset, shifted = make_dataset([(0, 0, *corners)], 1), make_dataset([(0, 0, *edges)], 1)
    assert aps(make_detections([(0, 0, 0.9, *found)], 1), dataset) == (1.0, 1.0)
    assert aps(make_detections([(0, 0, 0.9, *found_edges)], 1), shifted, inclusive_pixels=False) == (1.0, 1.0)
    assert evaluate(make_detections([(0, 0, 0.9, *found_edges)], 1), shifted, "voc07").headline == 1.0
    narrower = (found_edges[0], found_edges[1], found_edges[2] - 0.1, found_edges[3])
    assert evaluate(make_detections([(0, 0, 0.9, *narrower)], 1), shifted, "voc07").headline == 0.0


def test_boxes_that_touch_by_one_pixel_overlap(make_dataset, make_detections) -> None:
    dataset = make_dataset([(0, 0, 0, 0, 1, 0)], 1)  # 2 x 1 pixels
    found = make_detections([(0, 0, 0.9, 1, 0, 2, 0)], 1)  # shares one of three
    assert aps(found, dataset, iou=0.33) == (1.0, 1.0)
    assert aps(found, dataset, iou=0.33, inclusive_pixels=False) == (0.0, 0.0)


def test_equal_scores_rank_in_the_order_given(make_dataset, make_detections) -> None:
    dataset = make_dataset([(0, 0, *A), (1, 0, *A)], 2)
    good_first = make_detections([(0, 0, 0.5, *A), (1, 0, 0.5, *FAR)], 2)
    bad_first = make_detections([(0, 0, 0.5, *FAR), (1, 0, 0.5, *A)], 2)
    assert aps(good_first, dataset)[1] == pytest.approx(1 / 2)
    assert aps(bad_first, dataset)[1] == pytest.approx(1 / 4)


def test_the_mean_leaves_out_classes_without_positives(make_dataset, make_detections) -> None:
    rows = [(0, 0, *A), (0, 1, *B)]
    dataset = make_dataset(rows, 1, ("cat", "dog", "cow"), difficult=[False, True])
    metrics = voc_ap(make_detections([(0, 0, 0.9, *A), (0, 2, 0.9, *A)], 1), dataset)
    assert metrics.per_class == {"cat": 1.0, "dog": None, "cow": None}
    assert metrics.ap == 1.0


def test_a_class_without_detections_is_0_and_nothing_to_find_is_undefined(make_dataset, make_detections) -> None:
    assert aps(make_detections([], 1), make_dataset([(0, 0, *A)], 1)) == (0.0, 0.0)
    metrics = voc_ap(make_detections([(0, 0, 0.9, *A)], 1), make_dataset([], 1))
    assert (metrics.ap, metrics.note, metrics.per_class) == (None, "no ground truth", {"thing": None})


def test_nine_of_fifteen_reaches_recall_six_tenths() -> None:
    true = np.array([True] * 9)
    assert np.linspace(0, 1, 11)[6] > 9 / 15  # why floats would miss the point
    assert eleven_point_ap(true, 15) == pytest.approx(7 / 11, abs=1e-15)


def test_averages_on_a_curve_done_by_hand() -> None:
    true = np.array([True, False, True, False, True])  # precision 1, 1/2, 2/3, 1/2, 3/5; 5 positives
    assert area_ap(true, 5) == pytest.approx((1 + 2 / 3 + 3 / 5) / 5, abs=1e-15)
    assert eleven_point_ap(true, 5) == pytest.approx((3 * 1 + 2 * 2 / 3 + 2 * 3 / 5) / 11, abs=1e-15)


def test_names_state_the_metric(make_dataset, make_detections) -> None:
    dataset, found = make_dataset([(0, 0, *A)], 1), make_detections([], 1)
    assert voc_ap(found, dataset).name == "VOC07 11-point AP50"
    assert voc_ap(found, dataset, year="12").name == "VOC area AP50 (2010+)"
    assert voc_ap(found, dataset, year="12", iou=0.75).name == "VOC area AP75 (2010+)"


@pytest.mark.parametrize("seed", range(40))
def test_equals_the_development_kit_in_fractions(seed: int, make_dataset, make_detections) -> None:
    rng = random.Random(seed)
    images, classes = 4, 3
    rows, skip, found = [], [], []
    for image in range(images):
        for _ in range(rng.randrange(7)):
            x, y, w, h = rng.randrange(40), rng.randrange(40), rng.randrange(4, 30), rng.randrange(4, 30)
            rows.append((image, rng.randrange(classes), x, y, x + w, y + h))
            skip.append(rng.random() < 0.25)
            for _ in range(rng.randrange(4)):
                x1, y1 = x + rng.randrange(-3, 4), y + rng.randrange(-3, 4)
                label = rows[-1][1] if rng.random() < 0.8 else rng.randrange(classes)
                score = rng.randrange(1, 8) / 8  # many ties
                found.append((image, label, score, x1, y1, x1 + w + rng.randrange(4), y1 + h + rng.randrange(4)))
    found.sort(key=lambda r: (r[0], -r[2]))
    dataset = make_dataset(rows, images, ("a", "b", "c"), difficult=skip)
    inclusive, iou = seed % 2 == 0, (Fraction(1, 2), Fraction(3, 4))[seed % 3 == 0]
    for year, average in (("07", eleven_points), ("12", area)):
        metrics = voc_ap(make_detections(found, images), dataset, year=year, iou=float(iou), inclusive_pixels=inclusive)
        for label, name in enumerate(("a", "b", "c")):
            truth = {i: [(r[2:], s) for r, s in zip(rows, skip, strict=True) if r[:2] == (i, label)] for i in range(4)}
            mine = [(r[0], r[2], r[3:]) for r in found if r[1] == label]
            curve, positives = voc_curve(truth, mine, iou, inclusive)
            expected = float(average(curve)) if positives else None
            assert metrics.per_class[name] == pytest.approx(expected, abs=1e-12)
