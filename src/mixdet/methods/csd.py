"""CSD: an image and its mirror image must be seen alike.

Jeong et al., "Consistency-based Semi-supervised Learning for Object Detection", NeurIPS 2019; its two-stage form,
carried from R-FCN to Faster R-CNN.

Algorithm, for labelled images (x_s, y_s) and unlabelled images x_u:

1. L_s = h(student(x_s), y_s)
2. for x of x_s and x_u: R <- proposals of x, R' <- R mirrored; no second run of the RPN
3. p, d <- class probabilities and box deltas of R in x; p', d' <- those of R' in the mirror image of x
4. keep the regions in which, in x, some class is likelier than background            background elimination
5. L_cls = 1/2 (KL(p || p') + KL(p' || p)), each first argument held fixed, mean of the regions kept
6. L_box = mean of ((dx + dx')^2 + (dy - dy')^2 + (dw - dw')^2 + (dh - dh')^2) / 4, of the likeliest class
7. L = L_s + w(t) (L_cls + L_box)                                                     w ramps up, stays, ramps down

There is no teacher and there are no pseudo-labels.

Deviations:

- Labelled and unlabelled images are two streams with batch sizes of their own; the authors draw 32 from their union
  (SSD), or one labelled image and the rest unlabelled (R-FCN).
- Faster R-CNN has class-specific deltas: those of the class that is likeliest in x are compared.
- Images are mirrored within their padded canvas, so that regions need no second geometry.
- The ramps are parts of the schedule (27 %, 83 %), the published 32,000 and 100,000 of 120,000 steps.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from mixdet.detectors import ProposalLimit
from mixdet.methods.method import Method
from mixdet.structures import Batch, Detector, Features, Losses, Regions, Step, Stream, TwoStageDetector, Views

UP, DOWN = 32 / 120, 100 / 120  # ends of the ramp up and beginning of the ramp down, of the schedule
TINY = 1e-7  # keeps the logarithms finite, as in the authors' code


class CSD(Method):
    """Train on labelled images, and for agreement with the mirror image on all of them.

    Args:
        detector: the student; a ``TwoStage`` detector.
        consistency_weight: factor on w(t).
        proposals: regions compared in each image, the most likely ones.
    """

    def __init__(self, detector: Detector, consistency_weight: float = 1.0, proposals: int = 300) -> None:
        super().__init__()
        if not isinstance(detector, TwoStageDetector):
            raise TypeError(f"CSD compares regions: it needs a two-stage detector, not {type(detector).__name__}")
        self.streams = (Stream("labeled", labeled=True), Stream("unlabeled", labeled=False))
        self.student: TwoStageDetector = detector
        self.consistency_weight = consistency_weight
        self.limit = ProposalLimit(proposals, proposals)

    def losses(self, *, step: Step, labeled: Views, unlabeled: Views) -> Losses:  # type: ignore[override]
        known = labeled.weak
        everything = Batch.concat([known.with_instances(None), unlabeled.weak])
        features = self.student.features(everything.images)
        own = {name: level[: len(known)] for name, level in features.items()}
        on_canvas = known.on_canvas(*everything.canvas)
        sup = self.student.losses(own, on_canvas).prefixed("sup")
        mirrored = self.student.features(everything.images.flip(-1))
        regions = self.student.propose(self.student.rpn_outputs(features), everything, self.limit)
        logits, deltas = self._outputs(features, regions)
        logits_m, deltas_m = self._outputs(mirrored, mirror(regions, everything.canvas[1]))
        consistency = consistency_losses(logits, deltas, logits_m, deltas_m)
        weight = self.consistency_weight * ramp(step.index / step.total)
        return (sup + weight * consistency.prefixed("csd")).noted(csd_weight=torch.tensor(weight))

    def detectors(self) -> dict[str, Detector]:
        return {"student": self.student}

    def _outputs(self, features: Features, regions: Regions) -> tuple[Tensor, Tensor]:
        return self.student.region_outputs(self.student.region_features(features, regions))


def ramp(progress: float) -> float:
    """w(t) for the part of the schedule that is done: 0 at the beginning, 1 from 27 to 83 %, near 0 at the end."""
    if progress <= 0:
        return 0.0
    if progress < UP:
        return math.exp(-5 * (1 - progress / UP) ** 2)
    if progress < DOWN:
        return 1.0
    return math.exp(-12.5 * (1 - (1 - progress) / (1 - DOWN)) ** 2)


def mirror(regions: Regions, width: float) -> Regions:
    """The regions in the mirror image of a canvas ``width`` pixels wide."""
    x1, y1, x2, y2 = regions.boxes.unbind(1)
    return replace(regions, boxes=torch.stack([width - x2, y1, width - x1, y2], dim=1))


def consistency_losses(logits: Tensor, deltas: Tensor, logits_m: Tensor, deltas_m: Tensor) -> Losses:
    """``cls`` and ``box``: how far the mirror image's outputs are from those of the image.

    Args:
        logits: (R, K + 1) of the image's regions, background first.
        deltas: (R, 4 (K + 1)) of them.
        logits_m, deltas_m: of the same regions in the mirror image.
    """
    p, q = logits.softmax(1), logits_m.softmax(1)
    best, label = p[:, 1:].max(dim=1)
    keep = (best > p[:, 0]).nonzero()[:, 0]  # background elimination
    p, q, label = p[keep], q[keep], label[keep] + 1
    count = max(len(keep), 1)
    cls = 0.5 * (_divergence(p.detach(), q) + _divergence(q.detach(), p)).sum() / count
    d, d_m = (
        x[keep].unflatten(1, (-1, 4))[torch.arange(len(keep), device=x.device), label] for x in (deltas, deltas_m)
    )
    signs = torch.tensor([1.0, -1.0, -1.0, -1.0], device=d.device)
    box = ((d + signs * d_m) ** 2).mean(dim=1).sum() / count
    return Losses({"cls": cls, "box": box})


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """(R,) KL(p || q) of (R, C) probabilities."""
    return (p * ((p + TINY).log() - (q + TINY).log())).sum(1)
