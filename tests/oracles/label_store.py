"""ISMT's fusion of detections from different visits, one box at a time: sort, keep, compare."""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """A labelled box."""

    corners: tuple[float, float, float, float]
    label: int
    score: float


def iou(a: Box, b: Box) -> float:
    (x1, y1, x2, y2), (u1, v1, u2, v2) = a.corners, b.corners
    common = max(0.0, min(x2, u2) - max(x1, u1)) * max(0.0, min(y2, v2) - max(y1, v1))
    both = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - common
    return common / both


def nms(boxes: list[Box], overlap: float) -> list[Box]:
    """Of boxes of one score the first comes first."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda b: -b.score):
        if not any(k.label == box.label and iou(k, box) > overlap for k in kept):
            kept.append(box)
    return kept


def visits(found: list[list[Box]], *, decay: float, overlap: float, threshold: float, limit: int) -> list[list[Box]]:
    """M after each visit of one image, from what each visit found."""
    memory: list[Box] = []
    history = []
    for detections in found:
        old = [box._replace(score=box.score * decay) for box in memory]
        memory = [box for box in nms(old + detections, overlap) if box.score > threshold][:limit]
        history.append(memory)
    return history
