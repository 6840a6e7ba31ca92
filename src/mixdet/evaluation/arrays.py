"""Predictions of a whole data set as flat arrays, checked once for every metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from mixdet.errors import MixdetError
from mixdet.structures import Detections

if TYPE_CHECKING:
    from mixdet.data.dataset import DetectionDataset


@dataclass(frozen=True, eq=False)
class FlatDetections:
    """D detections of all images, images in order and the order within an image kept.

    Attributes:
        images: (D,) int64 position of the image in the data set.
        labels: (D,) int64.
        scores: (D,) float64.
        boxes: (D, 4) float64 xyxy, original pixels, as ``decimal`` reads them.
    """

    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]


def flat_detections(detections: Sequence[Detections], dataset: DetectionDataset) -> FlatDetections:
    """Join ``detections``, one an image of ``dataset``.

    Raises:
        ValueError: Another number of images, or a label that is not a class of ``dataset``.
        MixdetError: A box or score that is not finite: the model has diverged.
    """
    if len(detections) != len(dataset):
        raise ValueError(f"{len(detections)} images of detections for {len(dataset)} images of {dataset.name}")
    if not detections:
        return FlatDetections(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 4)))
    images = np.repeat(np.arange(len(detections)), [len(d) for d in detections])
    labels = torch.cat([d.labels for d in detections]).cpu().numpy().astype(np.int64)
    scores = torch.cat([d.scores for d in detections]).detach().double().cpu().numpy()
    boxes = decimal(torch.cat([d.boxes for d in detections]).detach().float().cpu().numpy())
    known = len(dataset.classes)
    if len(labels) and (labels.min() < 0 or labels.max() >= known):
        raise ValueError(f"labels {labels.min()}..{labels.max()} for the {known} classes of {dataset.name}")
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    if not finite.all():
        first = int(np.flatnonzero(~finite)[0])
        raise MixdetError(
            f"{dataset.name}, image id {dataset.image_ids[images[first]]}: the model predicted box "
            f"{boxes[first].tolist()} with score {scores[first]}: it has diverged, take an earlier checkpoint"
        )
    return FlatDetections(images, labels, scores, boxes)


def decimal(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The decimal of fewest digits, at most 4, that each float32 stands for (258.15, not 258.149994), if any.

    Files hold short decimals. Without this, an IoU or area that lies on a threshold in the file falls to the other
    side of it, and AP differs from that of the file in the fourth digit.
    """
    exact = values.astype(np.float64)
    best = exact
    for digits in (4, 3, 2, 1, 0):
        short = exact.round(digits)
        best = np.where(short.astype(np.float32) == values, short, best)
    return best
