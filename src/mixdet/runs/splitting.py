"""A data set, cut into what keeps its labels and what does not: files that recipes read."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixdet.data.check import holds_control
from mixdet.data.dataset import DetectionDataset
from mixdet.data.images import FileImages, quoted
from mixdet.data.sources import open_dataset
from mixdet.data.splits import SplitRule, folds_of, held_out, labeled_subset
from mixdet.errors import MixdetError
from mixdet.runs.destinations import check_unused
from mixdet.training.files import write_text_atomically


@dataclass(frozen=True)
class Split:
    """What one seed came to.

    Attributes:
        folder: where labeled.json, val.json, unlabeled.txt and the folds are.
        labeled: the images that keep their labels, as a data set.
        val: how many keep them to validate on; 0 where none were asked for, and there is no val.json.
        unlabeled: how many do not keep them.
        images: the folder that the names in labeled.json are relative to.
    """

    folder: Path
    labeled: DetectionDataset
    val: int
    unlabeled: int
    images: Path


def split(
    data: str,
    out: str | Path,
    *,
    images: str | None = None,
    fraction: float | None = None,
    count: int | None = None,
    val_fraction: float | None = None,
    val_count: int | None = None,
    seeds: tuple[int, ...] = (0,),
    folds: int = 0,
    rule: SplitRule = "cover",
) -> list[Split]:
    """Choose the images that keep their labels, and write down which; nothing of ``data`` is changed.

    Args:
        data: COCO file or VOC folder and split.
        out: folder to write to; with several seeds a folder ``seed-N`` in it for each.
        images: folder of a COCO file's images, if not beside it.
        fraction: share of the images in (0, 1]; either this or ``count``.
        count: number of images.
        val_fraction: share of the images that is kept apart to validate on; this, or ``val_count``, or neither.
        val_count: number of such images.
        seeds: of the choice.
        folds: also cut the labelled images into so many parts for cross-validation; 0 for none.
        rule: as in ``labeled_subset``.

    Returns:
        One ``Split`` a seed.

    Raises:
        MixdetError: defects of the data, a choice that cannot be made, files that are there already.
    """
    dataset = open_dataset(data, images).with_policy(crowd="ignore", difficult="keep")  # as training reads the files
    source = dataset.images
    if not isinstance(source, FileImages):
        raise MixdetError(f"{data}: has no image files to list; use data.labeled.fraction in the recipe instead")
    folders = {seed: Path(out) / f"seed-{seed}" if len(seeds) > 1 else Path(out) for seed in seeds}
    for folder in folders.values():
        check_unused(folder, _names(folds))
    chosen = {s: labeled_subset(dataset, seed=s, fraction=fraction, count=count, rule=rule) for s in seeds}
    held = {seed: np.zeros(0, np.int64) for seed in seeds}
    if val_fraction is not None or val_count is not None:
        held = {s: held_out(dataset, chosen[s], seed=s, fraction=val_fraction, count=val_count) for s in seeds}
    parts = {seed: folds_of(dataset.subset(chosen[seed]), folds, seed) for seed in seeds}
    rest = {s: np.setdiff1d(np.arange(len(dataset)), np.concatenate([chosen[s], held[s]])) for s in seeds}
    lists = {s: _lines(folder, [source.path(int(i)) for i in rest[s]]) for s, folder in folders.items()}
    done = []
    for seed, folder in folders.items():
        labeled = dataset.subset(chosen[seed])
        folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(folder / "unlabeled.txt", "".join(f"{line}\n" for line in lists[seed]))
        if len(held[seed]):
            _write_coco(folder / "val.json", dataset.subset(held[seed]))
        for number, (kept, left) in enumerate(parts[seed]):
            _write_coco(folder / f"fold-{number}-train.json", labeled.subset(kept))
            _write_coco(folder / f"fold-{number}-val.json", labeled.subset(left))
        _write_coco(folder / "labeled.json", labeled)
        done.append(Split(folder, labeled, len(held[seed]), len(rest[seed]), Path(os.path.relpath(source.root))))
    return done


def _names(folds: int) -> list[str]:
    """Files that a split may be made of."""
    parts = [f"fold-{number}-{part}.json" for number in range(folds) for part in ("train", "val")]
    return ["labeled.json", "unlabeled.txt", "val.json", *parts]


def _write_coco(path: Path, dataset: DetectionDataset) -> None:
    """Images and boxes as a COCO file; masks, keypoints and VOC's difficult flags have no place in it."""
    ids = dataset.image_ids[dataset.image_index].tolist()
    sides = np.concatenate([dataset.boxes[:, :2], dataset.boxes[:, 2:] - dataset.boxes[:, :2]], axis=1)
    content: dict[str, Any] = {
        "images": [
            {"id": number, "file_name": dataset.images.name(i), "width": int(width), "height": int(height)}
            for i, (number, (height, width)) in enumerate(
                zip(dataset.image_ids.tolist(), dataset.sizes.tolist(), strict=True)
            )
        ],
        "annotations": [
            {"id": n, "image_id": ids[n - 1], "category_id": category, "bbox": box, "area": area, "iscrowd": int(crowd)}
            for n, (category, box, area, crowd) in enumerate(
                zip(
                    [int(dataset.category_ids[label]) for label in dataset.labels],
                    sides.astype(float).round(3).tolist(),
                    dataset.areas.astype(float).round(3).tolist(),
                    dataset.crowd.tolist(),
                    strict=True,
                ),
                1,
            )
        ],
        "categories": [
            {"id": number, "name": name}
            for number, name in zip(dataset.category_ids.tolist(), dataset.classes, strict=True)
        ],
    }
    write_text_atomically(path, json.dumps(content))


def _lines(folder: Path, files: list[str]) -> list[str]:
    """A list of images to be written to ``folder``: relative to where that really is, each a line that reads back."""
    home = os.path.realpath(folder)  # what ".." means to the system
    lines = [os.path.relpath(os.path.realpath(file), home) for file in files]
    if odd := next((line for line in lines if line != line.strip() or holds_control(line)), None):
        raise MixdetError(f"{quoted(repr(odd))}: a name that a line of text cannot hold; rename the image")
    return lines
