"""Every defect before step 1: what readers refuse, what they repair and count, and whether all images are there.

A defect is a ``MixdetError`` of one line: file, image or annotation, field, value, fix, and how many more there are of
its kind. Nothing of the user's is ever changed.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
import unicodedata
from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixdet.data.dataset import DetectionDataset, SelectedImages
from mixdet.data.images import FileImages, image_size, quoted, read_image
from mixdet.errors import MixdetError

_CONTROL = ("Cc", "Cs", "Zl", "Zp")  # of Unicode's categories
_TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")  # with which a name can look like another
_FARTHEST = 1e7  # no image is that many pixels wide
_PIXELS = "coordinates must be absolute pixels [x, y, width, height]"


def refuse(bad: ArrayLike, line: Callable[[int], str]) -> None:
    """Raise for the first true row of ``bad``.

    Args:
        bad: (M,) bool, which rows have the defect.
        line: row -> its whole message.

    Raises:
        MixdetError: ``line(first)``, and how many more rows there are.
    """
    rows = np.flatnonzero(bad)
    if len(rows):
        more = f" (and {len(rows) - 1} more like this)" if len(rows) > 1 else ""
        raise MixdetError(f"{line(int(rows[0]))}{more}")


def bad_name(name: str) -> str | None:
    """Why a relative file name of an annotation file must not be opened, and the fix; None if it is fine."""
    if not name.strip():
        return "is empty; write the image's file name"
    if holds_control(name):
        return "holds control characters; rename the file"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name):
        return "is a URL; download the image and write its file name"
    if "\\" in name:
        return "holds a backslash; write folders with '/'"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "is an absolute path; write it relative to the images' folder"
    if ".." in name.split("/"):
        return "leaves the images' folder; write it relative to the images' folder, without '..'"
    return None


def holds_control(name: str) -> bool:
    """Whether a name holds control characters, line ends, turns of direction, or bytes that are not UTF-8."""
    return any(unicodedata.category(c) in _CONTROL or unicodedata.bidirectional(c) in _TURNS for c in name)


def nearest(name: str, names: Collection[str]) -> str | None:
    """What a wrong ``name`` was perhaps meant to be: one that differs in case only, or a similar one."""
    for known in names:
        if known.casefold() == name.casefold():
            return known
    return next(iter(difflib.get_close_matches(name, itertools.islice(names, 10_000), 1)), None)  # slow if unlimited


def refuse_wrong_units(file: str, xywh: NDArray[np.float64], sizes: NDArray[np.int32]) -> None:
    """Raise where all boxes of a file look as if they were written in another convention.

    Args:
        file: for the message.
        xywh: (M, 4) as written, finite or not.
        sizes: (M, 2) (height, width) of each box's image.

    Raises:
        MixdetError: if all boxes look normalised to [0, 1], or all look like corners (x1, y1, x2, y2).
    """
    if len(xywh) == 0:
        return
    first = quoted(str(xywh[0].tolist()))
    if ((xywh >= 0) & (xywh <= 1)).all():
        raise MixdetError(
            f"{file}: annotations: all {len(xywh)} boxes lie in [0, 1], e.g. bbox = {first}: this looks like "
            f"coordinates divided by the image size; {_PIXELS}: multiply by width and height"
        )
    limits = sizes[:, ::-1]  # (w, h)
    corners = ((xywh[:, 2:] > xywh[:, :2]) & (xywh[:, 2:] <= limits + 1)).all()
    outside = (xywh[:, :2] + xywh[:, 2:] > limits + 1).any(axis=1)
    if len(xywh) >= 4 and corners and outside.mean() > 0.1:
        raise MixdetError(
            f"{file}: annotations: {outside.sum()} of {len(xywh)} boxes leave their image, e.g. bbox = {first}, but "
            f"all would fit as [x1, y1, x2, y2]: this looks like corners; {_PIXELS}: subtract x1 and y1 from the others"
        )


def clean_boxes(
    file: str, boxes: NDArray[np.float64], sizes: NDArray[np.int32], describe: Callable[[int], str]
) -> tuple[NDArray[np.float32], list[str]]:
    """Boxes one can train on: refused if senseless, clipped to their image if they reach beyond it.

    Args:
        file: for the notes.
        boxes: (M, 4) xyxy.
        sizes: (M, 2) (height, width) of each box's image.
        describe: row -> file, annotation, field and value, as the file has them.

    Returns:
        (M, 4) float32 xyxy inside their images, and notes on what was clipped.

    Raises:
        MixdetError: for a box that is not finite, larger than any image, without extent, or wholly outside.
    """
    limits = sizes[:, ::-1].astype(np.float64)
    wrong = ~np.isfinite(boxes).all(axis=1)
    refuse(wrong, lambda k: f"{describe(k)} is not finite; write numbers in pixels, or remove it")
    wrong = (np.abs(boxes) > _FARTHEST).any(axis=1)
    refuse(wrong, lambda k: f"{describe(k)} is larger than any image; write numbers in pixels, or remove it")
    extent = boxes[:, 2:] - boxes[:, :2]
    wrong = (extent <= 0).any(axis=1)
    refuse(
        wrong,
        lambda k: (
            f"{describe(k)} has width {extent[k, 0]:g} and height {extent[k, 1]:g}; both must be positive: "
            "correct or remove it"
        ),
    )
    clipped = np.clip(boxes, 0, np.tile(limits, 2)).astype(np.float32)
    wrong = (clipped[:, 2:] <= clipped[:, :2]).any(axis=1)
    refuse(
        wrong,
        lambda k: (
            f"{describe(k)} lies outside its image of width {limits[k, 0]:g} and height {limits[k, 1]:g} (or is "
            "thinner than a float can say); correct or remove it"
        ),
    )
    beyond = np.flatnonzero((np.abs(clipped - boxes) > 1).any(axis=1))  # up to a pixel is rounding
    if len(beyond) == 0:
        return clipped, []
    return clipped, [
        f"{file}: {len(beyond)} of {len(boxes)} boxes clipped to their images; first: {describe(int(beyond[0]))}"
    ]


def check_images(dataset: DetectionDataset, *, decode: bool = False) -> None:
    """Check every image file of ``dataset``: there, regular, in its ``homes``, readable, of the annotated size.

    Only headers are read, so that a data set of COCO's size takes a minute at most. Drawn images pass.

    Args:
        dataset: whose images are files, or not.
        decode: also decode every image: finds truncated files, and takes as long as one epoch of reading.

    Raises:
        MixdetError: for the first defect, with the number of images that have one.
    """
    if found := image_defects(dataset, decode=decode):
        index, line = next(iter(found.items()))
        more = f" (and {len(found) - 1} more images with a defect)" if len(found) > 1 else ""
        raise MixdetError(f"{dataset.name}: image {dataset.image_ids[index]}: {line}{more}")


def image_defects(dataset: DetectionDataset, *, decode: bool = False) -> dict[int, str]:
    """What ``check_images`` would refuse: place in ``dataset`` -> a line."""
    source, positions = dataset.images, np.arange(len(dataset))
    if isinstance(source, SelectedImages):
        positions, source = source.indices, source.source
    if not isinstance(source, FileImages):
        return {}
    found, homes = dict[int, str](), [os.path.join(os.path.realpath(home), "") for home in source.homes]
    for i, position in enumerate(positions):
        try:
            _check_file(homes, source.path(int(position)), dataset.sizes[i], decode)
        except MixdetError as fault:
            found[i] = str(fault)
    return found


def _check_file(homes: list[str], path: str, size: NDArray[np.int32], decode: bool) -> None:
    if homes and not os.path.realpath(path).startswith(tuple(homes)):
        raise MixdetError(f"{quoted(path)}: is a link out of the images' folder; copy the file there")
    if not os.path.lexists(path):
        raise MixdetError(f"{quoted(path)}: no such file; {_nearest_file(path)}")
    found = image_size(path)
    if decode:
        read_image(path)
    if found == tuple(size):
        return
    fix = "annotate the image as it is and correct width and height"
    if found == tuple(size[::-1]):
        fix = "if EXIF turns it, annotate it as displayed, or remove its orientation tag"
    raise MixdetError(
        f"{quoted(path)}: annotated as width {size[1]} and height {size[0]}, but the file is displayed with width "
        f"{found[1]} and height {found[0]}; {fix}"
    )


def _nearest_file(path: str) -> str:
    """What to do about a missing file: the name that differs in case only, or nearly."""
    folder, name = os.path.split(path)
    try:
        present = os.listdir(folder)
    except OSError:
        return f"there is no folder {quoted(folder)}"
    alike = [p for p in present if p.casefold() == name.casefold()] or difflib.get_close_matches(
        name, present[:5000], 1
    )
    return f"did you mean {quoted(alike[0])}?" if alike else "add it, or remove its entry"
