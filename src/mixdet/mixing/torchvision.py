"""From torchvision's lists of images and target dicts to a ``Batch`` and back, for detectors that are not ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mixdet.structures import Batch, Instances


def from_torchvision(images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]], first_label: int = 1) -> Batch:
    """A batch of what torchvision's detectors are trained on.

    Args:
        images: B tensors (3, h, w), float in [0, 1], of any sizes.
        targets: B dicts with "boxes" (M, 4) absolute xyxy, "labels" (M,) int64 and maybe "iscrowd" (M,); anything else
            (masks, areas) is left behind.
        first_label: the number of the first class: 1 where 0 is background (Faster R-CNN), 0 in RetinaNet and FCOS.

    Returns:
        The batch, on the smallest canvas that holds all, black outside.

    Raises:
        ValueError: other numbers of images than of targets, or none.
    """
    if not images or len(images) != len(targets):
        raise ValueError(f"from_torchvision: {len(images)} images and {len(targets)} targets")
    sizes = [(image.shape[-2], image.shape[-1]) for image in images]
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    canvas = images[0].new_zeros(len(images), 3, height, width)
    for target, image, (h, w) in zip(canvas, images, sizes, strict=True):
        target[:, :h, :w] = image
    instances = [
        Instances(
            boxes=target["boxes"].reshape(-1, 4),
            labels=target["labels"] - first_label,
            ignored=target["iscrowd"].bool() if "iscrowd" in target else None,  # type: ignore[arg-type]
        )
        for target in targets
    ]
    return Batch(canvas, torch.tensor(sizes, device=canvas.device), instances)


def to_torchvision(batch: Batch, first_label: int = 1) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """The images of ``batch`` without their padding, and their targets: what torchvision's detectors take.

    They know neither weights nor ignored regions: shares are dropped, and so are ignored instances. For eq. 14 use
    ``Mix.components``, whose batches need none.

    Args:
        batch: labelled, mixed or not.
        first_label: as in ``from_torchvision``.

    Returns:
        B images (3, h, w) and B dicts with "boxes" (M, 4) float32 and "labels" (M,) int64.
    """
    images = [image[:, :h, :w] for image, (h, w) in zip(batch.images, batch.sizes.tolist(), strict=True)]
    kept = [instances.select(~instances.ignored) for instances in batch.labels]
    return images, [{"boxes": instances.boxes, "labels": instances.labels + first_label} for instances in kept]
