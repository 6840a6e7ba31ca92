"""One call from predictions to numbers, whatever the metric; and predictions as a COCO results file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from mixdet.errors import MixdetError
from mixdet.evaluation.arrays import flat_detections
from mixdet.evaluation.coco import coco_ap
from mixdet.evaluation.voc import voc_aps
from mixdet.structures import Detections

if TYPE_CHECKING:
    from mixdet.data.dataset import DetectionDataset

MetricName = Literal["coco", "voc07", "voc12"]
Numbers = dict[str, float | None]
_Found = tuple[str, str, Numbers, dict[str, Numbers]]  # full name, note, numbers, numbers of each class


@dataclass(frozen=True)
class ClassResult:
    """One class: its numbers in [0, 1] (None: undefined), ground-truth boxes that count, and detections."""

    numbers: Numbers
    boxes: int
    detections: int


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        metric: the metric's full name.
        headline: the number of that name, in [0, 1]; None where it is undefined.
        numbers: every number under its short name (COCO: 12 of them), the headline first.
        per_class: class name -> its result, in the data set's order.
        images: images evaluated.
        boxes: ground-truth boxes that count: not crowd and, for VOC, not difficult.
        detections: detections of classes the data set has.
        note: why the headline is undefined ("no ground truth"), else empty.
    """

    metric: str
    headline: float | None
    numbers: Numbers
    per_class: dict[str, ClassResult]
    images: int
    boxes: int
    detections: int
    note: str = ""


def evaluate(
    detections: Sequence[Detections],
    dataset: DetectionDataset,
    metric: MetricName = "coco",
    *,
    classes: Sequence[str] | None = None,
) -> Evaluation:
    """Compare predictions with ground truth.

    Args:
        detections: one an image of ``dataset``, in original image pixels (the view's affine undone).
        dataset: ground truth as it was read: policies that drop boxes would change the metric.
        metric: "coco" (12 numbers), "voc07" (11 points, AP50) or "voc12" (area, AP50); boxes are
            edges, sides x2 - x1, as ``read_voc`` makes them.
        classes: names the labels of ``detections`` index, where they are not ``dataset.classes``; matched by
            name, see ``match_classes``.

    Raises:
        MixdetError: The model lacks a class of the data set, or predicted something not finite.
    """
    if metric not in get_args(MetricName):
        raise ValueError(f"metric: {metric!r} is not one of {', '.join(get_args(MetricName))}")
    if classes is not None:
        detections = relabeled(detections, match_classes(classes, dataset.classes))
    name, note, numbers, rows = _coco(detections, dataset) if metric == "coco" else _voc(detections, dataset, metric)
    counted = ~dataset.crowd if metric == "coco" else ~(dataset.crowd | dataset.difficult)
    found = np.bincount(flat_detections(detections, dataset).labels, minlength=len(dataset.classes)).tolist()
    boxes = np.bincount(dataset.labels[counted], minlength=len(dataset.classes)).tolist()
    per_class = {c: ClassResult(rows[c], boxes[k], found[k]) for k, c in enumerate(dataset.classes)}
    headline = next(iter(numbers.values()))
    return Evaluation(name, headline, numbers, per_class, len(dataset), sum(boxes), sum(found), note)


def _coco(detections: Sequence[Detections], dataset: DetectionDataset) -> _Found:
    found = coco_ap(detections, dataset)
    rows: dict[str, Numbers] = {c: {"AP": ap, "AP50": ap50} for c, (ap, ap50) in found.per_class.items()}
    return found.name, found.note, found.numbers, rows


def _voc(detections: Sequence[Detections], dataset: DetectionDataset, metric: MetricName) -> _Found:
    """AP50 is the headline; AP is its mean over IoU 0.50 to 0.95, as detectron2's VOC evaluator prints it."""
    found = voc_aps(detections, dataset, year="07" if metric == "voc07" else "12")
    rows: dict[str, Numbers] = {
        c: {"AP50": ap, "AP": _mean([f.per_class[c] for f in found.values()])} for c, ap in found[0.5].per_class.items()
    }
    numbers = {"AP50": found[0.5].ap, "AP": _mean([f.ap for f in found.values()]), "AP75": found[0.75].ap}
    return found[0.5].name, found[0.5].note, numbers, rows


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def detections_to_coco(
    detections: Sequence[Detections], dataset: DetectionDataset, *, classes: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Predictions as a COCO results list with the image and category ids of ``dataset``'s files.

    Boxes are xywh rounded to 2 digits, scores to 4; arguments as in ``evaluate``. (``evaluate`` itself rounds
    nothing, so that its AP can differ from that of this list in the fourth digit.)
    """
    if classes is not None:
        detections = relabeled(detections, match_classes(classes, dataset.classes))
    flat = flat_detections(detections, dataset)
    sides = np.concatenate([flat.boxes[:, :2], flat.boxes[:, 2:] - flat.boxes[:, :2]], axis=1)
    columns = zip(
        dataset.image_ids[flat.images].tolist(),
        dataset.category_ids[flat.labels].tolist(),
        (sides.round(2) + 0.0).tolist(),  # + 0.0: no "-0.0" in the file
        flat.scores.round(4).tolist(),
        strict=True,
    )
    return [{"image_id": i, "category_id": c, "bbox": box, "score": score} for i, c, box, score in columns]


def match_classes(model_classes: Sequence[str], dataset_classes: Sequence[str]) -> NDArray[np.int64]:
    """(K_model,) the data set's label of each of the model's classes, by name; -1 where the data set has none.

    Order may differ, and a model may know more classes than the data set.

    Raises:
        MixdetError: A class of the data set is unknown to the model, or a name is used twice.
    """
    for whose, names in (("model", model_classes), ("data set", dataset_classes)):
        if twice := sorted({n for n in names if list(names).count(n) > 1}):
            raise MixdetError(f"classes: the {whose} has {_listed(twice)} more than once: names must be unique")
    missing = [name for name in dataset_classes if name not in model_classes]
    if missing:
        extra = [name for name in model_classes if name not in dataset_classes]
        none = len(missing) == len(dataset_classes)
        raise MixdetError(
            f"classes: {'no class of the data set is' if none else 'the data set has classes that are not'} among the "
            f"model's: missing {_listed(missing)}; the model has {_listed(extra) if extra else 'no others'}: rename "
            f"the classes of the data set, leave these out of it, or train a model that knows them"
        )
    position = {name: k for k, name in enumerate(dataset_classes)}
    return np.array([position.get(name, -1) for name in model_classes], dtype=np.int64)


def relabeled(detections: Sequence[Detections], mapping: NDArray[np.int64]) -> list[Detections]:
    """``detections`` with label k turned into ``mapping[k]``; those at -1 are left out."""
    table = torch.from_numpy(mapping)
    turned = (Detections(d.boxes, table.to(d.labels.device)[d.labels], d.scores) for d in detections)
    return [d.select(d.labels >= 0) for d in turned]


def _listed(names: Sequence[str], limit: int = 8) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
