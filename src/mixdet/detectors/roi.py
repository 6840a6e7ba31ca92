"""The RoI head on torchvision's parts, with weighted losses."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import boxes as box_ops
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper

from mixdet.detectors.presets import Preset
from mixdet.detectors.weighting import (
    ElementwiseLoss,
    background_weights,
    balanced_sample,
    instance_weights,
    match_weights,
    silenced,
    smooth_l1,
    weighted_sum,
)
from mixdet.structures import Batch, Detections, Features, Instances, Losses, Regions

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
        self.matcher = Matcher(preset.roi_fg_iou, preset.roi_fg_iou, allow_low_quality_matches=False)
        self.level_mapper = LevelMapper(k_min=2, k_max=5)

    def sample(self, regions: Regions, batch: Batch, generator: torch.Generator | None = None) -> Regions:
        """Proposals and ground-truth boxes matched, sampled and weighted.

        Args:
            regions: from ``propose``.
            batch: labelled.
            generator: of the sampler; None for the global one.
        """
        parts = [
            self._sample_image(proposals, instances, weight, generator)
            for proposals, instances, weight in zip(
                regions.per_image(regions.boxes), batch.labels, batch.weights, strict=True
            )
        ]
        boxes, labels, targets, matched, iou, cls, box, pull = (
            torch.cat(column) for column in zip(*parts, strict=True)
        )
        counts = torch.tensor([len(part[0]) for part in parts], device=boxes.device)
        image_index = torch.arange(len(parts), device=boxes.device).repeat_interleave(counts)
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
        size = self.preset.pool_size
        pooled = levels[0].new_zeros(len(rois), levels[0].shape[1], size, size)
        for index, (level, stride) in enumerate(zip(levels, STRIDES, strict=True)):
            at = (level_of == index).nonzero()[:, 0]
            pooled = pooled.index_put(
                (at,),
                roi_align(
                    level,
                    rois[at].to(level.dtype),
                    size,
                    1 / stride,
                    self.preset.pool_sampling_ratio,
                    self.preset.pool_aligned,
                ).to(pooled.dtype),
            )
        vectors: Tensor = self.box_head(pooled)
        return vectors

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, K + 1) logits with background first, and (R, 4 (K + 1)) encoded boxes."""
        logits, deltas = self.box_predictor(x)
        return logits.float(), deltas.float()

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
        of_class = deltas.view(len(labels), -1, 4)[positive, labels[positive]]  # (R, 4(K+1)) -> (R, K+1, 4) -> (P, 4)
        box_losses = smooth_l1(silenced(of_class, box_weights), box_targets[positive], self.preset.roi_box_beta)
        count = max(len(labels), 1)
        return Losses({"roi_cls": cls / count, "roi_box": weighted_sum(box_losses, box_weights) / count})

    def detections(self, outputs: tuple[Tensor, Tensor], regions: Regions, batch: Batch) -> list[Detections]:
        """Boxes above the score threshold after suppression a class, at most ``max_detections`` an image."""
        logits, deltas = outputs
        boxes = self.box_coder.decode(deltas, [regions.boxes])  # (R, K+1, 4)
        scores = logits.softmax(dim=1)
        return [
            self._detections(b, s, size)
            for b, s, size in zip(
                regions.per_image(boxes), regions.per_image(scores), batch.sizes.tolist(), strict=True
            )
        ]

    def _sample_image(
        self, proposals: Tensor, instances: Instances, image_weight: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, ...]:
        counted = (~instances.ignored).nonzero()[:, 0]
        boxes = torch.cat([proposals, instances.boxes[counted]])
        matched = torch.full_like(boxes[:, 0], -1, dtype=torch.int64)
        iou = boxes.new_zeros(len(boxes))
        if len(counted):
            quality = box_ops.box_iou(instances.boxes[counted], boxes)  # (M, R)
            index = self.matcher(quality)
            iou = quality.amax(dim=0)
            matched = torch.where(index >= 0, counted[index.clamp(min=0)], -1)
        positive, negative = balanced_sample(
            (matched >= 0).nonzero()[:, 0],
            (matched < 0).nonzero()[:, 0],
            self.preset.roi_samples,
            self.preset.roi_positive_fraction,
            generator,
        )
        at = torch.cat([positive, negative])
        boxes, matched = boxes[at], matched[at]
        labels = torch.zeros_like(matched)
        labels[: len(positive)] = instances.labels[matched[: len(positive)]] + 1
        targets = torch.zeros_like(boxes)
        targets[: len(positive)] = self.box_coder.encode_single(
            instances.boxes[matched[: len(positive)]], boxes[: len(positive)]
        )
        weights = self._weights(boxes, matched, instances)
        return boxes, labels, targets, matched, iou[at], *(w * image_weight for w in weights)

    def _weights(self, boxes: Tensor, matched: Tensor, instances: Instances) -> tuple[Tensor, Tensor, Tensor]:
        """(R,) weights of classification, of boxes, and of the extra background term on positives."""
        mixed = "roi_cls" in self.mixed_terms
        on_instance = instance_weights(instances.cls_weights, instances, mixed)
        cls = match_weights(matched, on_instance, background_weights(boxes, instances, mixed))
        on_box = instance_weights(instances.box_weights, instances, "roi_box" in self.mixed_terms)
        nothing = torch.zeros_like(cls)
        off_share = 1 - instances.shares if mixed else torch.zeros_like(instances.shares)
        return (
            cls,
            match_weights(matched, on_box, nothing),
            self.background_pull * match_weights(matched, off_share, nothing),
        )

    def _detections(self, boxes: Tensor, scores: Tensor, size: list[int]) -> Detections:
        boxes = box_ops.clip_boxes_to_image(boxes, (size[0], size[1]))[:, 1:]  # without background: (R, K, 4)
        scores = scores[:, 1:]
        region, label = (scores > self.preset.score_threshold).nonzero(as_tuple=True)
        boxes, scores = boxes[region, label], scores[region, label]
        large = box_ops.remove_small_boxes(boxes, MIN_DETECTION_SIDE)
        boxes, scores, label = boxes[large], scores[large], label[large]
        kept = box_ops.batched_nms(boxes, scores, label, self.preset.nms)[: self.preset.max_detections]
        return Detections(boxes[kept], label[kept], scores[kept])


def _small_init(head: TwoMLPHead, predictor: FastRCNNPredictor) -> None:
    """detectron2's initialisation: near-uniform classes and near-zero boxes at the start."""
    for layer in (head.fc6, head.fc7):
        nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.zeros_(layer.bias)
    nn.init.normal_(predictor.cls_score.weight, std=0.01)
    nn.init.normal_(predictor.bbox_pred.weight, std=0.001)
    nn.init.zeros_(predictor.cls_score.bias)
    nn.init.zeros_(predictor.bbox_pred.bias)
