"""The numbers of a Faster R-CNN, as known recipes set them."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ProposalLimit:
    """How many proposals an image keeps: ``pre_nms`` a level before non-maximum suppression, ``post_nms`` after it."""

    pre_nms: int
    post_nms: int


@dataclass(frozen=True)
class Preset:
    """Heads, anchors, sampling and losses of a Faster R-CNN with FPN (levels p2 to p6).

    Attributes:
        fpn_channels: channels of every level.
        anchor_sizes: side in pixels of the square anchor of each of the five levels.
        aspect_ratios: height over width of the anchors of each level.
        rounded_anchors: torchvision rounds base anchors to whole pixels, detectron2 does not.
        exact_strides: p6 has stride 64 (detectron2), or canvas side // map side (torchvision; smaller when p5 is odd).
        rpn_samples: anchors sampled an image; ``rpn_positive_fraction`` of them positive at the most.
        rpn_fg_iou, rpn_bg_iou: an anchor is positive at or above the first, negative below the second.
        rpn_box_beta: beta of the smooth-L1 loss (0 is L1).
        rpn_denominator_is_quota: divide RPN losses by ``rpn_samples`` an image (detectron2), not by the count sampled.
        train_limit, test_limit: proposals kept while training and while predicting.
        rpn_nms: IoU of the proposals' suppression.
        roi_samples, roi_positive_fraction, roi_fg_iou: sampling of proposals.
        roi_box_beta: beta of the smooth-L1 loss.
        pool_size, pool_sampling_ratio, pool_aligned: RoIAlign; ratio 0 is adaptive; aligned shifts by half a pixel.
        head_channels: width of the two fully connected layers.
        small_head_init: detectron2's small normal initialisation of the box predictor.
        score_threshold, nms, max_detections: what ``predict`` returns.
    """

    fpn_channels: int = 256
    anchor_sizes: tuple[int, int, int, int, int] = (32, 64, 128, 256, 512)
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rounded_anchors: bool = True
    exact_strides: bool = False
    rpn_samples: int = 256
    rpn_positive_fraction: float = 0.5
    rpn_fg_iou: float = 0.7
    rpn_bg_iou: float = 0.3
    rpn_box_beta: float = 1 / 9
    rpn_denominator_is_quota: bool = False
    train_limit: ProposalLimit = ProposalLimit(2000, 2000)
    test_limit: ProposalLimit = ProposalLimit(1000, 1000)
    rpn_nms: float = 0.7
    roi_samples: int = 512
    roi_positive_fraction: float = 0.25
    roi_fg_iou: float = 0.5
    roi_box_beta: float = 1 / 9
    pool_size: int = 7
    pool_sampling_ratio: int = 2
    pool_aligned: bool = False
    head_channels: int = 1024
    small_head_init: bool = False
    score_threshold: float = 0.05
    nms: float = 0.5
    max_detections: int = 100


TORCHVISION = Preset()
"""torchvision's ``fasterrcnn_resnet50_fpn``: what the laws are tested against."""

DETECTRON2 = Preset(
    rounded_anchors=False,
    exact_strides=True,
    rpn_box_beta=0.0,
    rpn_denominator_is_quota=True,
    train_limit=ProposalLimit(2000, 1000),
    roi_box_beta=0.0,
    pool_sampling_ratio=0,
    pool_aligned=True,
    small_head_init=True,
)
"""detectron2's Base-RCNN-FPN, which LossMix trains (supplement B)."""

UNBIASED_TEACHER = replace(DETECTRON2, rpn_positive_fraction=0.25)
"""That of Unbiased Teacher's and MUM's code."""

INSTANT_TEACHING = replace(DETECTRON2, roi_samples=64, score_threshold=0.001)
"""Instant Teaching's few sampled regions, and its low threshold, which alone is worth about a point of AP."""

TINY = Preset(
    fpn_channels=64,
    anchor_sizes=(16, 32, 64, 128, 160),
    exact_strides=True,
    rpn_samples=64,
    train_limit=ProposalLimit(300, 150),
    test_limit=ProposalLimit(150, 150),
    roi_samples=64,
    head_channels=256,
    small_head_init=True,
)
"""Heads for images of 128 to 256 pixels on one CPU core."""

PRESETS: dict[str, Preset] = {
    "torchvision": TORCHVISION,
    "detectron2": DETECTRON2,
    "unbiased_teacher": UNBIASED_TEACHER,
    "instant_teaching": INSTANT_TEACHING,
    "tiny": TINY,
}
