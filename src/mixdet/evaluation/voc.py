"""PASCAL VOC AP: 11-point (VOC 2007) and area under the curve (2010 and later).

As the VOC development kit computes it, which is not COCO AP with other thresholds:

- a detection belongs to the box it overlaps most, and is false where that box is taken, even if a free one is near;
- ``difficult`` boxes are ignored by IoU: a detection that belongs to one is neither true nor false, and they do not
  count as positives (COCO divides by the detection's own area there). Crowd boxes are treated the same way;
- the corners in VOC files name pixels, so box sides are xmax - xmin + 1. The boxes of a ``DetectionDataset`` and of
  detections are edges already (the reader takes 1 from xmin and ymin), which is the same side as x2 - x1;
  ``inclusive_pixels`` is for boxes that are still as written in the files.

Eleven-point recalls are compared as integers (10 * tp >= t * positives). In floats 9/15 falls short of
linspace(0, 1, 11)[6] = 0.6000000000000001, so evaluators with linspace or arange can miss a point and print less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mixdet.evaluation.arrays import decimal, flat_detections
from mixdet.structures import Detections

if TYPE_CHECKING:
    from mixdet.data.dataset import DetectionDataset

Boxes = NDArray[np.float64]
Positions = NDArray[np.int64]
Flags = NDArray[np.bool_]

IOUS = tuple(k / 100 for k in range(50, 100, 5))
"""0.50 to 0.95: what detectron2's VOC evaluator, and so LossMix's tables, average AP over."""


@dataclass(frozen=True)
class VocMetrics:
    """VOC AP in [0, 1].

    Attributes:
        name: the metric's full name, "VOC07 11-point AP50" or "VOC area AP50 (2010+)".
        ap: mean over the classes that have a positive; None where none has.
        per_class: class name -> AP; None for a class without positives.
        positives: class name -> boxes that count (neither difficult nor crowd).
    """

    name: str
    ap: float | None
    per_class: dict[str, float | None]
    positives: dict[str, int]

    @property
    def note(self) -> str:
        return "no ground truth" if self.ap is None else ""


def voc_ap(
    detections: Sequence[Detections],
    dataset: DetectionDataset,
    *,
    year: Literal["07", "12"] = "07",
    iou: float = 0.5,
    inclusive_pixels: bool = False,
) -> VocMetrics:
    """VOC AP of predictions in original image pixels, one ``Detections`` an image of ``dataset``.

    Args:
        detections: labels index ``dataset.classes``; equal scores rank in the order given.
        dataset: ground truth.
        year: "07" for 11 points, "12" for the area.
        iou: a detection needs at least this overlap.
        inclusive_pixels: whether x2 and y2 name the last pixel inside instead of the edge after it.
    """
    return voc_aps(detections, dataset, year=year, ious=(iou,), inclusive_pixels=inclusive_pixels)[iou]


def voc_aps(
    detections: Sequence[Detections],
    dataset: DetectionDataset,
    *,
    year: Literal["07", "12"] = "07",
    ious: Sequence[float] = IOUS,
    inclusive_pixels: bool = False,
) -> dict[float, VocMetrics]:
    """``voc_ap`` at several overlaps: detections are assigned to boxes once."""
    flat, extra = flat_detections(detections, dataset), float(inclusive_pixels)
    boxes, owners, skip = decimal(dataset.boxes), dataset.image_index, dataset.difficult | dataset.crowd
    average = eleven_point_ap if year == "07" else area_ap
    per_class: dict[float, dict[str, float | None]] = {iou: {} for iou in ious}
    positives: dict[str, int] = {}
    for label, name in enumerate(dataset.classes):
        d, g = flat.labels == label, dataset.labels == label
        positives[name] = int((~skip[g]).sum())
        best, overlap = _best_boxes(flat.boxes[d], flat.images[d], boxes[g], owners[g], extra)
        for iou, rows in per_class.items():
            true = _true_positives(flat.scores[d], best, overlap >= iou, skip[g])
            rows[name] = average(true, positives[name]) if positives[name] else None
    return {iou: _mean(year, iou, rows, positives) for iou, rows in per_class.items()}


def _mean(year: str, iou: float, per_class: dict[str, float | None], positives: dict[str, int]) -> VocMetrics:
    defined = [ap for ap in per_class.values() if ap is not None]
    percent = f"{100 * iou:g}"
    metric = f"VOC07 11-point AP{percent}" if year == "07" else f"VOC area AP{percent} (2010+)"
    return VocMetrics(metric, float(np.mean(defined)) if defined else None, per_class, positives)


def eleven_point_ap(true: Flags, positives: int) -> float:
    """Mean over recalls 0, 0.1 ... 1 of the best precision at that recall or more.

    Args:
        true: (D,) whether each counted detection is a true positive, best score first.
        positives: ground-truth boxes.
    """
    hits = np.cumsum(true)
    precision = hits / np.arange(1, len(true) + 1)
    return sum(float(precision[10 * hits >= t * positives].max(initial=0.0)) for t in range(11)) / 11


def area_ap(true: Flags, positives: int) -> float:
    """Area under precision made non-increasing in recall; arguments as in ``eleven_point_ap``."""
    precision = np.cumsum(true) / np.arange(1, len(true) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[true].sum()) / positives


def _best_boxes(
    boxes: Boxes, images: Positions, gt_boxes: Boxes, gt_images: Positions, extra: float
) -> tuple[Positions, Boxes]:
    """For each detection the box of its image it overlaps most (the first of equals, 0 if none) and that IoU."""
    best, overlap = np.zeros(len(boxes), np.int64), np.full(len(boxes), -1.0)
    for image in np.unique(gt_images):
        d = slice(*np.searchsorted(images, [image, image + 1]))
        g = slice(*np.searchsorted(gt_images, [image, image + 1]))
        ious = _iou(boxes[d, None], gt_boxes[None, g], extra)  # (d, g)
        best[d], overlap[d] = g.start + ious.argmax(axis=1), ious.max(axis=1)
    return best, overlap


def _true_positives(scores: NDArray[np.float64], best: Positions, hit: Flags, skip: Flags) -> Flags:
    """Whether each detection that counts is true, best score first; those on boxes to skip are left out."""
    order = np.argsort(-scores, kind="stable")
    best, hit = best[order], hit[order]
    counted = ~(hit & skip[best]) if len(skip) else np.ones(len(order), np.bool_)
    best, hit = best[counted], hit[counted]
    true = np.zeros(len(hit), np.bool_)
    _, first = np.unique(best[hit], return_index=True)  # the best-scored claim on each box
    true[np.flatnonzero(hit)[first]] = True
    return true


def _iou(a: Boxes, b: Boxes, extra: float) -> Boxes:
    """IoU of xyxy boxes (broadcast), sides counted as x2 - x1 + ``extra``."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + extra
    inner = sides.clip(min=0).prod(axis=-1)
    outer = (a[..., 2:] - a[..., :2] + extra).prod(axis=-1) + (b[..., 2:] - b[..., :2] + extra).prod(axis=-1) - inner
    return np.asarray(inner / np.maximum(outer, np.finfo(np.float64).tiny))
