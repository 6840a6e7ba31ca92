"""COCO JSON into packed arrays."""

from __future__ import annotations

import glob
import math
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixdet.data.check import bad_name, clean_boxes, refuse, refuse_wrong_units
from mixdet.data.coco_file import CocoAnnotation, CocoCategory, CocoImage, Id, parse_coco
from mixdet.data.dataset import DetectionDataset
from mixdet.data.images import FileImages, image_size, quoted
from mixdet.errors import MixdetError


def read_coco(path: str | os.PathLike[str], images: str | os.PathLike[str] | None = None) -> DetectionDataset:
    """A COCO file (instances): boxes, categories, crowd flags; masks are skipped unread.

    Classes are ordered by category id, whatever the gaps; ``category_ids`` and ``image_ids`` keep the file's ids.
    ``area`` falls back to the box's, ``iscrowd`` to 0, a missing image size to the file's. Boxes that reach beyond
    their image are clipped and counted in ``notes``.

    Args:
        path: the JSON.
        images: the images' folder. If not given: the JSON's folder, ``images/`` in it or one level up, or a folder
            named after the split (``instances_train.json``: ``train/``, ``train2017/``) there; the one that holds most.

    Raises:
        MixdetError: one line on the first defect: file, id, field, value, fix. Image files are looked at by
            ``check_images``.
    """
    file, shown = parse_coco(path), quoted(path)
    rows = file.annotations
    classes, category_ids = _categories(shown, file.categories)
    positions, image_ids, notes = _images(shown, file.images)
    source = FileImages.from_names(_find_images(path, images, file.images), [image.file_name for image in file.images])
    sizes = _sizes(shown, file.images, source)
    index = _image_index(shown, rows, positions)
    labels = _labels(shown, rows, category_ids)
    boxes, clipped = _boxes(shown, rows, sizes[index])
    unused = [name for label, name in enumerate(classes) if not (labels == label).any()]
    if unused:
        notes.append(f"{shown}: {len(unused)} of {len(classes)} classes have no box: {quoted(', '.join(unused))}")
    return DetectionDataset.from_rows(
        Path(path).name,
        source,
        classes,
        sizes=sizes,
        image_index=index,
        boxes=boxes,
        labels=labels,
        category_ids=category_ids,
        image_ids=image_ids,
        areas=_areas(rows, boxes),
        crowd=np.fromiter((bool(row.iscrowd) for row in rows), bool, len(rows)),
        notes=notes + clipped,
    )


def read_labels(
    path: str | os.PathLike[str], pool: DetectionDataset, classes: Sequence[str], category_ids: NDArray[np.int64]
) -> DetectionDataset:
    """The images of ``pool`` that a COCO file names, with its boxes: labels that a detector gave.

    Args:
        path: the JSON; ``file_name`` is an image's name in ``pool``. Scores are not read.
        pool: images without annotations.
        classes: what is trained on; the file's categories are matched by name.
        category_ids: their ids.

    Raises:
        MixdetError: as ``read_coco``; an image that is not in ``pool``; a category that is not in ``classes``; no box.
    """
    file, shown = parse_coco(path), quoted(path)
    rows = file.annotations
    if not rows:
        raise MixdetError(f"{shown}: annotations = []; there is nothing to learn from: lower the score boxes need")
    names, ids = _categories(shown, file.categories)
    if unknown := [name for name in names if name not in classes]:
        raise MixdetError(f"{shown}: category {quoted(repr(unknown[0]))} is no class of data.labeled; remove it")
    chosen = pool.subset(_places(shown, file.images, pool))
    positions = {image.id: position for position, image in enumerate(file.images)}
    index = _image_index(shown, rows, positions)
    boxes, clipped = _boxes(shown, rows, chosen.sizes[index])
    of_class = np.array([list(classes).index(name) for name in names], np.int64)
    return DetectionDataset.from_rows(
        pool.name,
        chosen.images,
        classes,
        sizes=chosen.sizes,
        image_index=index,
        boxes=boxes,
        labels=of_class[_labels(shown, rows, ids)],
        category_ids=category_ids,
        crowd=np.fromiter((bool(row.iscrowd) for row in rows), bool, len(rows)),
        notes=clipped,
    )


