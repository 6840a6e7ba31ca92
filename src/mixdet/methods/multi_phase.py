"""Multi Phase Learning: one later phase, which trusts the labels of an earlier one region by region.

Wang et al., "Data-Uncertainty Guided Multi-Phase Learning for Semi-Supervised Object Detection", CVPR 2021.

Algorithm, for labelled images (x_s, y_s) and images x_u with labels y_u that an earlier phase wrote down:

1. L_s = h(student(x_s), y_s)
2. for each sampled region of x_u: m <- its largest IoU with a box of y_u
3. weight <- 0.25 + 0.75 exp(-50 exp(-15 m)), 1 where y_u is empty          of its class and box losses
4. z <- linear(features of the region, held fixed); d <- |cos(z, z')|       for each positive z' of its image
5. negatives: weight <- weight * exp(-50 exp(-10 (1 - e))), e = max d (1 - IoF)    as like an object, but no part of one
6. L_z = mean of (1 - d)^2 where IoF > 0.7 either way, of d^2 elsewhere     trains the linear layer alone
7. L_u = h(student(x_u), y_u) with these weights, and L_z
8. L = (B_s L_s + B_u L_u) / (B_s + B_u)                                     B: images of the batch

IoF is the part of a region that lies in a box. What comes before and after is not this method's: the labels
(``class_thresholds``, ``easiest``, ``agreed`` of mixdet.teaching) and the fusion of all phases (``Ensemble``).

Deviations; where the paper and its code leave something open, what was chosen:

- Both batches are passed on their own, each with its own canvas, and step 8 puts their means together; the authors
  draw one batch from all images. The ratio of the batch sizes takes the place of repeating labelled images.
- e in step 5 is the largest over the positives, with the region's largest IoF with a box of y_u.
- Step 4's pairs are each sampled region with each positive of its image but itself; step 6 is the mean over the pairs
  of all images, added with weight 1.
- An image without positives leaves its negatives the weights of step 3; the weights of steps 3 and 5 are multiplied.
- The RPN's losses are not weighted.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixdet.methods.method import Method
from mixdet.structures import Batch, Detector, Losses, Regions, Step, Stream, TwoStageDetector, Views, supervise

SAME = 0.7  # IoF above which two regions show the same


class MultiPhase(Method):
    """Train on labelled images, and on images with labels of an earlier phase.

    Args:
        detector: the student; a ``TwoStage`` detector.
        by_overlap: weigh regions by their overlap with labels (step 3).
        by_similarity: weigh negatives by their likeness to positives (steps 4 to 6).
    """

    def __init__(self, detector: Detector, by_overlap: bool = True, by_similarity: bool = True) -> None:
        super().__init__()
        if not isinstance(detector, TwoStageDetector):
            raise TypeError(f"MultiPhase weighs regions: it needs a two-stage detector, not {type(detector).__name__}")
        self.streams = (Stream("labeled", labeled=True), Stream("unlabeled", labeled=True))
        self.student: TwoStageDetector = detector
        self.by_overlap = by_overlap
        size = detector.region_channels
        self.embedding = nn.Linear(size, size) if by_similarity else None

    def losses(self, *, step: Step, labeled: Views, unlabeled: Views) -> Losses:  # type: ignore[override]
        known, taught = labeled.weak, unlabeled.weak
        share = len(taught) / (len(known) + len(taught))
        sup = supervise(self.student, known).prefixed("sup")
        return (1 - share) * sup + share * self._unsup(taught).prefixed("unsup")

    def _unsup(self, taught: Batch) -> Losses:
        features = self.student.features(taught.images)
        outputs = self.student.rpn_outputs(features)
        losses = self.student.rpn_losses(outputs, taught)
        regions = self.student.sample(self.student.propose(outputs, taught), taught)
        x = self.student.region_features(features, regions)
        weights, embedding_loss = self._trust(regions, x, taught)
        if embedding_loss is not None:
            losses = losses + Losses({"embedding": embedding_loss})
        losses = losses + self.student.region_losses(self.student.region_outputs(x), regions.scaled(weights))
        return losses.noted(region_weight=weights.mean())

    def _trust(self, regions: Regions, x: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Steps 2 to 6: (R,) weights of sampled regions with features ``x``, and L_z (None without an embedding)."""
        if regions.matched_iou is None or regions.labels is None:
            raise ValueError("regions are weighed by their labels: call sample first")
        truths = [found.boxes[~found.ignored] for found in batch.labels]
        weights = torch.ones_like(regions.matched_iou)
        if self.by_overlap:
            of_images = zip(regions.per_image(regions.matched_iou), truths, strict=True)
            weights = torch.cat([overlap_weights(m) if len(boxes) else torch.ones_like(m) for m, boxes in of_images])
        if self.embedding is None:
            return weights, None
        z = self.embedding(x.detach()).float()
        columns = (regions.per_image(values) for values in (z, regions.boxes, regions.labels > 0))
        parts = [similarity(*image) for image in zip(*columns, truths, strict=True)]
        similar, pairs = (torch.cat(column) for column in zip(*parts, strict=True))
        return weights * similar, pairs.sum() / max(len(pairs), 1)

    def detectors(self) -> dict[str, Detector]:
        return {"student": self.student}


def overlap_weights(m: Tensor) -> Tensor:
    """(R,) step 3: weights of regions whose largest IoU with a label is ``m`` (R,), from 0.25 at 0 to 1 at 1."""
    return 0.25 + 0.75 * (-50 * (-15 * m).exp()).exp()


def similarity(z: Tensor, boxes: Tensor, positive: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Steps 4 to 6 in one image.

    Args:
        z: (R, D) embeddings of its regions.
        boxes: (R, 4) of them.
        positive: (R,) bool.
        labels: (M, 4) boxes of its labels.

    Returns:
        (R,) weights, 1 for positives, without gradient; and the loss of each pair of step 6, flat.
    """
    at = positive.nonzero()[:, 0]  # (P,)
    directions = F.normalize(z, dim=1)
    with torch.autocast(z.device.type, enabled=False):  # bfloat16 would know of 1 - d three digits
        d = (directions @ directions[at].T).abs()  # (R, P)
    weights = torch.ones_like(boxes[:, 0])
    if len(at):
        e = d.detach().amax(dim=1) * (1 - iof(boxes, labels).amax(dim=1))
        weights = torch.where(positive, weights, (-50 * (-10 * (1 - e)).exp()).exp())
    same = (iof(boxes, boxes[at]) > SAME) | (iof(boxes[at], boxes).T > SAME)
    pairs = torch.where(same, (1 - d) ** 2, d**2)
    others = torch.arange(len(z), device=z.device)[:, None] != at
    return weights, pairs[others]


def iof(boxes: Tensor, others: Tensor) -> Tensor:
    """(R, M) part of each of (R, 4) boxes that lies in each of (M, 4) others."""
    left_top = torch.maximum(boxes[:, None, :2], others[:, :2])  # (R, M, 2)
    right_bottom = torch.minimum(boxes[:, None, 2:], others[:, 2:])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1, keepdim=True)
    return (right_bottom - left_top).clamp(min=0).prod(dim=2) / area.clamp(min=1e-6)
