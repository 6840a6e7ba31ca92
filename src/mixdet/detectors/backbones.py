"""A body with an FPN: four maps of stride 4, 8, 16, 32."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from timm.layers.drop import DropPath
from timm.layers.norm import LayerNorm2d
from timm.layers.norm_act import FrozenBatchNormAct2d, convert_sync_batchnorm, freeze_batch_norm_2d
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.misc import FrozenBatchNorm2d

from mixdet.detectors.bodies import NORM_EPS, Body, EfficientNetLite0Body, ResNetBody, TinyBody
from mixdet.detectors.pretrained import load_pretrained
from mixdet.detectors.swin import SwinTinyBody
from mixdet.errors import MixdetError
from mixdet.structures import Features

LEVELS = ("p2", "p3", "p4", "p5")
NORMS = ("frozen", "sync", "live")

BODIES: dict[str, Callable[[], Body]] = {
    "tiny": TinyBody,
    "resnet18": lambda: ResNetBody(resnet.resnet18(weights=None)),
    "resnet50": lambda: ResNetBody(resnet.resnet50(weights=None)),
    "resnet101": lambda: ResNetBody(resnet.resnet101(weights=None)),
    "efficientnet_lite0": EfficientNetLite0Body,
    "swin_tiny": SwinTinyBody,
}


class FPNBackbone(nn.Module):
    """A body and a feature pyramid on its last four stages; normalisation is its first act."""

    stride = 32
    mean: Tensor
    std: Tensor

    def __init__(self, body: Body, channels: int) -> None:
        super().__init__()
        self.body = body
        self.norms = nn.ModuleList(
            LayerNorm2d(width, eps=NORM_EPS) if body.level_norms else nn.Identity() for width in body.channels
        )
        self.fpn = FeaturePyramidNetwork(list(body.channels), channels)
        self.stages = tuple(body.stages)
        self.register_buffer("mean", torch.tensor(body.mean), persistent=False)
        self.register_buffer("std", torch.tensor(body.std), persistent=False)

    def normalize(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to zero mean and unit deviation."""
        return (images - self.mean[:, None, None]) / self.std[:, None, None]

    def stage(self, name: str, x: Tensor) -> Tensor:
        return self.body.stage(name, x)

    def neck(self, maps: Features) -> Features:
        """p2 to p5 from the outputs of the last four stages."""
        outputs = (norm(maps[name]) for norm, name in zip(self.norms, self.stages[-4:], strict=True))
        return dict(self.fpn(OrderedDict(zip(LEVELS, outputs, strict=True))))


def build_backbone(
    name: str,
    channels: int,
    *,
    weights: str = "none",
    weights_sha256: str | None = None,
    norm: str = "frozen",
    frozen_stages: int = 0,
) -> FPNBackbone:
    """A backbone with its weights laid on, its batch norm as asked and its first stages frozen.

    Args:
        name: one of ``BODIES``.
        channels: of every FPN level.
        weights: "wheel", "download", "none" or a path (``load_pretrained``).
        weights_sha256: hash that the file must have, or None.
        norm: batch norm "frozen" (constants; detectron2's FrozenBN), "sync" (statistics over all processes) or "live";
            "frozen" for a body without batch norm.
        frozen_stages: the first so many stages get no gradient, constant batch norm and no drop path (2: detectron2's
            freeze_at 2).

    Raises:
        MixdetError: unknown body or norm, a norm for a body without any, weights that do not fit.
    """
    if name not in BODIES:
        raise MixdetError(f"detector.body: {name!r} unknown; choose from {', '.join(BODIES)}")
    if norm not in NORMS:
        raise MixdetError(f"detector.norm: {norm!r} unknown; choose from {', '.join(NORMS)}")
    body = BODIES[name]()
    if not 0 <= frozen_stages <= len(body.stages):
        raise MixdetError(f"detector.frozen_stages: {frozen_stages} given, {name} has {len(body.stages)} stages")
    if norm != "frozen" and not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in body.modules()):
        raise MixdetError(f"detector.norm: {norm!r} given, {name} has no batch norm; use frozen")
    load_pretrained(body, name, weights, weights_sha256)
    _set_norm(body, norm, frozen_stages)
    return FPNBackbone(body, channels)


def _set_norm(body: Body, norm: str, frozen_stages: int) -> None:
    for index, parts in enumerate(body.stages.values()):
        for part in parts:
            parent, _, leaf = part.rpartition(".")
            module = body.get_submodule(part)
            if norm == "frozen" or index < frozen_stages:
                setattr(body.get_submodule(parent), leaf, _frozen(module))
            elif norm == "sync":
                setattr(body.get_submodule(parent), leaf, convert_sync_batchnorm(module))
            if index < frozen_stages:
                _hold_still(body.get_submodule(part))


class _FrozenNorm(FrozenBatchNorm2d):  # type: ignore[misc]
    """Outputs have the type of inputs, where torchvision's are float32; in one pass if no gradient is wanted."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.dtype) if x.requires_grad else _constantly_normalized(self, x)


class _FrozenNormAct(FrozenBatchNormAct2d):
    """The same of timm's, which has an activation in it."""

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            return super().forward(x).to(x.dtype)
        activated: Tensor = self.act(self.drop(_constantly_normalized(self, x)))
        return activated


def _constantly_normalized(norm: FrozenBatchNorm2d | FrozenBatchNormAct2d, x: Tensor) -> Tensor:
    mean, variance, weight, bias = map(norm.get_buffer, ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, mean, variance, weight, bias, eps=norm.eps)


def _frozen(module: nn.Module) -> nn.Module:
    """With constants for batch norm."""
    frozen: nn.Module = freeze_batch_norm_2d(module)
    for part in frozen.modules():
        if isinstance(part, FrozenBatchNorm2d):
            part.__class__ = _FrozenNorm
        elif isinstance(part, FrozenBatchNormAct2d):
            part.__class__ = _FrozenNormAct
    return frozen


def _hold_still(module: nn.Module) -> None:
    """No gradient, and no stochastic depth: what does not learn is not disturbed either."""
    module.requires_grad_(False)
    for part in module.modules():
        if isinstance(part, DropPath):
            part.drop_prob = 0.0
