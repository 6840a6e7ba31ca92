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
from mixdet.data.streams import HERE, Workers
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
from mixdet.training.distributed import World

SMALLEST = 1.0  # pixels: a box with a shorter side is no label


def label_images(
    section: LabelsSection,
    labelers: Sequence[Trained],
    pool: DetectionDataset,
    labeled: DetectionDataset,
    out: Path,
    world: World,
    console: Console,
    batch_size: int = 8,
    workers: Workers = HERE,
) -> tuple[int, int]:
    """Write the labels of a pool; the processes share the images.

    Each labeller's detections are cut by the section's rule; of two labellers, what they agree on is kept.

    Args:
        section: which detections become labels.
        labelers: give them; one or two.
        pool: images without annotations.
        labeled: images with annotations, for what is usual in them.
        out: the COCO file, with scores; there whole or not at all.
        world: the processes; all call this, the first one writes.
        console: for progress.
        batch_size: images at a time.
        workers: loader processes.

    Returns:
        Images and boxes in the file.

    Raises:
        MixdetError: not one box.
    """
    every = [_found(labeler, pool, world, console, batch_size, workers) for labeler in labelers]
    kept = [[d.select(rule(d)) for d in found] for found in every for rule in [_threshold(section, found, labeled)]]
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
    if world.is_first:
        write_detections(out, chosen, [labels[i] for i in at], card)
    return len(at), boxes


def _found(
    labeler: Trained, pool: DetectionDataset, world: World, console: Console, batch_size: int, workers: Workers
) -> list[Detections]:
    """What a labeller finds in each image of the pool, in order; this process looks at its part of them."""
    part = pool.subset(np.arange(world.rank, len(pool), world.size))
    shown = track(
        labeler.stream(part, batch_size, workers),
        "labelling",
        len(part),
        console=console,
        transient=True,
        disable=not (console.is_terminal and world.is_first),
    )
    parts = world.gathered([_usable(detections) for detections in shown])
    return [parts[i % world.size][i // world.size] for i in range(len(pool))]


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
