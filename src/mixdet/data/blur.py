"""Gaussian blur of a float image: two passes of one dimension, edges reflected.

On a CPU PyTorch takes some 15 times as long to convolve one channel as to sum its shifted rows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from mixdet.data import opencv

RADIUS = 3.0  # of the kernel, in sigmas
_ROWS = 64  # summed at once on a CPU, so that they stay in its cache


def blur_radius(sigma: float, height: int, width: int) -> int:
    """Of the kernel, in pixels: at least 1, but no more than can be reflected; 0 if an image is one pixel wide."""
    return min(max(1, math.ceil(RADIUS * sigma)), height - 1, width - 1)


def blur(image: Tensor, sigma: float) -> None:
    """(C, h, w) under a Gaussian of ``sigma`` pixels; in place."""
    radius = blur_radius(sigma, image.shape[1], image.shape[2])
    if radius < 1:
        return
    at = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = kernel / kernel.sum()
    if image.device.type != "cpu":
        convolve(image, kernel)
    elif not opencv.blur(image, kernel):
        sum_shifted(image, kernel.tolist())


def convolve(image: Tensor, kernel: Tensor) -> None:
    """Two convolutions with a (2 r + 1,) kernel, for a GPU; in place."""
    x = F.conv2d(_reflected(image, len(kernel) // 2)[:, None], kernel.view(1, 1, 1, -1))  # (3, 1, h + 2 r, w)
    image.copy_(F.conv2d(x, kernel.view(1, 1, -1, 1))[:, 0])


def sum_shifted(image: Tensor, kernel: list[float]) -> None:
    """Weighted sums of shifted rows, then of shifted columns, a strip of a channel at a time, for a CPU; in place."""
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
