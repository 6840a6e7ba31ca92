"""VOC AP written out slowly, line by line as the development kit does it, in exact fractions."""

from __future__ import annotations

from fractions import Fraction

Box = tuple[float, float, float, float]


def side(low: float, high: float, inclusive: bool) -> Fraction:
    return Fraction(high) - Fraction(low) + (1 if inclusive else 0)


def iou(a: Box, b: Box, inclusive: bool) -> Fraction:
    width = side(max(a[0], b[0]), min(a[2], b[2]), inclusive)
    height = side(max(a[1], b[1]), min(a[3], b[3]), inclusive)
    if width <= 0 or height <= 0:
        return Fraction(0)
    area_a = side(a[0], a[2], inclusive) * side(a[1], a[3], inclusive)
    area_b = side(b[0], b[2], inclusive) * side(b[1], b[3], inclusive)
    return width * height / (area_a + area_b - width * height)


def voc_curve(
    truth: dict[int, list[tuple[Box, bool]]], found: list[tuple[int, float, Box]], threshold: Fraction, inclusive: bool
) -> tuple[list[tuple[Fraction, Fraction]], int]:
    """(recall, precision) after each counted detection of one class, and the number of positives.

    ``truth``: image -> (box, skip); ``found``: (image, score, box).
    """
    positives = sum(not skip for boxes in truth.values() for _, skip in boxes)
    taken: set[tuple[int, int]] = set()
    tp = fp = 0
    curve = []
    for image, _, box in sorted(found, key=lambda d: -d[1]):  # sorted() is stable
        best, best_iou = -1, Fraction(-1)
        for j, (gt_box, _) in enumerate(truth.get(image, [])):
            if (overlap := iou(box, gt_box, inclusive)) > best_iou:
                best, best_iou = j, overlap
        if best_iou >= threshold:
            if truth[image][best][1]:
                continue
            if (image, best) in taken:
                fp += 1
            else:
                taken.add((image, best))
                tp += 1
        else:
            fp += 1
        curve.append((Fraction(tp, positives) if positives else Fraction(0), Fraction(tp, tp + fp)))
    return curve, positives


def eleven_points(curve: list[tuple[Fraction, Fraction]]) -> Fraction:
    total = Fraction(0)
    for t in range(11):
        reached = [p for r, p in curve if r >= Fraction(t, 10)]
        total += max(reached, default=Fraction(0))
    return total / 11


def area(curve: list[tuple[Fraction, Fraction]]) -> Fraction:
    recalls = [Fraction(0), *(r for r, _ in curve), Fraction(1)]
    precisions = [Fraction(0), *(p for _, p in curve), Fraction(0)]
    for i in range(len(precisions) - 2, -1, -1):
        precisions[i] = max(precisions[i], precisions[i + 1])
    return sum(((recalls[i] - recalls[i - 1]) * precisions[i] for i in range(1, len(recalls))), Fraction(0))
