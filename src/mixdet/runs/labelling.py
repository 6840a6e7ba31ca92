"""Labels for unlabelled images, given once by trained detectors and kept in a COCO file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from mixdet.data.check import image_defects
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
from mixdet.training.health import EXPLOSION, FEW

SMALLEST = 1.0  # pixels: a box with a shorter side is no label


@dataclass(frozen=True)
class Given:
    """What labelling came to.

    Attributes:
        key: where a recipe says how, "stages.NAME.labels".
        by: the labellers' names.
        pool: its name.
        asked: images of the pool.
        unreadable: why an image could not be read, for each that could not.
        images: that have labels, or none where that is a label too.
        classes: K names.
        boxes: (K,) boxes an image, in these images.
        labeled: (K,) boxes an image, in the labelled images.
    """

    key: str
    by: tuple[str, ...]
    pool: str
    asked: int
    unreadable: tuple[str, ...]
    images: int
    classes: tuple[str, ...]
    boxes: tuple[float, ...]
    labeled: tuple[float, ...]

    def lines(self) -> Iterator[tuple[str, str]]:
        """What to say of it, each line with its style: as much as is said of a teacher that labels as it trains."""
        if self.unreadable:
            count = f"{len(self.unreadable)} of {self.asked} unlabelled images"
            yield f"{self.pool}: {count} cannot be read and got no labels: {self.unreadable[0]}", "yellow"
        each, usual = sum(self.boxes), sum(self.labeled)
        yield (
            f"{self.pool}: {each * self.images:.0f} boxes in {self.images} of {self.asked} unlabelled images, found by "
            f"{' and '.join(self.by)}: {each:.1f} an image (labelled {usual:.1f})",
            "",
        )
        for name, found, real in zip(self.classes, self.boxes, self.labeled, strict=True):
            if found == 0 and real > 0:
                yield (
                    f"class {name} got no box ({real:.2f} labelled ones an image): unlabelled images teach that it is "
                    f"background; ask for less in {self.key}, or label more of it",
                    "bold red",
                )
        if each < FEW * usual:
            yield (
                f"{each:.2f} boxes an image against {usual:.2f} labelled ones: what is not found is taught as "
                f"background; ask for less in {self.key}",
                "bold red",
            )
        if each > EXPLOSION * max(usual, 0.1):
            yield (
                f"{each:.1f} boxes an image against {usual:.1f} labelled ones: too much is found; ask for more in "
                f"{self.key}",
                "bold red",
            )


def label_images(
    section: LabelsSection,
    key: str,
    labelers: Sequence[Trained],
    pool: DetectionDataset,
    labeled: DetectionDataset,
    out: Path,
    world: World,
    console: Console,
    batch_size: int = 8,
    workers: Workers = HERE,
) -> Given:
    """Write the labels of a pool; the processes share the images.

    Each labeller's detections are cut by the section's rule; of two labellers, what they agree on is kept. An image
    that cannot be read gets none: a pool too large to be decoded before step 1 may hold such.

    Args:
        section: which detections become labels.
        key: where a recipe has it, "stages.NAME.labels".
        labelers: give them; one or two.
        pool: images without annotations.
        labeled: images with annotations, for what is usual in them.
        out: the COCO file, with scores; there whole or not at all.
        world: the processes; all call this, the first one writes.
        console: for progress.
        batch_size: images at a time.
        workers: loader processes.

    Raises:
        MixdetError: not one box, or not one image that can be read.
    """
    asked, unreadable = len(pool), _unreadable(pool, world)
    if len(unreadable) == asked:
        raise MixdetError(f"{pool.name}: no image is readable: {next(iter(unreadable.values()))}")
    pool = pool.subset([i for i in range(asked) if i not in unreadable])
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
            f"{key}.{rule}: {' and '.join(section.by)} found no such box in any of the {len(pool)} images of "
            f"{pool.name}; ask for less, or train the stage before for longer"
        )
    card = labelers[0].card
    chosen = replace(pool.subset(at), classes=card.classes, category_ids=np.array(card.category_ids, np.int64))
    if world.is_first:
        write_detections(out, chosen, [labels[i] for i in at], card)
    of_class = torch.bincount(torch.cat([labels[i].labels for i in at]).cpu(), minlength=len(card.classes)) / len(at)
    return Given(
        key,
        tuple(section.by),
        pool.name,
        asked,
        tuple(unreadable.values()),
        len(at),
        card.classes,
        tuple(of_class.tolist()),
        tuple(labeled.boxes_an_image().tolist()),
    )


def _unreadable(pool: DetectionDataset, world: World) -> dict[int, str]:
    """Place in ``pool`` -> why that image cannot be decoded; each process looks at its part."""
    own = np.arange(world.rank, len(pool), world.size)
    found = image_defects(pool.subset(own), decode=True)
    parts = world.gathered([(int(own[i]), line) for i, line in found.items()])
    return dict(sorted(pair for part in parts for pair in part))


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
    scores, labels = (torch.cat([getattr(d, name) for d in found]) for name in ("scores", "labels"))
    return ClassThresholds(class_thresholds(scores, labels, len(found), torch.from_numpy(labeled.boxes_an_image())))


def _usable(detections: Detections) -> Detections:
    sides = detections.boxes[:, 2:] - detections.boxes[:, :2]
    return detections.select((sides >= SMALLEST).all(1))
