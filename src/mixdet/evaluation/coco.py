"""COCO AP: a thin adapter to faster-coco-eval, which computes what pycocotools does.

What it adds is what the evaluators keep silent about: annotation ids are renumbered from 1 (with id 0 a matched box
counts as unmatched), results for unknown images or categories and numbers that are not finite are errors, and a
number nothing supports is None (``pycocotools`` prints -1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from mixdet.errors import MixdetError
from mixdet.evaluation.arrays import decimal, flat_detections
from mixdet.structures import Detections

if TYPE_CHECKING:
    from mixdet.data.dataset import DetectionDataset

COCO_AP = "COCO AP @[IoU=0.50:0.95 | area=all | maxDets=100]"
NO_GROUND_TRUTH = "no ground truth"
NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
_RESULT_KEYS = ("image_id", "category_id", "bbox")  # area and iscrowd of a result never count


@dataclass(frozen=True)
class CocoMetrics:
    """The 12 numbers of COCO, in [0, 1]; None where no ground truth is in the number's range.

    Attributes:
        per_class: class name -> (AP, AP50); None for a class without boxes.
        ap: AP averaged over IoU 0.50:0.05:0.95, ``ap50`` and ``ap75`` at one IoU, ``ap_small`` (area < 32^2),
            ``ap_medium`` and ``ap_large`` (> 96^2) by the area the annotation file states.
        ar1: average recall with 1 detection an image and class, ``ar10`` and ``ar100`` with 10 and 100; the other
            three by area.
        name: the metric's full name.
        note: "no ground truth" where AP itself is undefined, else empty.
    """

    per_class: dict[str, tuple[float | None, float | None]]
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    name: str = field(default=COCO_AP, init=False)

    @property
    def note(self) -> str:
        return NO_GROUND_TRUTH if self.ap is None else ""

    @property
    def numbers(self) -> dict[str, float | None]:
        """The 12 numbers under their short names: AP, AP50 ... ARl."""
        values = (self.ap, self.ap50, self.ap75, self.ap_small, self.ap_medium, self.ap_large)
        recalls = (self.ar1, self.ar10, self.ar100, self.ar_small, self.ar_medium, self.ar_large)
        return dict(zip(NUMBERS, values + recalls, strict=True))


def coco_ap(detections: Sequence[Detections], dataset: DetectionDataset) -> CocoMetrics:
    """COCO AP of predictions in original image pixels, one ``Detections`` an image of ``dataset``.

    Crowd boxes are regions where detections are not counted; ``difficult`` has no meaning in this metric.
    Labels index ``dataset.classes``. Nothing is rounded but what float32 added to decimals.
    """
    flat = flat_detections(detections, dataset)
    results = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in zip(
            dataset.image_ids[flat.images].tolist(),
            dataset.category_ids[flat.labels].tolist(),
            _xywh(flat.boxes),
            flat.scores.tolist(),
            strict=True,
        )
    ]
    return coco_metrics(ground_truth_json(dataset), results)


def ground_truth_json(dataset: DetectionDataset) -> dict[str, Any]:
    """The boxes of ``dataset`` as COCO JSON, with its original image and category ids; annotation ids from 1."""
    images = [
        {"id": int(image), "width": int(width), "height": int(height)}
        for image, (height, width) in zip(dataset.image_ids, dataset.sizes, strict=True)
    ]
    categories = [{"id": int(i), "name": name} for i, name in zip(dataset.category_ids, dataset.classes, strict=True)]
    columns = zip(
        dataset.image_ids[dataset.image_index].tolist(),
        dataset.category_ids[dataset.labels].tolist(),
        _xywh(decimal(dataset.boxes)),
        decimal(dataset.areas).tolist(),
        dataset.crowd.tolist(),
        strict=True,
    )
    annotations = [
        {"id": i, "image_id": image, "category_id": category, "bbox": box, "area": area, "iscrowd": int(crowd)}
        for i, (image, category, box, area, crowd) in enumerate(columns, start=1)
    ]
    return {"images": images, "categories": categories, "annotations": annotations}


def coco_metrics(gt_json: Mapping[str, Any], dt_list: Sequence[Mapping[str, Any]]) -> CocoMetrics:
    """COCO AP of a results list against a ground truth, both as loaded from JSON; neither is changed.

    Annotation ids in the file are not read, a missing ``iscrowd`` is 0, a missing ``area`` that of the box; the
    ``ignore`` key counts for nothing, as in pycocotools.

    Raises:
        MixdetError: A category name twice, or a result with an unknown image or category, a box or a score that
            is not finite.
    """
    categories = sorted(gt_json["categories"], key=lambda c: int(c["id"]))
    names = [str(c.get("name", c["id"])) for c in categories]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise MixdetError(f"ground truth: category name {twice[0]!r} is used twice: give each category its own")
    annotations = [_annotation(i, a) for i, a in enumerate(gt_json["annotations"], start=1)]
    if not annotations:
        return CocoMetrics(dict.fromkeys(names, (None, None)), *[None] * len(NUMBERS))
    _check_results(dt_list, {i["id"] for i in gt_json["images"]}, {c["id"] for c in categories})
    results = [
        {**_annotation(i, {key: d[key] for key in _RESULT_KEYS}), "score": float(d["score"])}
        for i, d in enumerate(dt_list, start=1)
    ]
    return _evaluate(list(gt_json["images"]), categories, names, annotations, results)


def _evaluate(
    images: list[Any], categories: list[Any], names: list[str], annotations: list[Any], results: list[Any]
) -> CocoMetrics:
    sides = (COCO({"images": images, "categories": categories, "annotations": a}) for a in (annotations, results))
    run = COCOeval_faster(*sides, iouType="bbox", print_function=_silent)
    run.run()
    stats = [_defined(np.asarray([value])) for value in run.stats]
    precision = run.eval["precision"]  # (T IoUs, R recalls, K classes, A areas, M limits)
    per_class = {
        name: (_defined(precision[:, :, k, 0, -1]), _defined(precision[0, :, k, 0, -1])) for k, name in enumerate(names)
    }
    return CocoMetrics(per_class, *stats)


def _annotation(identifier: int, source: Mapping[str, Any]) -> dict[str, Any]:
    box = [float(value) for value in source["bbox"]]
    return {
        "id": identifier,
        "image_id": source["image_id"],
        "category_id": source["category_id"],
        "bbox": box,
        "area": float(source.get("area", box[2] * box[3])),
        "iscrowd": int(source.get("iscrowd", 0)),
    }


def _check_results(results: Sequence[Mapping[str, Any]], images: set[Any], categories: set[Any]) -> None:
    """Everything pycocotools would drop, or count wrongly, in silence."""
    for i, result in enumerate(results):
        for key, known in (("image_id", images), ("category_id", categories)):
            if result[key] not in known:
                raise MixdetError(f"results[{i}].{key}: {result[key]!r} is not in the ground truth")
    numbers = np.array([[*r["bbox"], r["score"]] for r in results], dtype=np.float64).reshape(-1, 5)
    if len(bad := np.flatnonzero(~np.isfinite(numbers).all(axis=1))):
        raise MixdetError(f"results[{bad[0]}]: box or score is not finite: {numbers[bad[0]].tolist()}")


def _xywh(boxes: np.ndarray[Any, np.dtype[np.float64]]) -> list[list[float]]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()  # type: ignore[no-any-return]


def _defined(values: np.ndarray[Any, Any]) -> float | None:
    """The mean of what is not the library's -1."""
    values = values[values > -1]
    return float(values.mean()) if values.size else None


def _silent(*_: object) -> None:
    """Takes the place of the library's print."""
