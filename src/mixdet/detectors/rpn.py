"""The region proposal network on torchvision's parts, with weighted losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RPNHead, permute_and_flatten
from torchvision.ops import boxes as box_ops

from mixdet.detectors.presets import Preset, ProposalLimit
from mixdet.detectors.weighting import (
    background_weights,
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
    """The sampled anchors of one image: positions, 1 or 0, matched boxes of the positives, weights of both terms."""

    positive: Tensor
    negative: Tensor
    boxes: Tensor
    cls_weights: Tensor
    background_weights: Tensor
    box_weights: Tensor


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
        self.matcher = Matcher(preset.rpn_fg_iou, preset.rpn_bg_iou, allow_low_quality_matches=True)

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
        sampled = [self._sample(outputs.anchors, i) for i in batch.labels]
        image = [
            torch.full_like(at, index) for index, s in enumerate(sampled) for at in (s.positive, s.negative)
        ]  # positives, negatives of image 0, then of image 1, ...
        image_index = torch.cat(image)
        anchor = torch.cat([at for s in sampled for at in (s.positive, s.negative)])
        label = torch.cat(
            [torch.full_like(at, kind) for s in sampled for kind, at in ((1, s.positive), (0, s.negative))]
        )
        weights = torch.cat([s.cls_weights for s in sampled]) * batch.weights[image_index]
        denominator = len(batch) * self.preset.rpn_samples if self.preset.rpn_denominator_is_quota else len(anchor)
        logits = outputs.objectness[image_index, anchor]
        cls = weighted_sum(
            F.binary_cross_entropy_with_logits(silenced(logits, weights), label.to(logits.dtype), reduction="none"),
            weights,
        )
        if self.background_pull:
            pull = torch.cat([s.background_weights for s in sampled]) * batch.weights[image_index]
            cls = cls + weighted_sum(F.softplus(silenced(logits, pull)), pull)  # BCE with target 0
        return Losses(
            {
                "rpn_cls": cls / max(denominator, 1),
                "rpn_box": self._box_loss(outputs, batch, sampled) / max(denominator, 1),
            }
        )

    def propose(self, outputs: RPNOutputs, batch: Batch, limit: ProposalLimit) -> Regions:
        """The best boxes of each image after suppression a level; no gradient reaches the RPN through them."""
        objectness, deltas = outputs.objectness.detach(), outputs.deltas.detach()
        chosen, level, start = [], [], 0
        for index, size in enumerate(outputs.level_sizes):
            at = objectness[:, start : start + size].topk(min(limit.pre_nms, size), dim=1).indices + start
            chosen.append(at)
            level.append(torch.full_like(at[0], index))
            start += size
        at, levels = torch.cat(chosen, dim=1), torch.cat(level)  # (B, T), (T,)
        scores = objectness.gather(1, at).sigmoid()
        codes = deltas.gather(1, at[..., None].expand(-1, -1, 4))  # (B, T, 4)
        boxes = self.box_coder.decode_single(codes.flatten(0, 1), outputs.anchors[at].flatten(0, 1)).view_as(codes)
        kept = [
            self._suppress(b, s, levels, size, limit.post_nms)
            for b, s, size in zip(boxes, scores, batch.sizes.tolist(), strict=True)
        ]
        counts = torch.tensor([len(k) for k in kept], device=boxes.device)
        return Regions(
            torch.cat(kept), torch.arange(len(kept), device=boxes.device).repeat_interleave(counts), len(kept)
        )

    def _suppress(self, boxes: Tensor, scores: Tensor, levels: Tensor, size: list[int], count: int) -> Tensor:
        boxes = box_ops.clip_boxes_to_image(boxes, (size[0], size[1]))
        large = box_ops.remove_small_boxes(boxes, MIN_PROPOSAL_SIDE)
        boxes, scores, levels = boxes[large], scores[large], levels[large]
        return boxes[box_ops.batched_nms(boxes, scores, levels, self.preset.rpn_nms)[:count]]

    def _anchors(self, levels: list[Tensor]) -> Tensor:
        height, width = (side * STRIDES[0] for side in levels[0].shape[-2:])
        strides = [
            [torch.tensor(s, device=level.device) for s in ((stride, stride) if self.preset.exact_strides else nearest)]
            for level, stride in zip(levels, STRIDES, strict=True)
            for nearest in [(height // level.shape[-2], width // level.shape[-1])]
        ]
        self.anchor_generator.set_cell_anchors(torch.float32, levels[0].device)
        return torch.cat(self.anchor_generator.grid_anchors([list(level.shape[-2:]) for level in levels], strides))

    def _sample(self, anchors: Tensor, instances: Instances) -> _Sampled:
        counted = (~instances.ignored).nonzero()[:, 0]
        matched = torch.full_like(anchors[:, 0], Matcher.BELOW_LOW_THRESHOLD, dtype=torch.int64)
        if len(counted):
            matched = self.matcher(box_ops.box_iou(instances.boxes[counted], anchors))
        positive, negative = balanced_sample(
            (matched >= 0).nonzero()[:, 0],
            (matched == Matcher.BELOW_LOW_THRESHOLD).nonzero()[:, 0],
            self.preset.rpn_samples,
            self.preset.rpn_positive_fraction,
            None,
        )
        instance = counted[matched[positive]]
        mixed = "rpn_cls" in self.mixed_terms
        on_instance = instance_weights(instances.cls_weights, instances, mixed)[instance]
        off_share = 1 - instances.shares[instance] if mixed else torch.zeros_like(on_instance)
        on_background = background_weights(anchors[negative], instances, mixed)
        return _Sampled(
            positive,
            negative,
            instances.boxes[instance],
            torch.cat([on_instance, on_background]),
            torch.cat([self.background_pull * off_share, torch.zeros_like(on_background)]),
            instance_weights(instances.box_weights, instances, "rpn_box" in self.mixed_terms)[instance],
        )

    def _box_loss(self, outputs: RPNOutputs, batch: Batch, sampled: list[_Sampled]) -> Tensor:
        image_index = torch.cat([torch.full_like(s.positive, i) for i, s in enumerate(sampled)])
        anchor = torch.cat([s.positive for s in sampled])
        weights = torch.cat([s.box_weights for s in sampled]) * batch.weights[image_index]
        targets = self.box_coder.encode_single(torch.cat([s.boxes for s in sampled]), outputs.anchors[anchor])
        predictions = silenced(outputs.deltas[image_index, anchor], weights)
        return weighted_sum(smooth_l1(predictions, targets, self.preset.rpn_box_beta), weights)


def _cell_anchors(size: int, aspect_ratios: tuple[float, ...]) -> Tensor:
    """Base anchors of one level around the origin, not rounded (detectron2)."""
    ratios = torch.tensor(aspect_ratios)
    heights, widths = size * ratios.sqrt(), size / ratios.sqrt()
    return torch.stack([-widths, -heights, widths, heights], dim=1) / 2
