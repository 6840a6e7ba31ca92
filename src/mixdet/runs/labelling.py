"""Labels for unlabelled images, given once by trained detectors and kept in a COCO file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from mixdet.data.dataset import DetectionDataset
from mixdet.errors import MixdetError
from mixdet.recipes.stage import LabelsSection
from mixdet.runs.infer import Trained, write_detections
from mixdet.structures import Detections
from mixdet.teaching import (
    ClassThresholds,
    FallbackThreshold,
    FixedThreshold,
    Threshold,
    agreed,
    class_thresholds,
    easiest,
)

SMALLEST = 1.0  # pixels: a box with a shorter side is no label


def label_images(
    section: LabelsSection,
    labelers: Sequence[Trained],
    pool: DetectionDataset,
    labeled: DetectionDataset,
    out: Path,
    console: Console,
) -> tuple[int, int]:
    """Write the labels of a pool.

    Each labeller's detections are cut by the section's rule; of two labellers, what they agree on is kept.

    Args:
        section: which detections become labels.
        labelers: give them; one or two.
        pool: images without annotations.
        labeled: images with annotations, for what is usual in them.
        out: the COCO file, with scores; there whole or not at all.
        console: for progress.

    Returns:
        Images and boxes in the file.

    Raises:
        MixdetError: not one box.
    """
    kept = [_kept(section, labeler, pool, labeled, console) for labeler in labelers]
    labels = kept[0] if len(kept) == 1 else [agreed(a, b) for a, b in zip(*kept, strict=True)]
    at = np.arange(len(pool))
    if section.share < 1:
        at = easiest([found.scores for found in labels], section.share).numpy()
    at = np.array([i for i in at if section.empty or len(labels[i])], np.int64)
    boxes = sum(len(labels[i]) for i in at)
    if boxes == 0:
        rule = "rule=matched" if section.rule == "matched" else f"score_threshold={section.score_threshold:g}"
        raise MixdetError(
            f"stages.labels.{rule}: {' and '.join(section.by)} found no such box in any of the {len(pool)} images of "
            f"{pool.name}; ask for less, or train the stage before for longer"
        )
    card = labelers[0].card
    chosen = replace(pool.subset(at), classes=card.classes, category_ids=np.array(card.category_ids, np.int64))
    write_detections(out, chosen, [labels[i] for i in at], card)
    return len(at), boxes


def _kept(
    section: LabelsSection, labeler: Trained, pool: DetectionDataset, labeled: DetectionDataset, console: Console
) -> list[Detections]:
    """The detections in each image of the pool that pass the section's rule."""
    shown = track(
        labeler.stream(pool), "labelling", len(pool), console=console, transient=True, disable=not console.is_terminal
    )
    found = [_usable(detections) for detections in shown]
    threshold = _threshold(section, found, labeled)
    return [detections.select(threshold(detections)) for detections in found]


def _threshold(section: LabelsSection, found: Sequence[Detections], labeled: DetectionDataset) -> Threshold:
    if section.rule == "threshold":
        return FixedThreshold(section.score_threshold)
    if section.rule == "fallback":
        return FallbackThreshold(section.score_threshold)
    boxes = np.bincount(labeled.labels[~labeled.ignored], minlength=len(labeled.classes))
    scores, labels = (torch.cat([getattr(d, name) for d in found]) for name in ("scores", "labels"))
    return ClassThresholds(class_thresholds(scores, labels, len(found), torch.from_numpy(boxes) / len(labeled)))


def _usable(detections: Detections) -> Detections:
    sides = detections.boxes[:, 2:] - detections.boxes[:, :2]
    return detections.select((sides >= SMALLEST).all(1))
