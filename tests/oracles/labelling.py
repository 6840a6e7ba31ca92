"""Multi Phase Learning's choices of labels, one image, box and threshold at a time."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

Box = tuple[float, float, float, float]


class Found(NamedTuple):
    box: Box
    label: int
    score: float


def iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def thresholds(hundredths: list[int], labels: list[int], images: int, wanted: list[Fraction]) -> list[int]:
    """In hundredths, as the scores: for each class every threshold of the grid is tried, the highest first."""
    chosen = []
    for c, boxes in enumerate(wanted):
        best, distance = 100, None
        for threshold in range(100, 9, -1):
            above = sum(1 for score, label in zip(hundredths, labels, strict=True) if label == c and score > threshold)
            now = abs(Fraction(above, images) - boxes)
            if distance is None or now < distance:
                best, distance = threshold, now
        chosen.append(best)
    return chosen


def easiest(hundredths: list[list[int]], share: Fraction) -> list[int]:
    """One image after the other leaves the pool, until enough have or no label is left."""
    pool = {i: Fraction(sum(scores), len(scores)) for i, scores in enumerate(hundredths) if scores}
    count = int(share * len(hundredths) + Fraction(1, 2))
    chosen = []
    while pool and len(chosen) < count:
        best = max(pool, key=lambda i: (pool[i], -i))
        del pool[best]
        chosen.append(best)
    return sorted(chosen)


def agreed(first: list[Found], second: list[Found], threshold: float) -> list[Found]:
    """All pairs, the surer of each, then suppression."""
    pairs = [(a, b) for a in first for b in second if a.label == b.label and iou(a.box, b.box) > threshold]
    kept = {id(a if a.score >= b.score else b): a if a.score >= b.score else b for a, b in pairs}
    alone: list[Found] = []
    for found in sorted(kept.values(), key=lambda f: -f.score):
        if all(other.label != found.label or iou(other.box, found.box) <= 0.3 for other in alone):
            alone.append(found)
    return alone
