"""Faster R-CNN with FPN: three verbs, and the public steps they are made of."""

from __future__ import annotations

import copy
from collections.abc import Collection

import torch
from torch import Tensor, nn

from mixdet.detectors.backbones import FPNBackbone
from mixdet.detectors.presets import Preset, ProposalLimit
from mixdet.detectors.roi import RoIHeads
from mixdet.detectors.rpn import RPN, RPNOutputs
from mixdet.detectors.weighting import MIXED_TERMS, ElementwiseLoss, cross_entropy
from mixdet.structures import Batch, Detections, Features, Losses, Regions


class FasterRCNN(nn.Module):
    """Ren et al. 2015 with FPN (Lin et al. 2017); every loss element carries the weight of its instance.

    ``Detector``, ``Staged`` and ``TwoStage`` (mixdet.structures). Parameter names are torchvision's, so that a
    ``torchvision.models.detection.FasterRCNN`` state dict loads as it is (its FPN bodies are ours).

    Args:
        num_classes: K, without background.
        backbone: stages and FPN, with ``preset.fpn_channels`` channels.
        preset: the numbers.
        mixed_terms: loss terms in which ``Instances.shares`` count, of rpn_cls, rpn_box, roi_cls, roi_box: the check
            marks of LossMix's Table 3. A term left out takes every instance at its trust alone (Union).
        background_pull: beta. Each positive adds beta * (1 - share) * CE(background): 0 is the weighted
            union (the paper's implementation), 1 is eq. 6 to the letter with shared sampling.
        roi_cls_loss: elementwise loss of the RoI classifier (``cross_entropy`` or ``focal_loss``).
    """

    def __init__(
        self,
        num_classes: int,
        backbone: FPNBackbone,
        preset: Preset,
        mixed_terms: Collection[str] = MIXED_TERMS,
        background_pull: float = 0.0,
        roi_cls_loss: ElementwiseLoss = cross_entropy,
    ) -> None:
        super().__init__()
        if unknown := set(mixed_terms) - set(MIXED_TERMS):
            raise ValueError(f"mixed_terms: {sorted(unknown)} unknown; the terms are {list(MIXED_TERMS)}")
        if not 0 <= background_pull <= 1:
            raise ValueError(f"background_pull: {background_pull} is not in [0, 1]")
        self.num_classes = num_classes
        self.preset = preset
        self.backbone = backbone
        self.rpn = RPN(preset, frozenset(mixed_terms), background_pull)
        self.roi_heads = RoIHeads(num_classes, preset, frozenset(mixed_terms), background_pull, roi_cls_loss)
        self.stride = backbone.stride

    @property
    def pad_colour(self) -> Tensor:
        """(3,) the mean: it normalises to zero."""
        return self.backbone.mean

    def with_new_heads(self) -> FasterRCNN:
        """Another one with this one's backbone, copied, and heads that are drawn anew."""
        rpn, roi = self.rpn, self.roi_heads
        return FasterRCNN(
            self.num_classes,
            copy.deepcopy(self.backbone),
            self.preset,
            rpn.mixed_terms,
            rpn.background_pull,
            roi.cls_loss,
        ).to(self.pad_colour.device)

    # The three verbs.

    def features(self, images: Tensor) -> Features:
        """p2 to p5 of (B, 3, H, W) images in [0, 1]; H and W multiples of ``stride``."""
        x = self.normalize(images)
        maps: Features = {}
        for name in self.stages:
            x = maps[name] = self.stage(name, x)
        return self.neck(maps)

    def losses(self, features: Features, batch: Batch) -> Losses:
        """``rpn_cls``, ``rpn_box``, ``roi_cls``, ``roi_box`` of a labelled batch (eq. 13, weighted)."""
        outputs = self.rpn_outputs(features)
        rpn = self.rpn_losses(outputs, batch)
        regions = self.sample(self.propose(outputs, batch), batch)
        return rpn + self.region_losses(self.region_outputs(self.region_features(features, regions)), regions)

    def predict(self, features: Features, batch: Batch) -> list[Detections]:
        """Detections in the pixels of ``batch``; its instances are not read."""
        regions = self.propose(self.rpn_outputs(features), batch, self.preset.test_limit)
        return self.detections(self.region_outputs(self.region_features(features, regions)), regions, batch)

    # Staged: taps between the backbone's stages.

    @property
    def stages(self) -> tuple[str, ...]:
        return self.backbone.stages

    def normalize(self, images: Tensor) -> Tensor:
        return self.backbone.normalize(images)

    def stage(self, name: str, x: Tensor) -> Tensor:
        return self.backbone.stage(name, x)

    def neck(self, maps: Features) -> Features:
        return self.backbone.neck(maps)

    # TwoStage: the steps of losses and predict.

    @property
    def region_channels(self) -> int:
        return self.preset.head_channels

    def rpn_outputs(self, features: Features) -> RPNOutputs:
        return self.rpn.outputs(features)

    def rpn_losses(self, outputs: RPNOutputs, batch: Batch) -> Losses:
        return self.rpn.losses(outputs, batch)

    def propose(self, outputs: RPNOutputs, batch: Batch, limit: ProposalLimit | None = None) -> Regions:
        """Proposals within ``limit``, the preset's training limit if not given."""
        return self.rpn.propose(outputs, batch, limit or self.preset.train_limit)

    def sample(self, regions: Regions, batch: Batch, generator: torch.Generator | None = None) -> Regions:
        return self.roi_heads.sample(regions, batch, generator)

    def region_features(self, features: Features, regions: Regions) -> Tensor:
        return self.roi_heads.features(features, regions)

    def region_outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.roi_heads.outputs(x)

    def region_boxes(self, deltas: Tensor, regions: Regions) -> Tensor:
        return self.roi_heads.boxes(deltas, regions)

    def region_losses(self, outputs: tuple[Tensor, Tensor], regions: Regions) -> Losses:
        return self.roi_heads.losses(outputs, regions)

    def detections(self, outputs: tuple[Tensor, Tensor], regions: Regions, batch: Batch) -> list[Detections]:
        return self.roi_heads.detections(outputs, regions, batch)
