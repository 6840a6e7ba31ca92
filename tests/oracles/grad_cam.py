"""Grad-CAM (Selvaraju et al. 2017, eq. 1 and 2), written out element by element."""

from __future__ import annotations

from torch import Tensor


def heat(activations: Tensor, gradient: Tensor) -> list[list[float]]:
    """L[i][j] = max(0, sum_k alpha_k A^k_ij) with alpha_k = 1/Z sum_ij dy/dA^k_ij; both are (K, h, w)."""
    a, g = activations.tolist(), gradient.tolist()
    channels, height, width = activations.shape
    alpha = [sum(sum(row) for row in g[k]) / (height * width) for k in range(channels)]
    return [
        [max(0.0, sum(alpha[k] * a[k][i][j] for k in range(channels))) for j in range(width)] for i in range(height)
    ]
