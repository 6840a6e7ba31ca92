"""Weighted boxes fusion as the paper's section 3 tells it: lists of clusters, everything computed anew each time."""

from __future__ import annotations

from oracles.labelling import Box, Found, iou


def fuse(cluster: list[tuple[Found, float]]) -> Box:
    total = sum(confidence for _, confidence in cluster)
    sides = [sum(confidence * found.box[i] for found, confidence in cluster) / total for i in range(4)]
    return sides[0], sides[1], sides[2], sides[3]


def weighted_box_fusion(
    models: list[list[Found]], weights: list[float], threshold: float, skip: float
) -> list[tuple[Box, int, float]]:
    """(box, label, score), best first."""
    queue = [(f, f.score * w) for found, w in zip(models, weights, strict=True) for f in found if f.score >= skip]
    queue.sort(key=lambda entry: entry[1], reverse=True)
    clusters: list[list[tuple[Found, float]]] = []
    for found, confidence in queue:
        best, overlap = None, threshold
        for cluster in clusters:
            if cluster[0][0].label == found.label and iou(found.box, fuse(cluster)) > overlap:
                best, overlap = cluster, iou(found.box, fuse(cluster))
        if best is None:
            clusters.append([(found, confidence)])
        else:
            best.append((found, confidence))
    fused = []
    for cluster in clusters:
        score = sum(confidence for _, confidence in cluster) / len(cluster)
        score = score * min(len(models), len(cluster)) / sum(weights)
        fused.append((fuse(cluster), cluster[0][0].label, min(score, 1.0)))
    return sorted(fused, key=lambda entry: -entry[2])
