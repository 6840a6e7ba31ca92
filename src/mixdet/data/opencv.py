"""OpenCV, where the extra ``fast`` brought it: work it does in less time than Pillow and torch.

It decodes JPEG (by the same library, so to the same bytes), takes channels apart, and maps colours and blurs in bytes
(each within a level). It resizes to other levels than torchvision, reads PNG little faster than Pillow, and says
nothing of damaged files: the rest is left to the others. Importing this sets OpenCV to one thread in the whole process:
by default each process that reads images would take all cores.
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

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_JPEG_END = b"\xff\xd9"
_UNCHANGED = np.eye(3, 4, dtype=np.float32)


def _load() -> Any:
    try:
        found = importlib.import_module("cv2")
    except ImportError:  # also of a build that lacks a system library
        return None
    if not hasattr(found, "IMREAD_COLOR_RGB"):  # older than the extra asks for
        return None
    found.setNumThreads(1)
    return found


cv2 = _load()


def decoder() -> str:
    """What decodes JPEG files here, with its version; for the record of a run."""
    return f"pillow {version('pillow')}" if cv2 is None else f"opencv {cv2.__version__}"


def decode_jpeg(path: str | os.PathLike[str]) -> Bytes | None:
    """(H, W, 3) RGB of a JPEG of three colours or grey, not turned by its EXIF; None to leave it to Pillow.

    A file that does not end as JPEGs do may be cut off, which OpenCV does not tell.
    """
    if cv2 is None:
        return None
    data = Path(path).read_bytes()
    if not data.endswith(_JPEG_END):
        return None
    try:
        pixels: Bytes | None = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error:
        return None
    return pixels


def planes(images: Tensor) -> Tensor:
    """(B, 3, H, W) from (B, H, W, 3) uint8: each channel on its own in memory, which takes torch four times as long."""
    if cv2 is None or images.device.type != "cpu":
        return images.permute(0, 3, 1, 2).contiguous()
    apart = torch.empty(images.permute(0, 3, 1, 2).shape, dtype=torch.uint8)
    for image, channels in zip(images.numpy(), apart.numpy(), strict=True):
        cv2.split(image, list(channels))
    return apart


def mean_colour(pixels: Bytes) -> list[float]:
    """(3,) of (h, w, 3) pixels, in levels."""
    return list(cv2.mean(pixels)[:3])


def recolour_and_blur(pixels: Bytes, colour_map: Floats, kernel: Floats, out: Bytes) -> None:
    """Map the colours of an image, then convolve it along both axes, edges reflected; each within a level.

    Args:
        pixels: (h, w, 3); not changed.
        colour_map: (3, 4) M and t of x -> M x + t, in levels. Three equal rows make it grey.
        kernel: (2 r + 1,), symmetric, r less than h and w; one number for no blur.
        out: (h, w, 3), written.
    """
    recoloured, blurred = not np.array_equal(colour_map, _UNCHANGED), len(kernel) > 1
    if not recoloured and not blurred:
        out[:] = pixels
        return
    if recoloured:
        pixels = cv2.transform(pixels, colour_map, dst=None if blurred else out)
    if not blurred:
        return
    grey = bool((colour_map == colour_map[0]).all())
    if grey:  # blurred once
        pixels = cv2.extractChannel(pixels, 0)
    pixels = cv2.sepFilter2D(pixels, -1, kernel, kernel, dst=None if grey else out, borderType=cv2.BORDER_REFLECT_101)
    if grey:
        cv2.merge([pixels, pixels, pixels], dst=out)
