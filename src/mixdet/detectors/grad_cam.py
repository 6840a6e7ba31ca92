"""Grad-CAM of one detection: where in an image a class score comes from.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017, eq. 1
and 2. The score is the RoI head's logit of one class for one box; the layer is a stage of the backbone or a level of
the pyramid. A box is pooled from one level, so only that level has a gradient, while every box goes through the last
stage: it is the default. (MUM's figures are Grad-CAM; the paper names neither layer nor box.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mixdet.structures import Batch, Detector, Features, Regions, Staged, TwoStage


class UnrelatedLayer(RuntimeError):
    """A box's score does not depend on the layer asked for, as it is pooled from another level."""


@dataclass(frozen=True, eq=False)
class GradCAM:
    """Where the score of one class for one box comes from.

    Attributes:
        heat: (H, W) float32 of the image's pixels, over its largest value: what speaks for the class; zeros if nothing
            does.
        logit: of the class.
        score: its probability.
        layer: where ``heat`` was taken.
    """

    heat: Tensor
    logit: float
    score: float
    layer: str


def layers_of(detector: Detector) -> tuple[str, ...]:
    """Stages of the backbone, first one first, and levels of the pyramid: what ``grad_cam`` takes as ``layer``."""
    image = detector.pad_colour[:, None, None].expand(1, 3, detector.stride, detector.stride)
    with torch.no_grad():
        levels = tuple(detector.features(image))
    return (*detector.stages, *levels) if isinstance(detector, Staged) else levels


def grad_cam(detector: Detector, batch: Batch, box: Tensor, label: int, layer: str | None = None) -> GradCAM:
    """ReLU(sum_k alpha_k A^k), alpha_k the mean over positions of d logit / d A^k (eq. 1, 2), as large as the image.

    Args:
        detector: in eval mode.
        batch: of one image; its instances are not read.
        box: (4,) xyxy in the pixels of ``batch``.
        label: class of the logit, in [0, K).
        layer: one of ``layers_of``; None for the backbone's last stage, or the coarsest level if it has no stages.

    Raises:
        TypeError: a detector without the steps of ``TwoStage``, such as an ensemble.
        ValueError: several images, or a layer the detector does not have.
        UnrelatedLayer: of a layer that this box's score does not depend on.
    """
    if not isinstance(detector, TwoStage):
        raise TypeError(f"grad_cam: a {type(detector).__name__} has no logit of a box; give it one of its members")
    if len(batch) != 1:
        raise ValueError(f"grad_cam: {len(batch)} images; it takes one")
    layers = layers_of(detector)
    layer = layer or (detector.stages[-1] if isinstance(detector, Staged) else layers[-1])
    if layer not in layers:
        raise ValueError(f"no layer {layer!r}; this detector has {', '.join(layers)}")
    tap, features = _tapped(detector, batch.images, layer)
    regions = Regions(box[None].to(tap), torch.zeros(1, dtype=torch.int64, device=tap.device), 1)
    with torch.enable_grad():
        logits, _ = detector.region_outputs(detector.region_features(features(), regions))
        logit = logits[0, label + 1]  # background first
    gradient = torch.autograd.grad(logit, tap)[0]
    if not gradient.any():
        raise UnrelatedLayer(f"the score of this box does not depend on {layer}: it is pooled from another level")
    alpha = gradient.mean(dim=(2, 3), keepdim=True)
    heat = (alpha * tap.detach()).sum(dim=1, keepdim=True).relu()
    height, width = batch.sizes[0].tolist()
    heat = F.interpolate(heat, size=batch.canvas, mode="bilinear", align_corners=False)[0, 0, :height, :width].float()
    highest = heat.max()
    heat = heat / highest if highest > 0 else heat
    return GradCAM(heat, float(logit.detach()), float(logits.detach()[0].softmax(0)[label + 1]), layer)


def _tapped(detector: Detector, images: Tensor, layer: str) -> tuple[Tensor, Callable[[], Features]]:
    """The activations of ``layer``, which ask for a gradient, and the features as a function of them."""
    if not (isinstance(detector, Staged) and layer in detector.stages):
        with torch.no_grad():
            levels = detector.features(images)
        tap = levels[layer].detach().requires_grad_()
        return tap, lambda: levels | {layer: tap}
    before = detector.stages[: list(detector.stages).index(layer) + 1]
    maps: Features = {}
    with torch.no_grad():
        x = detector.normalize(images)
        for name in before:
            x = maps[name] = detector.stage(name, x)
    tap = x.detach().requires_grad_()

    def features() -> Features:
        x = maps[layer] = tap.clone()  # the next operation may be in place, which a leaf does not allow
        for name in detector.stages[len(before) :]:
            x = maps[name] = detector.stage(name, x)
        return detector.neck(maps)

    return tap, features
