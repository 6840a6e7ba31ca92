"""Slow, literal forms of Instant Teaching: one box at a time, plain numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

Box = tuple[float, float, float, float]
Found = tuple[Box, int, float]  # box, class, score
Head = Callable[[Box], tuple[list[float], list[list[float]]]]  # box -> logits, background first; four deltas a class


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(v - max(logits)) for v in logits]
    return [p / sum(powers) for p in powers]


def decoded(box: Box, deltas: list[float]) -> Box:
    """Faster R-CNN's regression, with deltas in tenths and fifths."""
    x1, y1, x2, y2 = box
    w, h = x2 - x1, y2 - y1
    cx, cy = x1 + w / 2 + deltas[0] / 10 * w, y1 + h / 2 + deltas[1] / 10 * h
    w, h = w * math.exp(deltas[2] / 5), h * math.exp(deltas[3] / 5)
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def clipped(box: Box, height: float, width: float) -> Box:
    x1, y1, x2, y2 = box
    return max(0, min(x1, width)), max(0, min(y1, height)), max(0, min(x2, width)), max(0, min(y2, height))


def rectified(found: list[Found], head: Head, size: tuple[int, int]) -> list[Found]:
    """Score: the mean of one-hot score and probability; box: the mean weighted by both."""
    out = []
    for box, label, score in found:
        logits, deltas = head(box)
        one_hot = [score * (k == label) for k in range(len(logits) - 1)]
        mean = [(a + b) / 2 for a, b in zip(one_hot, softmax(logits)[1:], strict=True)]
        assert all(value <= 0.5 for k, value in enumerate(mean) if k != label)  # so that a box keeps its class
        p = softmax(logits)[label + 1]
        other = clipped(decoded(box, deltas[label + 1]), *size)
        merged = tuple((score * u + p * b) / (score + p) for u, b in zip(box, other, strict=True))
        out.append((merged, label, mean[label]))
    return out  # type: ignore[return-value]


def iou(a: Box, b: Box) -> float:
    sides = [min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])]
    inter = max(sides[0], 0) * max(sides[1], 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def suppressed(found: list[Found], threshold: float) -> list[Found]:
    out: list[Found] = []
    for one in sorted(found, key=lambda f: -f[2]):
        if all(one[1] != better[1] or iou(one[0], better[0]) <= threshold for better in out):
            out.append(one)
    return out


def co_rectified(
    found: tuple[list[Found], list[Found]], heads: tuple[Head, Head], size: tuple[int, int], tau: float
) -> tuple[list[Found], list[Found]]:
    """The labels of network a and of network b for one image, from what each finds there."""
    union = [one for side in found for one in side if one[2] >= tau]  # (1)
    both = [*rectified(union, heads[0], size), *rectified(union, heads[1], size), *union]  # (2), (3)
    by_a, by_b = ([f for f in suppressed(rectified(both, head, size), 0.5) if f[2] >= tau] for head in heads)  # (4)
    return by_b, by_a
