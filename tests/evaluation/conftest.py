from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from mixdet.data.dataset import DetectionDataset
from mixdet.structures import Detections


@dataclass(frozen=True)
class Blank:
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, i: int) -> Tensor:
        return torch.zeros(3, 480, 640, dtype=torch.uint8)

    def name(self, i: int) -> str:
        return f"{i}.png"


def _dataset(rows: Sequence[tuple[Any, ...]], images: int, classes: Sequence[str] = ("thing",), **more: Any) -> Any:
    """rows: (image, label, x1, y1, x2, y2)."""
    return DetectionDataset.from_rows(
        "test",
        Blank(images),
        classes,
        sizes=[(480, 640)] * images,
        image_index=[r[0] for r in rows],
        labels=[r[1] for r in rows],
        boxes=[r[2:] for r in rows],
        **more,
    )


def _detections(rows: Sequence[tuple[Any, ...]], images: int) -> list[Detections]:
    """rows: (image, label, score, x1, y1, x2, y2); the order given is kept."""
    out = []
    for i in range(images):
        mine = [r for r in rows if r[0] == i]
        boxes = torch.tensor([r[3:] for r in mine], dtype=torch.float32).reshape(-1, 4)
        labels = torch.tensor([r[1] for r in mine], dtype=torch.int64)
        out.append(Detections(boxes, labels, torch.tensor([r[2] for r in mine], dtype=torch.float32)))
    return out


def _from_json(gt: dict[str, Any]) -> DetectionDataset:
    images = {image["id"]: i for i, image in enumerate(gt["images"])}
    categories = {category["id"]: k for k, category in enumerate(gt["categories"])}
    annotations = gt["annotations"]
    corners = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in annotations)]
    return DetectionDataset.from_rows(
        "json",
        Blank(len(images)),
        [str(c["name"]) for c in gt["categories"]],
        sizes=[(480, 640)] * len(images),
        image_ids=list(images),
        category_ids=list(categories),
        image_index=[images[a["image_id"]] for a in annotations],
        labels=[categories[a["category_id"]] for a in annotations],
        boxes=corners,
        areas=[a["area"] for a in annotations],
        crowd=[a.get("iscrowd", 0) for a in annotations],
        difficult=[a.get("difficult", 0) for a in annotations],
    )


def _detections_from_json(gt: dict[str, Any], results: list[dict[str, Any]]) -> list[Detections]:
    images = {image["id"]: i for i, image in enumerate(gt["images"])}
    categories = {category["id"]: k for k, category in enumerate(gt["categories"])}
    rows = [
        (images[r["image_id"]], categories[r["category_id"]], r["score"], x, y, x + w, y + h)
        for r, (x, y, w, h) in ((r, r["bbox"]) for r in results)
    ]
    return _detections(rows, len(images))


@pytest.fixture
def make_dataset() -> Callable[..., DetectionDataset]:
    return _dataset


@pytest.fixture
def make_detections() -> Callable[..., list[Detections]]:
    return _detections


@pytest.fixture
def dataset_from_json() -> Callable[..., DetectionDataset]:
    return _from_json


@pytest.fixture
def detections_from_json() -> Callable[..., list[Detections]]:
    return _detections_from_json
