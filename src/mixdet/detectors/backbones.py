"""Convolutional bodies with an FPN: four maps of stride 4, 8, 16, 32."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import ClassVar

import timm
import torch
from timm.layers.norm_act import convert_sync_batchnorm, freeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.ops import FeaturePyramidNetwork

from mixdet.detectors.pretrained import load_pretrained
from mixdet.errors import MixdetError
from mixdet.structures import Features

LEVELS = ("p2", "p3", "p4", "p5")
NORMS = ("frozen", "sync", "live")


class Body(nn.Module):
    """Named stages in order; the last four have strides 4, 8, 16 and 32.

    Attributes:
        stages: stage name -> the attributes it runs through.
        channels: output channels of the last four stages.
        mean, std: normalisation of images in [0, 1] that the body's pretrained weights expect.
    """

    stages: ClassVar[dict[str, tuple[str, ...]]]
    channels: tuple[int, int, int, int]
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def stage(self, name: str, x: Tensor) -> Tensor:
        for part in self.stages[name]:
            x = self.get_submodule(part)(x)
        return x


class ResNetBody(Body):
    """torchvision's ResNet without its classifier, parameter names unchanged."""

    stages: ClassVar = {
        "stem": ("conv1", "bn1", "relu", "maxpool"),
        "layer1": ("layer1",),
        "layer2": ("layer2",),
        "layer3": ("layer3",),
        "layer4": ("layer4",),
    }
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self, network: resnet.ResNet) -> None:
        super().__init__()
        for name in (part for parts in self.stages.values() for part in parts):
            setattr(self, name, network.get_submodule(name))
        expansion = 4 if isinstance(network.layer1[0], resnet.Bottleneck) else 1
        self.channels = (64 * expansion, 128 * expansion, 256 * expansion, 512 * expansion)


class EfficientNetLite0Body(Body):
    """timm's ``tf_efficientnet_lite0`` without its head, parameter names unchanged."""

    stages: ClassVar = {
        "stem": ("conv_stem", "bn1"),
        "stride4": ("blocks.0", "blocks.1"),
        "stride8": ("blocks.2",),
        "stride16": ("blocks.3", "blocks.4"),
        "stride32": ("blocks.5", "blocks.6"),
    }
    channels = (24, 40, 112, 320)

    def __init__(self) -> None:
        super().__init__()
        network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        self.conv_stem, self.bn1, self.blocks = network.conv_stem, network.bn1, network.blocks


class TinyBody(Body):
    """Eight 3x3 convolutions with batch norm, 16 to 64 channels: for tests, from scratch."""

    stages: ClassVar = {name: (name,) for name in ("stem", "stride4", "stride8", "stride16", "stride32")}
    channels = (16, 32, 48, 64)

    def __init__(self) -> None:
        super().__init__()
        width = 16
        self.stem = _conv(3, width, stride=2)
        for name, channels in zip(list(self.stages)[1:], self.channels, strict=True):
            setattr(self, name, nn.Sequential(_conv(width, channels, stride=2), _conv(channels, channels, stride=1)))
            width = channels


def _conv(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU()
    )


BODIES: dict[str, Callable[[], Body]] = {
    "tiny": TinyBody,
    "resnet18": lambda: ResNetBody(resnet.resnet18(weights=None)),
    "resnet50": lambda: ResNetBody(resnet.resnet50(weights=None)),
    "resnet101": lambda: ResNetBody(resnet.resnet101(weights=None)),
    "efficientnet_lite0": EfficientNetLite0Body,
}


class FPNBackbone(nn.Module):
    """A body and a feature pyramid on its last four stages; normalisation is its first act."""

    stride = 32
    mean: Tensor
    std: Tensor

    def __init__(self, body: Body, channels: int) -> None:
        super().__init__()
        self.body = body
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
        pyramid = self.fpn(OrderedDict(zip(LEVELS, (maps[name] for name in self.stages[-4:]), strict=True)))
        return dict(pyramid)


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
        norm: batch norm "frozen" (constants; detectron2's FrozenBN), "sync" (statistics over all processes) or "live".
        frozen_stages: the first so many stages get no gradient and constant batch norm (2: detectron2's freeze_at 2).

    Raises:
        MixdetError: unknown body or norm, weights that do not fit.
    """
    if name not in BODIES:
        raise MixdetError(f"detector.body: {name!r} unknown; choose from {', '.join(BODIES)}")
    if norm not in NORMS:
        raise MixdetError(f"detector.norm: {norm!r} unknown; choose from {', '.join(NORMS)}")
    body = BODIES[name]()
    if not 0 <= frozen_stages <= len(body.stages):
        raise MixdetError(f"detector.frozen_stages: {frozen_stages} given, {name} has {len(body.stages)} stages")
    load_pretrained(body, name, weights, weights_sha256)
    _set_norm(body, norm, frozen_stages)
    return FPNBackbone(body, channels)


def _set_norm(body: Body, norm: str, frozen_stages: int) -> None:
    for index, parts in enumerate(body.stages.values()):
        for part in parts:
            parent, _, leaf = part.rpartition(".")
            module = body.get_submodule(part)
            if norm == "frozen" or index < frozen_stages:
                setattr(body.get_submodule(parent), leaf, freeze_batch_norm_2d(module))
            elif norm == "sync":
                setattr(body.get_submodule(parent), leaf, convert_sync_batchnorm(module))
            if index < frozen_stages:
                body.get_submodule(part).requires_grad_(False)
