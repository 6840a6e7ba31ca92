"""Proposals on their way through the RoI head."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Regions:
    """R boxes of the B images of a batch, flat, images in order.

    ``propose`` fills the first three fields; ``sample`` adds what the losses need. A method may multiply the weights
    or set ``class_targets`` before it calls ``region_losses``.

    Attributes:
        boxes: (R, 4) xyxy in the pixels of the batch's canvas.
        image_index: (R,) int64 in [0, B), ascending.
        num_images: B.
        labels: (R,) int64 as the head counts: 0 background, c + 1 for class c.
        box_targets: (R, 4) encoded regression targets (of no meaning for background).
        matched_index: (R,) int64: the instance of its image a region is matched to, -1 for background.
        matched_iou: (R,) IoU with the best instance of its image (0 where there is none).
        cls_weights: (R,) weight of the classification term.
        box_weights: (R,) weight of the box term (background takes no part).
        background_weights: (R,) weight of an extra CE(background) on positives: beta * (1 - share), see FasterRCNN.
        class_targets: (R, K + 1) soft class targets in place of ``labels``, or None.
    """

    boxes: Tensor
    image_index: Tensor
    num_images: int
    labels: Tensor | None = None
    box_targets: Tensor | None = None
    matched_index: Tensor | None = None
    matched_iou: Tensor | None = None
    cls_weights: Tensor | None = None
    box_weights: Tensor | None = None
    background_weights: Tensor | None = None
    class_targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def scaled(self, weights: Tensor) -> Regions:
        """Sampled regions with both weights times ``weights`` (R,)."""
        if self.cls_weights is None or self.box_weights is None:
            raise ValueError("only sampled regions have weights: call sample first")
        return replace(self, cls_weights=self.cls_weights * weights, box_weights=self.box_weights * weights)

    def per_image(self, values: Tensor) -> list[Tensor]:
        """Split ``values`` (R, ...) into B tensors, one an image."""
        counts = torch.bincount(self.image_index, minlength=self.num_images).tolist()
        return list(torch.split(values, counts))
