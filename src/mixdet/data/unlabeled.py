"""Images without annotations: folders, lists of files, splits of VOC folders, drawn scenes.

No annotation file is ever opened for them, so that labels cannot leak into training.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixdet.data.dataset import DetectionDataset, ImageSource
from mixdet.data.images import FileImages, image_size, quoted, regular_file
from mixdet.data.voc import is_voc, voc_images
from mixdet.errors import MixdetError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def open_unlabeled(path: str, images: str | None = None) -> DetectionDataset:
    """The images that ``path`` describes, without annotations and classes.

    Args:
        path: a folder, searched with all below it; a ``.txt`` file with one image a line; ``<folder>:<split>`` of VOC,
            of which the list of names is read; ``scenes:<style>`` and what may follow it.
        images: folder that the lines of a list are relative to, if not the list's own.

    Raises:
        MixdetError: a path of no such form, no images, a file that is no image.
    """
    place = Path(path)
    if images is not None and place.suffix.lower() != ".txt":
        raise MixdetError(f"images = {quoted(images)}: goes with a list of images only, not with {quoted(path)}")
    if path.startswith("scenes:"):
        from mixdet.data.scenes import open_scenes  # drawing is not needed by those who bring data

        drawn = open_scenes(path.removeprefix("scenes:"))
        return _without_annotations(drawn.name, drawn.images, drawn.sizes)
    if place.suffix.lower() == ".json":
        raise MixdetError(
            f"{quoted(path)}: unlabelled images need no annotations; give a folder of images, or a .txt list of them "
            "(mixdet split writes one)"
        )
    if is_voc(path) and not place.is_dir():
        return images_of_files(voc_images(path), name=os.path.basename(path), skip_unreadable=True)
    if (place / "JPEGImages").is_dir() and (place / "ImageSets").is_dir():
        raise MixdetError(
            f"{quoted(path)}: is a VOC folder, with masks beside its photographs; name a split, as in "
            f"{quoted(path)}:trainval, or its images, {quoted(place / 'JPEGImages')}"
        )
    if place.suffix.lower() == ".txt" and not place.is_dir():
        return images_of_files(
            _listed(place, Path(os.path.realpath(images)) if images else Path(os.path.realpath(place)).parent),
            name=place.name,
            skip_unreadable=True,
        )
    return images_of_files([place], name=place.name or path, skip_unreadable=True)


def images_of_files(
    paths: Sequence[Path],
    *,
    name: str = "images",
    classes: Sequence[str] = (),
    category_ids: Sequence[int] | None = None,
    skip_unreadable: bool = False,
) -> DetectionDataset:
    """Image files, and all image files below folders, as a data set without annotations.

    Args:
        paths: files and folders; hidden files and folders are passed over.
        name: of the data set.
        classes: K names, where what is found in the images will be written down.
        category_ids: their ids in files.
        skip_unreadable: leave files that are no images out, and say so in a note, unless none is one.

    Raises:
        MixdetError: a path that does not exist, a folder without images, a file that is no image.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = _below(path)
            if not below:
                raise MixdetError(f"{quoted(path)}: no images in this folder ({', '.join(SUFFIXES)})")
            files += below
        elif path.exists():
            files.append(path)
        else:
            raise MixdetError(f"{quoted(path)}: no such file or folder; give images, or folders of images")
    unique = list(dict.fromkeys(os.path.abspath(file) for file in files))
    sizes, faults = dict[str, tuple[int, int]](), list[MixdetError]()
    for file in unique:
        try:
            sizes[file] = image_size(file)
        except MixdetError as fault:
            faults.append(fault)
    if faults and not (sizes and skip_unreadable):
        raise faults[0]
    root = os.path.commonpath([os.path.dirname(file) for file in sizes])
    source = FileImages.from_names(root, [os.path.relpath(file, root) for file in sizes], homes=())
    dataset = _without_annotations(name, source, np.array([*sizes.values()], np.int32), classes, category_ids)
    return passed_over(dataset, len(unique), [str(fault) for fault in faults])


def passed_over(dataset: DetectionDataset, count: int, lines: Sequence[str]) -> DetectionDataset:
    """``dataset`` with a note that of ``count`` images so many were not readable; ``lines`` says of each why."""
    if not lines:
        return dataset
    note = f"{dataset.name}: {len(lines)} of {count} unlabelled images cannot be read and were passed over: {lines[0]}"
    return replace(dataset, notes=(*dataset.notes, note))


def _below(folder: Path) -> list[Path]:
    """Images in ``folder`` and the folders in it, linked ones too, each folder once; no link leads out upwards."""
    above = Path(os.path.realpath(folder)).parents
    found, seen = [], {str(parent) for parent in above}
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()  # a link in a circle, or to a folder around this one
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(root, name) for name in sorted(files) if _is_image_name(name)]
    return found


def _is_image_name(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _listed(file: Path, folder: Path) -> list[Path]:
    """The images a text file names, one a line, relative to ``folder`` or absolute."""
    try:
        lines = regular_file(file).read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise MixdetError(f"{quoted(file)}: the text is not UTF-8; write one image a line") from None
    names = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    if not names:
        raise MixdetError(f"{quoted(file)}: the file is empty; write one image a line")
    for number, name in names.items():
        if not (folder / name).is_file():
            raise MixdetError(
                f"{quoted(file)}: line {number}: {quoted(repr(name))}: no such file in {quoted(folder)}; correct the "
                "line, or name the folder that the lines are relative to: data.unlabeled.images=FOLDER"
            )
    return [folder / name for name in names.values()]


def _without_annotations(
    name: str,
    images: ImageSource,
    sizes: NDArray[np.int32],
    classes: Sequence[str] = (),
    category_ids: Sequence[int] | None = None,
) -> DetectionDataset:
    nothing = np.zeros(0)
    return DetectionDataset.from_rows(
        name,
        images,
        classes,
        sizes=sizes,
        image_index=nothing,
        boxes=nothing,
        labels=nothing,
        category_ids=category_ids,
    )
