"""Detectors: three verbs on weighted batches."""

from mixdet.detectors.backbones import BODIES, FPNBackbone, build_backbone
from mixdet.detectors.ensemble import Ensemble, weighted_box_fusion
from mixdet.detectors.faster_rcnn import FasterRCNN
from mixdet.detectors.grad_cam import GradCAM, UnrelatedLayer, grad_cam
from mixdet.detectors.presets import PRESETS, Preset, ProposalLimit
from mixdet.detectors.two_heads import TwoHeadRCNN
from mixdet.detectors.weighting import MIXED_TERMS, ROI_CLS_LOSSES, cross_entropy, focal_loss, match_weights

DETECTORS: dict[str, type[FasterRCNN]] = {"faster_rcnn": FasterRCNN, "two_head_rcnn": TwoHeadRCNN}

__all__ = [
    "BODIES",
    "DETECTORS",
    "MIXED_TERMS",
    "PRESETS",
    "ROI_CLS_LOSSES",
    "Ensemble",
    "FPNBackbone",
    "FasterRCNN",
    "GradCAM",
    "Preset",
    "ProposalLimit",
    "TwoHeadRCNN",
    "UnrelatedLayer",
    "build_backbone",
    "cross_entropy",
    "focal_loss",
    "grad_cam",
    "match_weights",
    "weighted_box_fusion",
]
