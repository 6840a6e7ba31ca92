"""LossMix without a detector: eqs. 4 and 6 for a classifier, or whatever else maps an image to an output."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def blend_images(images: Tensor, lam: float | Tensor, partner: Tensor) -> Tensor:
    """Images of one size blended: lam * x_i + (1 - lam) * x_j (LossMix, eq. 4).

    Args:
        images: (B, ...) float.
        lam: share of the first image, a number or (B,).
        partner: (B,) int64, the j of each i: any of ``mixdet.mixing.PAIRINGS``.
    """
    others = images[partner.to(images.device)]
    return others + _rows(lam, images) * (images - others)


def interpolate_losses(
    loss: Callable[[Tensor, Tensor], Tensor], output: Tensor, target: Tensor, partner: Tensor, lam: float | Tensor
) -> Tensor:
    """Two losses blended: lam * loss(output, y_i) + (1 - lam) * loss(output, y_j) (LossMix, eq. 6).

    Its ``.mean()`` is to be minimised. For losses linear in the target, cross-entropy and binary cross-entropy, it is
    the loss of mixup's soft label (eqs. 7-12); for others, the focal loss or any regression, it is not.

    Args:
        loss: (output, target) -> (B, ...), one value or more a sample: reduction "none".
        output: (B, ...) what the model says about the mixed images.
        target: (B, ...) targets of the unmixed images.
        partner: (B,) int64, as given to ``blend_images``.
        lam: a number or (B,), as given to ``blend_images``.

    Returns:
        What ``loss`` returns, interpolated.

    Raises:
        ValueError: ``loss`` reduces over the batch, which would hide whose lam is whose.
    """
    first, second = loss(output, target), loss(output, target[partner.to(target.device)])
    if first.dim() == 0 or len(first) != len(output):
        raise ValueError(f"interpolate_losses: the loss has shape {tuple(first.shape)}: give it reduction='none'")
    share = _rows(lam, first)
    return share * first + (1 - share) * second


def _rows(lam: float | Tensor, like: Tensor) -> Tensor:
    """Lam to be multiplied with ``like`` (B, ...)."""
    if isinstance(lam, Tensor):
        return lam.to(like).reshape(-1, *[1] * (like.dim() - 1))
    return like.new_tensor(lam)
