"""Image files as displayed: upright, 8-bit RGB, whatever they hold; and many of them under one root, packed.

Pillow decodes, and OpenCV plain JPEGs to the same pixels where it is installed; torchvision deprecates its decoders.
Nothing is decoded at reduced size, though JPEG can be: it would spare a quarter of the decoding, and an odd side has no
half, so that boxes would be off by part of a pixel.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mixdet.data import opencv
from mixdet.errors import MixdetError

MAX_PIXELS = 178_956_970  # Pillow's own limit for an error: 512 MiB as RGB

# Named one by one: Pillow's full list holds formats that start other programs (EPS).
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_ORIENTATION = 0x0112


def quoted(text: str | os.PathLike[str]) -> str:
    """A file's text for a one-line message: as it is if printable, else escaped; shortened."""
    shown = str(text)
    shown = shown if shown.isprintable() else repr(shown)
    return shown if len(shown) <= 200 else f"{shown[:197]}..."


def regular_file(path: str | os.PathLike[str]) -> Path:
    """``path``, if it is a regular file; opening a pipe or a device could hang.

    Raises:
        MixdetError: naming the path, for anything else.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as fault:  # ValueError: a NUL in the path
        reason = getattr(fault, "strerror", None) or fault
        raise MixdetError(f"{quoted(path)}: {reason}; check the path") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise MixdetError(f"{quoted(path)}: is {kind}, not a regular file; give the path of a file")
    return Path(path)


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """The image as it is displayed.

    EXIF orientation is applied. Grey becomes three equal channels, 16-bit grey keeps its high byte, palettes and CMYK
    are converted. Transparent pixels are composited on white: that is what browsers and annotation tools show, while
    dropping alpha would reveal colours that no annotator saw. Of an animation, the first frame.

    Args:
        path: a JPEG, PNG, WebP, BMP, GIF, TIFF or PNM file, whatever its extension.

    Returns:
        (3, H, W) uint8 RGB; the channels of a pixel are neighbours in memory, as files have them and resizing likes.

    Raises:
        MixdetError: naming the file, if it is missing, not a regular file, not such an image, damaged, too large
            (``MAX_PIXELS``, known before anything is decoded) or of 32-bit or float pixels.
    """
    header = _open(path)
    with header:
        orientation = _orientation(header)  # before load(), which may replace what is known from the header
        try:
            decoded = opencv.decode_jpeg(path) if _is_plain_jpeg(header) else None
            pixels = torch.from_numpy(_rgb(header) if decoded is None else decoded)
        except MixdetError as fault:
            raise MixdetError(f"{quoted(path)}: {fault}") from None
        except Exception as fault:  # decoders raise anything on damaged bytes
            reason = quoted(str(fault))
            raise MixdetError(f"{quoted(path)}: damaged image ({reason}); replace the file or leave it out") from None
    return _upright(pixels.permute(2, 0, 1), orientation)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) as displayed, from the header alone.

    Raises:
        MixdetError: as ``read_image``, except for damage behind the header.
    """
    with _open(path) as header:
        width, height = header.size
        return (width, height) if _orientation(header) >= 5 else (height, width)


@dataclass(frozen=True, eq=False)
class FileImages:
    """Image files under one folder; an ``ImageSource``.

    Attributes:
        root: the folder.
        buffer: all names, relative to ``root`` with "/" between folders, one after the other.
        offsets: (N + 1,) int64; name i is ``buffer[offsets[i]:offsets[i + 1]]``.
        homes: folders that the files must be in, links followed (``check_images``); none where users named the files.
    """

    root: str
    buffer: bytes
    offsets: NDArray[np.int64]
    homes: tuple[str, ...]

    @classmethod
    def from_names(
        cls,
        root: str | os.PathLike[str],
        names: Sequence[str],
        homes: Sequence[str | os.PathLike[str]] | None = None,
    ) -> FileImages:
        """From relative names, in order; ``homes`` is ``root`` if not given."""
        encoded = [os.fsencode(name) for name in names]
        lengths = np.array([0, *(len(name) for name in encoded)], np.int64)
        allowed = tuple(os.path.abspath(home) for home in ([root] if homes is None else homes))
        return cls(os.path.abspath(root), b"".join(encoded), np.cumsum(lengths), allowed)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def name(self, i: int) -> str:
        return os.fsdecode(self.buffer[self.offsets[i] : self.offsets[i + 1]])

    def path(self, i: int) -> str:
        return os.path.join(self.root, self.name(i))

    def read(self, i: int) -> Tensor:
        return read_image(self.path(i))


def _open(path: str | os.PathLike[str]) -> Image.Image:
    """The image with only its header read, and a size that is safe to decode."""
    file = regular_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images and odd metadata
            image = Image.open(file, formats=_FORMATS)
    except Image.DecompressionBombError:
        raise MixdetError(f"{quoted(path)}: larger than {MAX_PIXELS} pixels; downscale it or leave it out") from None
    except UnidentifiedImageError:
        what = "empty" if file.stat().st_size == 0 else f"not an image ({', '.join(_FORMATS)})"
        raise MixdetError(f"{quoted(path)}: the file is {what}; replace it or leave it out") from None
    except Exception as fault:
        raise MixdetError(f"{quoted(path)}: unreadable header ({quoted(str(fault))}); replace the file") from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise MixdetError(f"{quoted(path)}: {image.width} x {image.height} is too large; downscale it or leave it out")
    return image


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; TIFF is turned by Pillow itself, PNG counts only where its EXIF precedes the pixels."""
    exif = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exif.load(image.info.get("exif", b""))
            value = exif.get(_ORIENTATION, 1)
    except Exception:  # damaged metadata does not make the pixels unusable
        return 1
    return value if value in range(1, 9) else 1


def _is_plain_jpeg(image: Image.Image) -> bool:
    """Of three colours or grey; OpenCV converts others by other formulas."""
    return image.format == "JPEG" and image.mode in ("RGB", "L")


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) of any mode, not yet upright."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.load()
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        high = (np.asarray(image) >> 8).astype(np.uint8)
        return high[..., None].repeat(3, axis=-1)
    if image.mode in ("I", "F"):
        raise MixdetError(f"pixels are 32-bit ({image.mode}); their range is unknown: save the image with 8 bits")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _upright(pixels: Tensor, orientation: int) -> Tensor:
    """(C, H, W) as displayed: EXIF orientation undone."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 2)
    axes = {2: [2], 3: [1, 2], 4: [1], 6: [2], 7: [1, 2], 8: [1]}.get(orientation, [])
    return pixels.flip(axes) if axes else pixels
