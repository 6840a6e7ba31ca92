"""How the weight of an instance reaches an anchor or a proposal, and how weighted losses are summed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import boxes as box_ops

from mixdet.detectors.matching import Truth
from mixdet.structures import Instances

MIXED_TERMS = ("rpn_cls", "rpn_box", "roi_cls", "roi_box")
IGNORED_COVER = (
    0.5  # a box lies inside an ignored instance when at least this part of its area does (COCO's crowd rule)
)

ElementwiseLoss = Callable[[Tensor, Tensor], Tensor]


def match_weights(matched_index: Tensor, weights: Tensor, background: Tensor) -> Tensor:
    """Weight of each anchor or proposal: that of its instance, or its own background weight.

    Args:
        matched_index: (R,) instance index, negative for background.
        weights: (M,) one weight an instance.
        background: (R,) weight where nothing is matched.

    Returns:
        (R,) weights.
    """
    if len(weights) == 0:
        return background
    return torch.where(matched_index >= 0, weights[matched_index.clamp(min=0)], background)


def instance_weights(trust: Tensor, instances: Instances, mixed: bool) -> Tensor:
    """(M,) trust times share, or trust alone where the term is not mixed (Table 3's check marks)."""
    return trust * instances.shares if mixed else trust


def background_weights(boxes: Tensor, instances: Instances, mixed: bool) -> Tensor:
    """Weight of each box as background: the sum of the shares of the images that call it background.

    An image calls a box background unless one of its own ignored instances covers it: w_bg(a) = sum_k l_k 1[a is a
    counted negative under k], with shares that sum to one. Where the term is not mixed every image has
    share one, so that one ignored instance is enough.

    Args:
        boxes: (R, 4) xyxy.
        instances: of the image the boxes lie in.
        mixed: whether shares count in this term.

    Returns:
        (R,) in [0, 1].
    """
    weights = boxes.new_ones(len(boxes))
    if len(instances) == 0 or not instances.ignored.any():
        return weights
    ignored = instances.select(instances.ignored)
    area = box_ops.box_area(boxes).clamp(min=1e-6)
    for source in torch.unique(ignored.sources):
        of_source = ignored.select(ignored.sources == source)
        left_top = torch.maximum(boxes[:, None, :2], of_source.boxes[None, :, :2])  # (R, S, 2)
        right_bottom = torch.minimum(boxes[:, None, 2:], of_source.boxes[None, :, 2:])
        covered = (right_bottom - left_top).clamp(min=0).prod(dim=2) / area[:, None] >= IGNORED_COVER  # (R, S)
        shares = of_source.shares if mixed else torch.ones_like(of_source.shares)
        weights = weights - (covered * shares).amax(dim=1)
    return weights.clamp(min=0)


def background_of_batch(boxes: Tensor, counts: list[int], truth: Truth, mixed: bool) -> Tensor:
    """``background_weights`` of boxes of all images, ``counts`` of each in order: ones if nothing is ignored."""
    if not truth.some_ignored:
        return boxes.new_ones(len(boxes))
    parts = zip(boxes.split(counts), truth.per_image(), strict=True)
    return torch.cat([background_weights(b, instances, mixed) for b, instances in parts])


def silenced(values: Tensor, weights: Tensor) -> Tensor:
    """``values`` (R, ...) with the rows of weight 0 replaced by 0, so that no infinity in them reaches a gradient.

    On a CPU ``values`` themselves, not a copy, where no weight is 0.
    """
    silent = weights == 0
    if silent.device.type == "cpu" and not silent.any():  # a GPU would have to be waited for
        return values
    return values.masked_fill(silent.view(-1, *[1] * (values.dim() - 1)), 0.0)


def weighted_sum(losses: Tensor, weights: Tensor) -> Tensor:
    """Sum of (R,) elementwise losses times (R,) weights; an element of weight 0 is left out, whatever its value."""
    return torch.where(weights == 0, 0.0, losses * weights).sum()


def balanced_sample(
    positive: Tensor, negative: Tensor, count: int, positive_fraction: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Random positives up to ``count * positive_fraction``, then negatives up to ``count``.

    The same draws as torchvision's ``BalancedPositiveNegativeSampler``, with a generator of one's own.

    Args:
        positive: (P,) positions to choose from.
        negative: (N,) positions to choose from.
        generator: None for the global one.

    Returns:
        The chosen positions of each kind, in order of position.
    """
    num_positive = min(len(positive), int(count * positive_fraction))
    num_negative = min(len(negative), count - num_positive)
    chosen = [
        pool[_permutation(pool, generator)[:wanted]].sort().values
        for pool, wanted in ((positive, num_positive), (negative, num_negative))
    ]
    return chosen[0], chosen[1]


def _permutation(pool: Tensor, generator: torch.Generator | None) -> Tensor:
    device = pool.device if generator is None else generator.device
    return torch.randperm(len(pool), generator=generator, device=device).to(pool.device)


def smooth_l1(predictions: Tensor, targets: Tensor, beta: float) -> Tensor:
    """(R,) smooth-L1 losses of (R, 4) regressions, summed over the four numbers; ``beta`` 0 is L1."""
    return F.smooth_l1_loss(predictions, targets, beta=beta, reduction="none").sum(dim=1)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """(R,) cross-entropy of (R, C) logits with (R,) class indices or (R, C) soft targets."""
    return F.cross_entropy(logits, targets, reduction="none")


def focal_loss(logits: Tensor, targets: Tensor, gamma: float = 1.5) -> Tensor:
    """(R,) multi-class focal loss (1 - p)^gamma * CE over a softmax (Unbiased Teacher; no alpha).

    Args:
        logits: (R, C).
        targets: (R,) class indices, or (R, C) soft targets (each class's focal term weighted by its target).
        gamma: focusing parameter.
    """
    log_p = logits.log_softmax(dim=1)
    terms = -((1 - log_p.exp()) ** gamma) * log_p  # (R, C)
    if targets.is_floating_point():
        return (targets * terms).sum(dim=1)
    return terms.gather(1, targets[:, None])[:, 0]


ROI_CLS_LOSSES: dict[str, ElementwiseLoss] = {"cross_entropy": cross_entropy, "focal": focal_loss}
