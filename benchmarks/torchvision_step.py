"""Our plain step against torchvision's own Faster R-CNN, same weights, images, boxes and random draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks.harness import Row, Work, interleaved, milliseconds, operations
from benchmarks.setups import method_step, resnet50, scene_batch, tiny_detector, torchvision_twin
from mixdet.detectors import PRESETS, FasterRCNN
from mixdet.methods import Supervised
from mixdet.mixing import to_torchvision
from mixdet.structures import Batch, supervise
from mixdet.training.optim import build_optimizer

NAMES = {"rpn_cls": "loss_objectness", "rpn_box": "loss_rpn_box_reg"}
NAMES |= {"roi_cls": "loss_classifier", "roi_box": "loss_box_reg"}


def sides(detector: FasterRCNN, batch: Batch) -> tuple[Work, Work]:
    """(our step, torchvision's step); their losses are compared first.

    Raises:
        AssertionError: the two do not compute the same.
    """
    twin = torchvision_twin(detector)
    images, targets = to_torchvision(batch)
    torch.manual_seed(0)
    expected = twin(images, targets)
    torch.manual_seed(0)
    found = supervise(detector, batch).terms
    for name, value in found.items():
        torch.testing.assert_close(value, expected[NAMES[name]], rtol=1e-4, atol=1e-6)
    method = Supervised(detector)
    optimizer = build_optimizer(method, "sgd", lr=0.0)  # of the same parameters

    def theirs() -> None:
        torch.manual_seed(0)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(twin(images, targets).values())).sum().backward()
        optimizer.step()

    return method_step(method, batch), theirs


def rows(rounds: int | None) -> Iterator[Row]:
    numbers = replace(PRESETS["tiny"], exact_strides=False)  # torchvision's anchors of p6
    tiny, large = tiny_detector(numbers), resnet50()
    cases = {
        "tiny, 8 images at 160 px": (tiny, scene_batch(tiny, 8)),
        "R50-FPN, 2 images at 224 px": (large, scene_batch(large, 2, size=224)),
    }
    for name, (detector, batch) in cases.items():
        ours, theirs = sides(detector, batch)
        own, other = operations(ours), operations(theirs)
        ratios, a, b = interleaved(ours, theirs, rounds or 15, warmup=1)
        note = f"{milliseconds(a, b)}; {own} against {other} operations"
        yield Row(f"our step / torchvision's, {name}", ratios, 1.10, note=note)
