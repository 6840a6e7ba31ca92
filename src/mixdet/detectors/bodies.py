"""What an FPN stands on: named stages, of which the last four have strides 4, 8, 16 and 32."""

from __future__ import annotations

from typing import ClassVar

import timm
from torch import Tensor, nn
from torchvision.models import resnet

NORM_EPS = 1e-5  # of layer norms: torch's, and that of Swin's weights; timm's LayerNorm2d has another


class Body(nn.Module):
    """Named stages in order; the last four have strides 4, 8, 16 and 32.

    Attributes:
        stages: stage name -> the attributes it runs through.
        channels: output channels of the last four stages.
        mean, std: normalisation of images in [0, 1] that the body's pretrained weights expect.
        level_norms: whether a layer norm of its own lies between each of the four outputs and the pyramid.
    """

    stages: ClassVar[dict[str, tuple[str, ...]]]
    level_norms: ClassVar[bool] = False
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
