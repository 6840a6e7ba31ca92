"""OpenCV, where the extra ``fast`` brought it: work it does in less time than Pillow and torch, to the same pixels.

It decodes JPEG (by the same library, so to the same bytes), takes channels apart, and on a CPU maps colours and blurs
(to rounding). It resizes no faster than torchvision resizes bytes of interleaved channels, reads PNG little faster than
Pillow, and says nothing of damaged files: the rest is left to the others. What is used of it here runs on one thread.
"""

from __future__ import annotations

import importlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_JPEG_END = b"\xff\xd9"
_UNCHANGED = ([1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0])


def _load() -> Any:
    try:
        found = importlib.import_module("cv2")
    except ImportError:  # also of a build that lacks a system library
        return None
    return found if hasattr(found, "IMREAD_COLOR_RGB") else None  # older than the extra asks for


cv2 = _load()


def decoder() -> str:
    """What decodes JPEG files here, with its version; for the record of a run."""
    return f"pillow {version('pillow')}" if cv2 is None else f"opencv {cv2.__version__}"


def decode_jpeg(path: str | os.PathLike[str]) -> NDArray[np.uint8] | None:
    """(H, W, 3) RGB of a JPEG of three colours or grey, not turned by its EXIF; None to leave it to Pillow.

    A file that does not end as JPEGs do may be cut off, which OpenCV does not tell.
    """
    if cv2 is None:
        return None
    data = Path(path).read_bytes()
    if not data.endswith(_JPEG_END):
        return None
    try:
        pixels: NDArray[np.uint8] | None = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error:
        return None
    return pixels


def planar(image: Tensor) -> Tensor:
    """(3, H, W) uint8, with OpenCV each channel on its own in memory, which takes torch four times as long."""
    if cv2 is None or image.stride(0) != 1:
        return image
    planes = torch.empty(image.shape, dtype=torch.uint8)
    cv2.split(image.permute(1, 2, 0).numpy(), list(planes.numpy()))  # (H, W, 3)
    return planes


def recoloured(images: Tensor, matrices: Tensor, shifts: Tensor) -> Tensor:
    """M x + t for each colour x, in [0, 1].

    Sums of planes: PyTorch takes half as long again for them, or for a product of (3, 3) and (3, H W). A plane that
    does not change, or is to be as another is, is copied.

    Args:
        images: (B, 3, H, W) float32 in [0, 1] on the CPU.
        matrices: (B, 3, 3) M of each image.
        shifts: (B, 3) t.

    Returns:
        (B, 3, H, W).
    """
    mapped = torch.empty_like(images)
    maps = torch.cat([matrices, shifts[:, :, None]], 2).tolist()
    for image, planes, rows in zip(images.numpy(), mapped.numpy(), maps, strict=True):
        for i, (row, plane) in enumerate(zip(rows, planes, strict=True)):
            if row == _UNCHANGED[i]:
                plane[:] = image[i]
            elif row in rows[:i]:
                plane[:] = planes[rows.index(row)]
            else:
                red, green, blue, shift = row
                cv2.addWeighted(image[0], red, image[1], green, shift, dst=plane)
                cv2.scaleAdd(image[2], blue, plane, dst=plane)
                np.clip(plane, 0, 1, out=plane)
    return mapped


def blur(image: Tensor, kernel: Tensor) -> bool:
    """Convolve (C, h, w) float32 on the CPU with a symmetric kernel along both axes, edges reflected; in place.

    Returns:
        Whether it was done; not without OpenCV.
    """
    if cv2 is None:
        return False
    taps = kernel.numpy()
    for plane in image.numpy():
        cv2.sepFilter2D(plane, -1, taps, taps, dst=plane, borderType=cv2.BORDER_REFLECT_101)
    return True
