"""Several detectors as one: what they find is fused.

Solovyev et al., "Weighted boxes fusion: Ensembling boxes from different object detection models", Image and Vision
Computing 2021; with the authors' default confidence (``conf_type='avg'``). Deviation: a cluster with several boxes of
one heavy detector may score above 1 there; scores end at 1 here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mixdet.structures import Batch, Detections, Detector, Features, Losses, as_module

IOU = 0.6
SKIP = 1e-4


class Ensemble(nn.Module):
    """Trained detectors of the same classes and padding; a ``Detector`` that predicts and does not train.

    Tensors are named after the member's position: "0.backbone...", "1.backbone...".

    Args:
        members: the detectors, at least one.
        weights: how much each one's scores count.
        iou: boxes of one class that overlap by more are one object.
        skip: detections with a lower score are left out.
    """

    def __init__(
        self, members: Sequence[Detector], weights: Sequence[float], iou: float = IOU, skip: float = SKIP
    ) -> None:
        super().__init__()
        if not members or len(members) != len(weights):
            raise ValueError(f"Ensemble: {len(members)} detectors and {len(weights)} weights; give one weight to each")
        if min(weights) <= 0:
            raise ValueError(f"Ensemble: weights {list(weights)} are not all above 0")
        first = members[0]
        for other in members[1:]:
            if other.num_classes != first.num_classes:
                raise ValueError(f"Ensemble: detectors of {first.num_classes} and of {other.num_classes} classes")
            if not torch.equal(other.pad_colour, first.pad_colour):
                raise ValueError("Ensemble: the detectors pad images with different colours")
        for position, member in enumerate(members):
            self.add_module(str(position), as_module(member))
        self.num_classes = first.num_classes
        self.stride = lcm(*(member.stride for member in members))
        self.weights = tuple(weights)
        self.iou = iou
        self.skip = skip

    @property
    def members(self) -> tuple[Detector, ...]:
        """The detectors, in order."""
        return tuple(cast(Detector, module) for module in self.children())

    @property
    def pad_colour(self) -> Tensor:
        """(3,) that of every member."""
        return self.members[0].pad_colour

    def features(self, images: Tensor) -> Features:
        """Those of every member, named "0.p2", ..., "1.p2", ..."""
        every = [member.features(images) for member in self.members]
        return {f"{n}.{name}": level for n, levels in enumerate(every) for name, level in levels.items()}

    def losses(self, features: Features, batch: Batch) -> Losses:
        """An ensemble has none.

        Raises:
            TypeError: always.
        """
        raise TypeError("an Ensemble has no losses: train its members, each on its own")

    def predict(self, features: Features, batch: Batch) -> list[Detections]:
        """The fused detections of all members."""
        every = []
        for n, member in enumerate(self.members):
            own = {name.removeprefix(f"{n}."): v for name, v in features.items() if name.startswith(f"{n}.")}
            every.append(member.predict(own, batch))
        return [weighted_box_fusion(found, self.weights, self.iou, self.skip) for found in zip(*every, strict=True)]


def weighted_box_fusion(
    found: Sequence[Detections], weights: Sequence[float], iou: float = IOU, skip: float = SKIP
) -> Detections:
    """What M detectors found in one image, boxes of one object fused into one.

    1. confidence <- score times the detector's weight; the surest box of all first
    2. a box joins the cluster of its class whose fused box it overlaps most, if by more than ``iou``, or begins one
    3. fused box <- mean of the cluster's boxes, weighted by confidence
    4. score <- mean confidence of the cluster's T boxes, times min(M, T) / sum of the weights

    Args:
        found: by each detector.
        weights: of each detector, above 0.
        iou: as above.
        skip: detections with a lower score are left out.

    Returns:
        Best score first; equal ones in the order in which their clusters began.
    """
    boxes, labels, scores = (
        torch.cat([getattr(d, key) for d in found]).cpu().numpy() for key in ("boxes", "labels", "scores")
    )
    confidences = scores.astype(np.float64) * np.repeat(weights, [len(d) for d in found])
    order = np.argsort(-confidences, kind="stable")
    order = order[(scores[order] >= skip) & (scores[order] > 0)]
    fused, label, total, count = _clusters(boxes[order].astype(np.float64), labels[order], confidences[order], iou)
    score = total / count * np.minimum(len(found), count) / sum(weights)
    best = np.argsort(-score, kind="stable")
    device, like = found[0].boxes.device, found[0]
    return Detections(
        torch.from_numpy(fused[best]).to(device, like.boxes.dtype),
        torch.from_numpy(label[best]).to(device, like.labels.dtype),
        torch.from_numpy(score[best].clip(max=1.0)).to(device, like.scores.dtype),
    )


def _clusters(
    boxes: NDArray[np.float64], labels: NDArray[np.int64], confidences: NDArray[np.float64], iou: float
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Fused box, class, sum of confidences and number of boxes of each cluster; inputs are (N, ...), surest first."""
    sums, fused = np.zeros_like(boxes), np.zeros_like(boxes)  # of confidence times box; those over confidence
    label, total = np.full(len(boxes), -1), np.zeros(len(boxes))
    count = np.zeros(len(boxes), dtype=np.int64)
    known = 0
    for box, of_class, confidence in zip(boxes, labels, confidences, strict=True):
        overlap = np.where(label[:known] == of_class, _iou(box, fused[:known]), 0.0)
        at = int(overlap.argmax()) if known else 0
        if known == 0 or overlap[at] <= iou:
            at, known = known, known + 1
        label[at], count[at] = of_class, count[at] + 1
        total[at] += confidence
        sums[at] += confidence * box
        fused[at] = sums[at] / total[at]
    return fused[:known], label[:known], total[:known], count[:known]


def _iou(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """(C,) IoU of one box with (C, 4) boxes."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    inter = sides.clip(min=0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    overlaps: NDArray[np.float64] = inter / np.maximum(areas - inter, np.finfo(np.float64).tiny)
    return overlaps