def _places(shown: str, images: list[CocoImage], pool: DetectionDataset) -> list[int]:
    """Where each image is in ``pool``, by its name there; of the same size, and none of them twice."""
    place = {pool.images.name(i): i for i in range(len(pool))}
    taken, ids = set[str](), set[Id]()
    for image in images:
        known = image.file_name
        said = f"{shown}: image {quoted(str(image.id))}: file_name = {quoted(repr(known))}"
        if known not in place:
            raise MixdetError(f"{said} is no image of {pool.name}; label the images anew")
        height, width = pool.sizes[place[known]].tolist()
        if (image.height or height, image.width or width) != (height, width):
            raise MixdetError(
                f"{said} is {image.width:g} x {image.height:g} pixels there, and {width} x {height} in {pool.name}; "
                "label the images anew"
            )
        if image.id in ids or known in taken:
            raise MixdetError(f"{said}: its id or its name is used twice; remove one of them")
        taken.add(known)
        ids.add(image.id)
    return [place[image.file_name] for image in images]


def _label(row: CocoAnnotation) -> str:
    return f"annotation {quoted(str(row.id))} of image {quoted(str(row.image_id))}"


def _categories(shown: str, categories: list[CocoCategory]) -> tuple[list[str], NDArray[np.int64]]:
    """Names and ids, by ascending id."""
    if not categories:
        raise MixdetError(f"{shown}: categories = []; list at least one category")
    categories = sorted(categories, key=lambda category: category.id)
    names = [category.name.strip() for category in categories]
    for k, category in enumerate(categories):
        label, name = f"{shown}: category {category.id}", quoted(repr(category.name))
        if k and categories[k - 1].id == category.id:
            other = quoted(repr(categories[k - 1].name))
            raise MixdetError(f"{label}: the id is used twice, for {other} and {name}; give each category its own id")
        if not names[k] or names[k] in names[:k]:
            problem = "is used twice; merge them or rename one" if names[k] else "is empty; name it"
            raise MixdetError(f"{label}: name = {name} {problem}")
    return names, np.array([category.id for category in categories], np.int64)


def _images(shown: str, images: list[CocoImage]) -> tuple[dict[Id, int], NDArray[np.int64], list[str]]:
    """Id as written -> position, the ids to export, and a note if these are not the file's."""
    if not images:
        raise MixdetError(f"{shown}: images = []; list at least one image")
    positions: dict[Id, int] = {}
    seen: dict[str, int] = {}
    for position, image in enumerate(images):
        if positions.setdefault(image.id, position) != position:
            other, name = (quoted(repr(images[k].file_name)) for k in (positions[image.id], position))
            raise MixdetError(
                f"{shown}: image {quoted(str(image.id))}: the id is used twice, for {other} and {name}; "
                "give each image its own id"
            )
        problem = bad_name(image.file_name)
        first = seen.setdefault(posixpath.normpath(image.file_name), position)
        if not problem and first != position:
            problem = f"belongs to image {quoted(str(images[first].id))} too; remove one of them"
        if problem:
            name = quoted(repr(image.file_name))
            raise MixdetError(f"{shown}: image {quoted(str(image.id))}: file_name = {name} {problem}")
    if all(isinstance(image.id, int) for image in images):
        return positions, np.array([image.id for image in images], np.int64), []
    note = f"{shown}: image ids are text, e.g. {quoted(repr(images[0].id))}; they are exported as 1 to {len(images)}"
    return positions, np.arange(1, len(images) + 1), [note]


