"""Thresholds that follow a teacher, from all it ever found, one class, threshold and image at a time."""

from __future__ import annotations

from collections.abc import Sequence

Labeled = list[list[int]]  # classes of the boxes of each labelled image of a step
Found = list[list[tuple[int, int]]]  # (score in hundredths, class) of the detections in each unlabelled image


def followed(steps: Sequence[tuple[Labeled, Found]], decay: float, classes: int, expected: float) -> list[float | None]:
    """Thresholds in hundredths after some steps; None before so many boxes were ``expected`` after any of them.

    Args:
        steps: what each showed.
        decay: of what was found, a step.
        classes: how many there are.
        expected: boxes of a class in the unlabelled images that count, if they have it as often as labelled ones.
    """
    if not steps:
        return [None] * classes
    before = followed(steps[:-1], decay, classes, expected)
    chosen: list[float | None] = []
    for c in range(classes):
        labeled = [image for of_step, _ in steps for image in of_step]
        wanted = sum(label == c for image in labeled for label in image) / max(len(labeled), 1)
        images = sum(decay ** (len(steps) - 1 - t) * len(found) for t, (_, found) in enumerate(steps))
        if images * wanted < expected:
            chosen.append(before[c])
            continue
        distances = {}
        for threshold in range(10, 101):
            above = sum(
                decay ** (len(steps) - 1 - t)
                for t, (_, found) in enumerate(steps)
                for image in found
                for score, label in image
                if label == c and score > threshold
            )
            distances[threshold] = abs(above - images * wanted)
        least = min(distances.values())
        chosen.append(max(t for t, distance in distances.items() if distance <= least + 1e-6))
    return chosen
