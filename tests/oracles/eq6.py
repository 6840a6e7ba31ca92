"""Equation 6 for one RoI classifier, literally: two targets, one forward, full sampling."""

from __future__ import annotations

import math

BACKGROUND = 0


def cross_entropy(logits: list[float], target: int) -> float:
    return math.log(sum(math.exp(value) for value in logits)) - logits[target]


def eq6(logits: list[list[float]], first: list[int], second: list[int], lam: float) -> float:
    """lam * L(f(x), y_i) + (1 - lam) * L(f(x), y_j), each the mean over all regions."""
    losses = [
        sum(cross_entropy(row, target) for row, target in zip(logits, targets, strict=True)) / len(logits)
        for targets in (first, second)
    ]
    return lam * losses[0] + (1 - lam) * losses[1]


def union(logits: list[list[float]], first: list[int], second: list[int], weights: tuple[float, float]) -> float:
    """One target a region, whichever image has an object there; weight of that image, background 1."""
    total = 0.0
    for row, i, j in zip(logits, first, second, strict=True):
        target, weight = (i, weights[0]) if i else (j, weights[1]) if j else (BACKGROUND, 1.0)
        total += weight * cross_entropy(row, target)
    return total / len(logits)
