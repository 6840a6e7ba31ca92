"""The RoI head on torchvision's parts, with weighted losses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import boxes as box_ops
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper

from mixdet.detectors.matching import NEGATIVE, Truth, box_iou, match, repeated
from mixdet.detectors.presets import Preset
from mixdet.detectors.weighting import (
    ElementwiseLoss,
    background_of_batch,
    balanced_sample,
    instance_weights,
    match_weights,
    silenced,
    smooth_l1,
    weighted_sum,
)
from mixdet.structures import Batch, Detections, Detector, Features, Instances, Losses, Regions, as_module

STRIDES = (4, 8, 16, 32)
MIN_DETECTION_SIDE = 1e-2
BACKGROUND = 0  # the head's label of background, as in torchvision


class RoIHeads(nn.Module):
    """Sampling of proposals, RoIAlign on p2 to p5, two fully connected layers, classes and class-specific boxes."""

    def __init__(
        self,
        num_classes: int,
        preset: Preset,
        mixed_terms: frozenset[str],
        background_pull: float,
        cls_loss: ElementwiseLoss,
    ) -> None:
        super().__init__()
        self.preset = preset
        self.mixed_terms = mixed_terms
        self.background_pull = background_pull
        self.cls_loss = cls_loss
        self.box_head = TwoMLPHead(preset.fpn_channels * preset.pool_size**2, preset.head_channels)
        self.box_predictor = FastRCNNPredictor(preset.head_channels, num_classes + 1)
        if preset.small_head_init:
            _small_init(self.box_head, self.box_predictor)
        self.box_coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        self.level_mapper = LevelMapper(k_min=2, k_max=5)

    def sample(self, regions: Regions, batch: Batch, generator: torch.Generator | None = None) -> Regions:
        """Proposals and ground-truth boxes matched, sampled and weighted.

        Args:
            regions: from ``propose``.
            batch: labelled.
            generator: of the sampler; None for the global one.
        """
        truth = Truth.of(batch.labels)
        parts = [
            self._sample_image(proposals, counted, boxes, generator)
            for proposals, counted, boxes in zip(
                regions.per_image(regions.boxes), truth.counted, truth.boxes, strict=True
            )
        ]
        boxes, matched, iou = (torch.cat(column) for column in zip(*parts, strict=True))
        counts = [len(part[0]) for part in parts]
        image_index = repeated(range(len(parts)), counts, boxes.device)
        instance = matched + repeated(truth.offsets, counts, boxes.device)  # its place in the flat batch
        instance = torch.where(matched >= 0, instance, NEGATIVE)
        labels, targets = self._targets(boxes, instance, truth.flat)
        image_weights = batch.weights[image_index]
        cls, box, pull = (w * image_weights for w in self._weights(boxes, counts, instance, truth))
        return replace(
            Regions(boxes, image_index, len(parts)),
            labels=labels,
            box_targets=targets,
            matched_index=matched,
            matched_iou=iou,
            cls_weights=cls,
            box_weights=box,
            background_weights=pull,
        )

    def features(self, features: Features, regions: Regions) -> Tensor:
        """(R, D) vectors: RoIAlign on the level that fits each box, then the two layers."""
        levels = list(features.values())
        rois = torch.cat([regions.image_index[:, None].to(regions.boxes.dtype), regions.boxes], dim=1)  # (R, 5)
        level_of = self.level_mapper([regions.boxes])
        order = level_of.argsort(stable=True)  # the head takes regions level by level: only vectors are put back
        counts = torch.bincount(level_of, minlength=len(levels)).tolist()
        pooled = [
            roi_align(
                level,
                of_level,  # float32 also under autocast: bfloat16 would move boxes by whole pixels
                self.preset.pool_size,
                1 / stride,
                self.preset.pool_sampling_ratio,
                self.preset.pool_aligned,
            )
            for level, stride, of_level in zip(levels, STRIDES, rois[order].split(counts), strict=True)
        ]
        vectors: Tensor = self.box_head(torch.cat(pooled))
        return torch.zeros_like(vectors).index_copy(0, order, vectors)

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, K + 1) logits with background first, and (R, 4 (K + 1)) encoded boxes."""
        logits, deltas = self.box_predictor(x)
        return logits.float(), deltas.float()

    def boxes(self, deltas: Tensor, regions: Regions) -> Tensor:
        """(R, K + 1, 4) the boxes that the head makes of each region, one a class, background first; not clipped."""
        decoded: Tensor = self.box_coder.decode_single(deltas, regions.boxes)  # (R, 4 (K + 1))
        return decoded.view(-1, deltas.shape[1] // 4, 4)

    def losses(self, outputs: tuple[Tensor, Tensor], regions: Regions) -> Losses:
        """``roi_cls`` and ``roi_box``: each region's loss times its weight, over the count of regions."""
        logits, deltas = outputs
        labels, weights, pull = regions.labels, regions.cls_weights, regions.background_weights
        box_targets, box_weights = regions.box_targets, regions.box_weights
        if labels is None or weights is None or pull is None or box_targets is None or box_weights is None:
            raise ValueError("region_losses needs sampled regions: call sample first")
        targets = labels if regions.class_targets is None else regions.class_targets
        cls = weighted_sum(self.cls_loss(silenced(logits, weights), targets), weights)
        if self.background_pull:
            background = torch.full_like(labels, BACKGROUND)
            cls = cls + weighted_sum(self.cls_loss(silenced(logits, pull), background), pull)
        positive = (labels > BACKGROUND).nonzero()[:, 0]
        box_weights = box_weights[positive]
        of_class = deltas.unflatten(1, (-1, 4))[positive, labels[positive]]  # (R, 4(K+1)) -> (R, K+1, 4) -> (P, 4)
        box_losses = smooth_l1(silenced(of_class, box_weights), box_targets[positive], self.preset.roi_box_beta)
        count = max(len(labels), 1)
        return Losses({"roi_cls": cls / count, "roi_box": weighted_sum(box_losses, box_weights) / count})

    def detections(self, outputs: tuple[Tensor, Tensor], regions: Regions, batch: Batch) -> list[Detections]:
        """Boxes above the score threshold after suppression a class, at most ``max_detections`` an image."""
        logits, deltas = outputs
        boxes = self.boxes(deltas, regions)
        scores = logits.softmax(dim=1)
        return [
            self._detections(b, s, size)
            for b, s, size in zip(
                regions.per_image(boxes), regions.per_image(scores), batch.sizes.tolist(), strict=True
            )
        ]

    def _sample_image(
        self, proposals: Tensor, counted: Tensor, truth: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled boxes of one image, positives first; the instance of each or -1; its IoU with the best one."""
        boxes = torch.cat([proposals, truth])
        matched = torch.full_like(boxes[:, 0], NEGATIVE, dtype=torch.int64)
        iou = boxes.new_zeros(len(boxes))
        if len(counted):
            quality = box_iou(truth, boxes)  # (M, R)
            iou = quality.amax(dim=0)
            matched = match(quality, self.preset.roi_fg_iou, self.preset.roi_fg_iou, low_quality=False)
        is_positive = matched >= 0
        positive, negative = balanced_sample(
            is_positive.nonzero()[:, 0],
            (~is_positive).nonzero()[:, 0],
            self.preset.roi_samples,
            self.preset.roi_positive_fraction,
            generator,
        )
        at = torch.cat([positive, negative])
        instance = torch.cat([counted[matched[positive]], torch.full_like(negative, NEGATIVE)])
        return boxes[at], instance, iou[at]

    def _targets(self, boxes: Tensor, instance: Tensor, flat: Instances) -> tuple[Tensor, Tensor]:
        """(R,) labels and (R, 4) box targets, zeros where no instance is matched."""
        if len(flat) == 0:
            return torch.zeros_like(instance), torch.zeros_like(boxes)
        at = instance.clamp(min=0)
        matched = instance >= 0
        targets = self.box_coder.encode_single(flat.boxes[at], boxes)
        return torch.where(matched, flat.labels[at] + 1, BACKGROUND), torch.where(matched[:, None], targets, 0.0)

    def _weights(
        self, boxes: Tensor, counts: list[int], instance: Tensor, truth: Truth
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(R,) weights of classification, of boxes, and of the extra background term on positives."""
        mixed, flat = "roi_cls" in self.mixed_terms, truth.flat
        background = background_of_batch(boxes, counts, truth, mixed)
        cls = match_weights(instance, instance_weights(flat.cls_weights, flat, mixed), background)
        on_box = instance_weights(flat.box_weights, flat, "roi_box" in self.mixed_terms)
        nothing = torch.zeros_like(cls)
        box = match_weights(instance, on_box, nothing)
        if not (self.background_pull and mixed):
            return cls, box, nothing
        return cls, box, self.background_pull * match_weights(instance, 1 - flat.shares, nothing)

    def _detections(self, boxes: Tensor, scores: Tensor, size: list[int]) -> Detections:
        boxes = box_ops.clip_boxes_to_image(boxes, (size[0], size[1]))[:, 1:]  # without background: (R, K, 4)
        scores = scores[:, 1:]
        region, label = (scores > self.preset.score_threshold).nonzero(as_tuple=True)
        boxes, scores = boxes[region, label], scores[region, label]
        large = box_ops.remove_small_boxes(boxes, MIN_DETECTION_SIDE)
        boxes, scores, label = boxes[large], scores[large], label[large]
        kept = best_after_nms(boxes, scores, label, self.preset.nms, self.preset.max_detections)
        return Detections(boxes[kept], label[kept], scores[kept])


def best_after_nms(boxes: Tensor, scores: Tensor, labels: Tensor, max_iou: float, limit: int) -> Tensor:
    """The best boxes after suppression a class.

    Only better boxes suppress one, so what is left of the best few is left of all, and is often enough; if not, more
    are looked at.

    Args:
        boxes: (D, 4) xyxy.
        scores: (D,).
        labels: (D,).
        max_iou: with a better box of the same class.
        limit: how many are wanted at most.

    Returns:
        Their positions, best first; of equal scores the first.
    """
    order, few = scores.sort(descending=True, stable=True).indices, 3 * limit
    if not len(order):
        return order
    apart = boxes + labels[:, None] * (boxes.max() + 1)  # so that boxes of two classes do not overlap
    while True:
        best = order[:few]
        kept: Tensor = best[box_ops.nms(apart[best], scores[best], max_iou)]
        if len(kept) >= limit or len(best) == len(order):
            return kept[:limit]
        few *= 4


@contextmanager
def reporting(detector: Detector, score_threshold: float) -> Iterator[None]:
    """Within, ``predict`` returns what scores above ``score_threshold`` too, where the preset's is higher."""
    heads = [module for module in as_module(detector).modules() if isinstance(module, RoIHeads)]
    presets = [head.preset for head in heads]
    try:
        for head, preset in zip(heads, presets, strict=True):
            head.preset = replace(preset, score_threshold=min(preset.score_threshold, score_threshold))
        yield
    finally:
        for head, preset in zip(heads, presets, strict=True):
            head.preset = preset


def _small_init(head: TwoMLPHead, predictor: FastRCNNPredictor) -> None:
    """detectron2's initialisation: near-uniform classes and near-zero boxes at the start."""
    for layer in (head.fc6, head.fc7):
        nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.zeros_(layer.bias)
    nn.init.normal_(predictor.cls_score.weight, std=0.01)
    nn.init.normal_(predictor.bbox_pred.weight, std=0.001)
    nn.init.zeros_(predictor.cls_score.bias)
    nn.init.zeros_(predictor.bbox_pred.bias)
