"""The weighted RoI loss against torchvision's unweighted one, forward and backward, 16 x 512 regions."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torchvision.models.detection.roi_heads import fastrcnn_loss

from benchmarks.harness import Row, Work, interleaved, milliseconds, repeated
from mixdet.detectors import PRESETS, FasterRCNN, build_backbone
from mixdet.structures import Regions

IMAGES, SAMPLES, POSITIVES = 16, 512, 128


def sides(num_classes: int, silent: float) -> tuple[Work, Work]:
    """(weighted loss, torchvision's) on the same outputs; a quarter of each image's regions is positive.

    Args:
        num_classes: without background.
        silent: share of the weights that are 0.
    """
    generator = torch.Generator().manual_seed(0)
    count = IMAGES * SAMPLES
    labels = torch.zeros(IMAGES, SAMPLES, dtype=torch.int64)
    labels[:, :POSITIVES] = torch.randint(1, num_classes + 1, (IMAGES, POSITIVES), generator=generator)
    labels = labels.flatten()
    targets = torch.randn(count, 4, generator=generator)
    logits = torch.randn(count, num_classes + 1, generator=generator).requires_grad_()
    deltas = torch.randn(count, 4 * (num_classes + 1), generator=generator).requires_grad_()
    index = torch.arange(IMAGES).repeat_interleave(SAMPLES)
    weights = torch.rand(count, generator=generator)
    weights[: round(silent * count)] = 0
    regions = Regions(
        torch.zeros(count, 4), index, IMAGES, labels=labels, box_targets=targets, cls_weights=weights,
        box_weights=weights, background_weights=torch.zeros(count),
    )  # fmt: skip
    detector = FasterRCNN(num_classes, build_backbone("tiny", 64), PRESETS["tiny"])
    a_image = (list(labels.split(SAMPLES)), list(targets.split(SAMPLES)))

    def ours() -> None:
        logits.grad = deltas.grad = None
        detector.region_losses((logits, deltas), regions).total.backward()

    def theirs() -> None:
        logits.grad = deltas.grad = None
        torch.stack(fastrcnn_loss(logits, deltas, *a_image)).sum().backward()

    return ours, theirs


def rows(rounds: int | None) -> Iterator[Row]:
    for num_classes, silent in ((20, 0.0), (80, 0.0), (80, 0.1)):
        ours, theirs = (repeated(side, 10) for side in sides(num_classes, silent))
        ratios, a, b = interleaved(ours, theirs, rounds or 31)
        name = f"weighted RoI loss / fastrcnn_loss, {num_classes} classes"
        name += f", {silent:.0%} of the weights 0" if silent else ""
        yield Row(name, ratios, None if silent else 1.5, note=milliseconds(a / 10, b / 10))
