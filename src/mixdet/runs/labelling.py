"""Labels for unlabelled images, given once by trained detectors and kept in a COCO file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from mixdet.data.dataset import DetectionDataset
from mixdet.errors import MixdetError
from mixdet.recipes.stage import LabelsSection
from mixdet.runs.infer import Trained, write_detections
from mixdet.structures import Detections
from mixdet.teaching import FallbackThreshold, FixedThreshold, Threshold

SMALLEST = 1.0  # pixels: a box with a shorter side is no label


def label_images(
    section: LabelsSection, labeler: Trained, pool: DetectionDataset, out: Path, console: Console
) -> tuple[int, int]:
    """Write the labels of a pool.

    Args:
        section: which detections become labels.
        labeler: gives them.
        pool: images without annotations.
        out: the COCO file, with scores; there whole or not at all.
        console: for progress.

    Returns:
        Images and boxes in the file.

    Raises:
        MixdetError: not one box.
    """
    found = track(
        labeler.stream(pool), "labelling", len(pool), console=console, transient=True, disable=not console.is_terminal
    )
    threshold = _threshold(section)
    kept = [_usable(detections.select(threshold(detections))) for detections in found]
    chosen = np.array([section.empty or len(detections) > 0 for detections in kept])
    boxes = sum(len(detections) for detections in kept)
    if boxes == 0:
        raise MixdetError(
            f"stages.labels.score_threshold={section.score_threshold:g}: {labeler.path} finds no such box in any of "
            f"the {len(pool)} images of {pool.name}; lower it, or train the stage before for longer"
        )
    card, at = labeler.card, np.flatnonzero(chosen)
    labeled = replace(pool.subset(at), classes=card.classes, category_ids=np.array(card.category_ids, np.int64))
    write_detections(out, labeled, [kept[i] for i in at], card)
    return len(at), boxes


def _threshold(section: LabelsSection) -> Threshold:
    if section.rule == "fallback":
        return FallbackThreshold(section.score_threshold)
    return FixedThreshold(section.score_threshold)


def _usable(detections: Detections) -> Detections:
    sides = detections.boxes[:, 2:] - detections.boxes[:, :2]
    return detections.select((sides >= SMALLEST).all(1))
