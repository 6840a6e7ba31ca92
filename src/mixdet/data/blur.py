"""Gaussian blur of a float image: two passes of one dimension, edges reflected.

On a CPU PyTorch takes some 15 times as long to convolve one channel as to sum its shifted rows.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

RADIUS = 3.0  # of the kernel, in sigmas
_ROWS = 64  # summed at once on a CPU, so that they stay in its cache


def blur_radius(sigma: float, height: int, width: int) -> int:
    """Of the kernel, in pixels: at least 1, but no more than can be reflected; 0 if an image is one pixel wide."""
    return min(max(1, math.ceil(RADIUS * sigma)), height - 1, width - 1)


def gaussian(sigma: float, height: int, width: int) -> NDArray[np.float32]:
    """(2 r + 1,) weights of a Gaussian of ``sigma`` pixels, r as ``blur_radius``; one weight of 1 if sigma is 0."""
    radius = blur_radius(sigma, height, width) if sigma > 0 else 0
    if radius == 0:
        return np.ones(1, np.float32)
    weights: NDArray[np.float64] = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    return weights.astype(np.float32)


def blur(image: Tensor, sigma: float) -> None:
    """(C, h, w) under a Gaussian of ``sigma`` pixels; in place."""
    weights = gaussian(sigma, image.shape[1], image.shape[2])
    if len(weights) > 1:
        (sum_shifted if image.device.type == "cpu" else convolve)(image, weights)


def convolve(image: Tensor, weights: NDArray[np.float32]) -> None:
    """Two convolutions with (2 r + 1,) weights, for a GPU; in place."""
    kernel = torch.from_numpy(weights).to(image.device, image.dtype, non_blocking=True)
    x = F.conv2d(_reflected(image, len(kernel) // 2)[:, None], kernel.view(1, 1, 1, -1))  # (3, 1, h + 2 r, w)
    image.copy_(F.conv2d(x, kernel.view(1, 1, -1, 1))[:, 0])


def sum_shifted(image: Tensor, weights: NDArray[np.float32]) -> None:
    """Weighted sums of shifted rows, then of shifted columns, a strip of a channel at a time, for a CPU; in place."""
    kernel: list[float] = weights.tolist()
    radius = len(kernel) // 2
    for plane, padded in zip(image, _reflected(image, radius), strict=True):
        for top in range(0, len(plane), _ROWS):
            strip = plane[top : top + _ROWS]
            rows, columns = strip.shape
            x = padded[top : top + rows + 2 * radius]
            y = x[:rows] * kernel[0]
            for shift, weight in enumerate(kernel[1:], 1):
                y.add_(x[shift : shift + rows], alpha=weight)
            torch.mul(y[:, :columns], kernel[0], out=strip)
            for shift, weight in enumerate(kernel[1:], 1):
                strip.add_(y[:, shift : shift + columns], alpha=weight)


def _reflected(image: Tensor, radius: int) -> Tensor:
    """(3, h + 2 r, w + 2 r), the edge pixels themselves not repeated."""
    return F.pad(image, (radius,) * 4, mode="reflect")
