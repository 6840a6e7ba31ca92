"""Multi Phase Learning's weights of regions and the loss of its embedding, one region and one pair at a time."""

from __future__ import annotations

import math

from oracles.labelling import Box, iou


def overlap_weight(region: Box, labels: list[Box]) -> float:
    if not labels:
        return 1.0
    m = max(iou(region, label) for label in labels)
    return 0.25 + 0.75 * math.exp(-50 * math.exp(-15 * m))


def iof(region: Box, other: Box) -> float:
    width = min(region[2], other[2]) - max(region[0], other[0])
    height = min(region[3], other[3]) - max(region[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((region[2] - region[0]) * (region[3] - region[1]))


def cosine(a: list[float], b: list[float]) -> float:
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return abs(sum(x * y for x, y in zip(a, b, strict=True))) / norms


def similarity_weight(
    z: list[list[float]], regions: list[Box], positive: list[bool], labels: list[Box], i: int
) -> float:
    """Of region i: small for a negative that looks like a positive and is no part of a label."""
    if positive[i] or not any(positive):
        return 1.0
    reduced = [
        cosine(z[i], z[j]) * (1 - max(iof(regions[i], label) for label in labels))
        for j in range(len(regions))
        if positive[j]
    ]
    return math.exp(-50 * math.exp(-10 * (1 - max(reduced))))


def embedding_losses(z: list[list[float]], regions: list[Box], positive: list[bool]) -> list[float]:
    losses = []
    for i in range(len(regions)):
        for j in range(len(regions)):
            if i == j or not positive[j]:
                continue
            d = cosine(z[i], z[j])
            same = iof(regions[i], regions[j]) > 0.7 or iof(regions[j], regions[i]) > 0.7
            losses.append((1 - d) ** 2 if same else d**2)
    return losses