def _sizes(shown: str, images: list[CocoImage], source: FileImages) -> NDArray[np.int32]:
    """(N, 2) (height, width); read from the image where the JSON has none."""
    sizes = np.zeros((len(images), 2), np.int32)
    for i, image in enumerate(images):
        if image.width is None or image.height is None:
            sizes[i] = image_size(source.path(i))
            continue
        for field, value in (("width", image.width), ("height", image.height)):
            if not (1 <= value < 2**31 and value == int(value)):
                raise MixdetError(
                    f"{shown}: image {quoted(str(image.id))}: {field} = {value:g}; write the image's {field} in pixels"
                )
        sizes[i] = int(image.height), int(image.width)
    return sizes


def _image_index(shown: str, rows: list[CocoAnnotation], positions: dict[Id, int]) -> NDArray[np.int64]:
    """(M,) the position of each annotation's image."""
    index = np.fromiter((positions.get(row.image_id, -1) for row in rows), np.int64, len(rows))
    refuse(
        index < 0,
        lambda k: (
            f"{shown}: {_label(rows[k])}: image_id = {quoted(repr(rows[k].image_id))} is no image of this file; "
            "add the image or remove the annotation"
        ),
    )
    return index


def _labels(shown: str, rows: list[CocoAnnotation], category_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """(M,) in [0, K)."""
    label_of = {int(category): label for label, category in enumerate(category_ids)}
    labels = np.fromiter((label_of.get(row.category_id, -1) for row in rows), np.int64, len(rows))
    refuse(
        labels < 0,
        lambda k: (
            f"{shown}: {_label(rows[k])}: category_id = {rows[k].category_id} is no category of this file "
            f"({quoted(str(category_ids.tolist()))}); add the category or correct the id"
        ),
    )
    return labels


def _boxes(shown: str, rows: list[CocoAnnotation], sizes: NDArray[np.int32]) -> tuple[NDArray[np.float32], list[str]]:
    """(M, 4) xyxy, and notes."""
    xywh = np.array([row.bbox for row in rows], np.float64).reshape(-1, 4)
    refuse_wrong_units(shown, xywh, sizes)
    with np.errstate(over="ignore"):
        boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    return clean_boxes(
        shown, boxes, sizes, lambda k: f"{shown}: {_label(rows[k])}: bbox = {quoted(str(list(rows[k].bbox)))}"
    )


def _areas(rows: list[CocoAnnotation], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(M,) as annotated (the mask's), else the box's."""
    areas = np.fromiter((math.nan if row.area is None else row.area for row in rows), np.float64, len(rows))
    extent = boxes[:, 2:] - boxes[:, :2]
    return np.where((areas > 0) & (areas < 1e14), areas, extent[:, 0] * extent[:, 1]).astype(np.float32)


def _find_images(path: str | os.PathLike[str], images: str | os.PathLike[str] | None, entries: list[CocoImage]) -> Path:
    """The folder that holds most of some of the images, the first such."""
    folders = [Path(images)] if images is not None else _candidates(Path(path))
    sample = [entry.file_name for entry in entries[:: max(1, len(entries) // 20)]]
    found = [sum(os.path.lexists(folder / name) for name in sample) for folder in folders]
    if max(found) == 0:
        searched = ", ".join(quoted(folder) for folder in folders)
        raise MixdetError(
            f"{quoted(path)}: image {quoted(str(entries[0].id))}: file_name = {quoted(repr(sample[0]))} and the others "
            f"are not in {searched}; say where they are: data.labeled.images=FOLDER "
            "(data.val.images, data.test.images), or --images FOLDER of mixdet split and tiles"
        )
    return folders[found.index(max(found))]


def _candidates(path: Path) -> list[Path]:
    """Folders beside the JSON in which its images may be."""
    split = path.stem.removeprefix("instances_")
    near, up = path.parent, path.parent.parent
    folders = [near, near / "images", up / "images"]
    for base in (near, up, near / "images", up / "images"):
        named = [
            base / split,
            base / split.rstrip("0123456789"),
            *sorted(base.glob(f"{glob.escape(split)}20[0-9][0-9]")),
        ]
        folders += [folder for folder in named if folder.is_dir()]
    return list(dict.fromkeys([*folders, up]))
