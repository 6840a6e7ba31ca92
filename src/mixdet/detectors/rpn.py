"""The region proposal network on torchvision's parts, with weighted losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RPNHead, permute_and_flatten
from torchvision.ops import nms

from mixdet.detectors.matching import NEGATIVE, Truth, box_iou, match, repeated
from mixdet.detectors.presets import Preset, ProposalLimit
from mixdet.detectors.weighting import (
    background_of_batch,
    balanced_sample,
    instance_weights,
    silenced,
    smooth_l1,
    weighted_sum,
)
from mixdet.structures import Batch, Features, Instances, Losses, Regions

STRIDES = (4, 8, 16, 32, 64)
MIN_PROPOSAL_SIDE = 1e-3


@dataclass(frozen=True, eq=False)
class RPNOutputs:
    """What the RPN says of every anchor (A of them, levels in order) of B images on one canvas.

    Attributes:
        objectness: (B, A) logits.
        deltas: (B, A, 4) encoded boxes.
        anchors: (A, 4) xyxy, the same for all images.
        level_sizes: anchors of each level; they sum to A.
    """

    objectness: Tensor
    deltas: Tensor
    anchors: Tensor
    level_sizes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Sampled:
    """The sampled anchors of a batch: P positives of all images in order, then N negatives.

    Attributes:
        image: (P + N,) of which image.
        anchor: (P + N,) which anchor.
        instance: (P,) the instance of each positive, in the flat batch.
        negatives: of each image.
    """

    image: Tensor
    anchor: Tensor
    instance: Tensor
    negatives: list[int]


class RPN(nn.Module):
    """Objectness and boxes for anchors on p2 to p6; p6 is p5 subsampled and is made here."""

    def __init__(self, preset: Preset, mixed_terms: frozenset[str], background_pull: float) -> None:
        super().__init__()
        self.preset = preset
        self.mixed_terms = mixed_terms
        self.background_pull = background_pull
        self.anchor_generator = AnchorGenerator(
            tuple((size,) for size in preset.anchor_sizes), (preset.aspect_ratios,) * len(preset.anchor_sizes)
        )
        if not preset.rounded_anchors:
            self.anchor_generator.cell_anchors = [
                _cell_anchors(size, preset.aspect_ratios) for size in preset.anchor_sizes
            ]
        self.head = RPNHead(preset.fpn_channels, len(preset.aspect_ratios))
        self.box_coder = BoxCoder((1.0, 1.0, 1.0, 1.0))

    def outputs(self, features: Features) -> RPNOutputs:
        """The head on every level of ``features`` (p2 to p5, finest first) and on p6."""
        levels = [*features.values()]
        levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        objectness, deltas = self.head(levels)
        count, anchors_a_cell = len(levels[0]), len(self.preset.aspect_ratios)
        flat = [
            (
                permute_and_flatten(o, count, anchors_a_cell, 1, *o.shape[-2:]),  # (B, A*1, h, w) -> (B, h*w*A, 1)
                permute_and_flatten(d, count, anchors_a_cell, 4, *d.shape[-2:]),
            )
            for o, d in zip(objectness, deltas, strict=True)
        ]
        return RPNOutputs(
            torch.cat([o for o, _ in flat], dim=1)[..., 0].float(),
            torch.cat([d for _, d in flat], dim=1).float(),
            self._anchors(levels),
            tuple(o.shape[1] for o, _ in flat),
        )

    def losses(self, outputs: RPNOutputs, batch: Batch) -> Losses:
        """``rpn_cls`` and ``rpn_box``: each sampled anchor's loss times its weight, over the count sampled."""
        truth = Truth.of(batch.labels)
        sampled = self._sample(outputs.anchors, truth)
        positives, denominator = len(sampled.instance), len(sampled.anchor)
        if self.preset.rpn_denominator_is_quota:
            denominator = len(batch) * self.preset.rpn_samples
        image_weights = batch.weights[sampled.image]
        weights, pull = self._cls_weights(outputs.anchors, sampled, truth)
        weights = weights * image_weights
        logits = outputs.objectness[sampled.image, sampled.anchor]
        label = (torch.arange(len(logits), device=logits.device) < positives).to(logits.dtype)
        cls = weighted_sum(
            F.binary_cross_entropy_with_logits(silenced(logits, weights), label, reduction="none"), weights
        )
        if pull is not None:
            pull = pull * image_weights[:positives]
            cls = cls + weighted_sum(F.softplus(silenced(logits[:positives], pull)), pull)  # BCE with target 0
        box = self._box_loss(outputs, sampled, truth.flat, image_weights[:positives])
        return Losses({"rpn_cls": cls / max(denominator, 1), "rpn_box": box / max(denominator, 1)})

    def propose(self, outputs: RPNOutputs, batch: Batch, limit: ProposalLimit) -> Regions:
        """The best boxes of each image after suppression a level; no gradient reaches the RPN through them."""
        objectness, deltas = outputs.objectness.detach(), outputs.deltas.detach()
        chosen, start = [], 0
        for size in outputs.level_sizes:
            at = objectness[:, start : start + size].topk(min(limit.pre_nms, size), dim=1).indices + start
            chosen.append(at)
            start += size
        at = torch.cat(chosen, dim=1)  # (B, T)
        scores = objectness.gather(1, at).sigmoid()
        codes = deltas.gather(1, at[..., None].expand(-1, -1, 4))  # (B, T, 4)
        boxes = self.box_coder.decode_single(codes.flatten(0, 1), outputs.anchors[at].flatten(0, 1)).view_as(codes)
        limits = batch.sizes.flip(1).repeat(1, 2)[:, None].to(boxes)  # (B, 1, 4): width, height, width, height
        boxes = torch.minimum(boxes.clamp(min=0), limits)
        large = ((boxes[..., 2:] - boxes[..., :2]) >= MIN_PROPOSAL_SIDE).all(dim=2)
        scores = torch.where(large, scores, -1.0)  # last in every order, so that they suppress nothing
        sizes = [c.shape[1] for c in chosen]
        scores = survivors(boxes, scores, sizes, self.preset.rpn_nms, one_call=boxes.is_cuda)
        best, order = scores.sort(dim=1, descending=True, stable=True)
        kept = best[:, : limit.post_nms] >= 0  # (B, at most post_nms)
        image, place = kept.nonzero(as_tuple=True)
        return Regions(boxes[image, order[image, place]], image, len(boxes))

    def _anchors(self, levels: list[Tensor]) -> Tensor:
        height, width = (side * STRIDES[0] for side in levels[0].shape[-2:])
        strides = [
            list((stride, stride) if self.preset.exact_strides else nearest)
            for level, stride in zip(levels, STRIDES, strict=True)
            for nearest in [(height // level.shape[-2], width // level.shape[-1])]
        ]
        self.anchor_generator.set_cell_anchors(torch.float32, levels[0].device)
        return torch.cat(self.anchor_generator.grid_anchors([list(level.shape[-2:]) for level in levels], strides))

    def _sample(self, anchors: Tensor, truth: Truth) -> _Sampled:
        positives, negatives, instances = [], [], []
        for counted, boxes, offset in zip(truth.counted, truth.boxes, truth.offsets, strict=True):
            matched = torch.full_like(anchors[:, 0], NEGATIVE, dtype=torch.int64)
            if len(counted):
                quality = box_iou(boxes, anchors)  # (M, A)
                matched = match(quality, self.preset.rpn_fg_iou, self.preset.rpn_bg_iou, low_quality=True)
            positive, negative = balanced_sample(
                (matched >= 0).nonzero()[:, 0],
                (matched == NEGATIVE).nonzero()[:, 0],
                self.preset.rpn_samples,
                self.preset.rpn_positive_fraction,
                None,
            )
            positives.append(positive)
            negatives.append(negative)
            instances.append(counted[matched[positive]] + offset)
        counts = [len(at) for at in (*positives, *negatives)]
        image = repeated([*range(len(positives))] * 2, counts, anchors.device)
        return _Sampled(image, torch.cat(positives + negatives), torch.cat(instances), counts[len(positives) :])

    def _cls_weights(self, anchors: Tensor, sampled: _Sampled, truth: Truth) -> tuple[Tensor, Tensor | None]:
        """(P + N,) weights of the classification; (P,) of the extra background term on positives, None without it."""
        mixed, flat = "rpn_cls" in self.mixed_terms, truth.flat
        on_instance = instance_weights(flat.cls_weights, flat, mixed)[sampled.instance]
        negatives = anchors[sampled.anchor[len(on_instance) :]]
        weights = torch.cat([on_instance, background_of_batch(negatives, sampled.negatives, truth, mixed)])
        if not (self.background_pull and mixed):
            return weights, None
        return weights, self.background_pull * (1 - flat.shares[sampled.instance])

    def _box_loss(self, outputs: RPNOutputs, sampled: _Sampled, flat: Instances, image_weights: Tensor) -> Tensor:
        count = len(sampled.instance)
        image, anchor = sampled.image[:count], sampled.anchor[:count]
        weights = instance_weights(flat.box_weights, flat, "rpn_box" in self.mixed_terms)
        weights = weights[sampled.instance] * image_weights
        targets = self.box_coder.encode_single(flat.boxes[sampled.instance], outputs.anchors[anchor])
        predictions = silenced(outputs.deltas[image, anchor], weights)
        return weighted_sum(smooth_l1(predictions, targets, self.preset.rpn_box_beta), weights)


def survivors(boxes: Tensor, scores: Tensor, level_sizes: list[int], iou: float, one_call: bool) -> Tensor:
    """Non-maximum suppression within each level of each image.

    Args:
        boxes: (B, T, 4) xyxy, levels in order.
        scores: (B, T).
        level_sizes: boxes of each level; they sum to T.
        iou: boxes that overlap a better one by more are suppressed.
        one_call: one call an image instead of one a level: fewer launches and waits, more comparisons. Levels are
            then moved apart, as torchvision's ``batched_nms`` does.

    Returns:
        (B, T) the scores, -1 where suppressed.
    """
    sizes, flat = level_sizes, boxes
    if one_call:
        level = repeated(range(len(sizes)), sizes, boxes.device)
        flat, sizes = boxes + (level * (boxes.amax() + 1))[:, None], [boxes.shape[1]]
    kept = [
        nms(*part, iou)
        for image in zip(flat.unbind(), scores.unbind(), strict=True)
        for part in zip(image[0].split(sizes), image[1].split(sizes), strict=True)
    ]
    starts = np.cumsum([0, *sizes * len(boxes)])[:-1].tolist()
    at = torch.cat(kept) + repeated(starts, [len(k) for k in kept], boxes.device)
    every = scores.flatten()
    return torch.full_like(every, -1.0).index_copy(0, at, every[at]).view_as(scores)


def _cell_anchors(size: int, aspect_ratios: tuple[float, ...]) -> Tensor:
    """Base anchors of one level around the origin, not rounded (detectron2)."""
    ratios = torch.tensor(aspect_ratios)
    heights, widths = size * ratios.sqrt(), size / ratios.sqrt()
    return torch.stack([-widths, -heights, widths, heights], dim=1) / 2
