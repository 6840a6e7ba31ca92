"""Stand-in data: a few drawn JPEG files in the form that a recipe's data has, to try the recipe where its data is not.

A VOC folder gets the standard 20 classes, one XML an image with difficult objects and a person's parts; a COCO file
80 categories with the gaps in their ids that COCO's have, and crowd boxes. Images are of the sizes of photographs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mixdet.data.dataset import DetectionDataset
from mixdet.data.images import quoted
from mixdet.data.voc import VOC_CLASSES, voc_folders
from mixdet.errors import MixdetError

COCO_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_IDS = tuple(number for number in range(1, 91) if number not in COCO_GAPS)
SIZES = ((375, 500), (500, 375), (427, 640), (640, 480), (333, 500), (500, 334))  # (height, width) of photographs
OBJECTS = 5  # an image, of consecutive classes; four images in a row show all
SHOWN = len(VOC_CLASSES)  # classes that have boxes, of however many

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class DrawnObject:
    """A rectangle in an image.

    Attributes:
        label: class, in [0, K).
        box: x1, y1, x2, y2 in whole pixels.
        odd: whether it is marked as difficult, or as a crowd.
    """

    label: int
    box: Box
    odd: bool


@dataclass(frozen=True)
class Drawn:
    """An image and what is in it."""

    image: Image.Image
    objects: tuple[DrawnObject, ...]


def draw_images(count: int, num_classes: int, seed: int = 0) -> Iterator[Drawn]:
    """``count`` images of coloured rectangles, each class with its colour, in the sizes of photographs in turn.

    Args:
        count: images; four or more show ``min(SHOWN, num_classes)`` classes, spread over all.
        num_classes: K.
        seed: of positions and colours.
    """
    rng = np.random.default_rng(seed)
    classes = np.unique(np.linspace(0, num_classes - 1, min(SHOWN, num_classes)).astype(int)).tolist()
    colours = np.random.default_rng(0).integers(0, 256, (num_classes, 3)).tolist()
    for index in range(count):
        height, width = SIZES[index % len(SIZES)]
        coarse = rng.integers(60, 196, (height // 40, width // 40, 3)).astype(np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)
        pen = ImageDraw.Draw(image)
        objects = []
        for number in range(OBJECTS + index % 2):
            label = classes[(index * OBJECTS + number) % len(classes)]
            x1, y1 = int(rng.integers(0, width // 2)), int(rng.integers(0, height // 2))
            x2, y2 = int(rng.integers(x1 + width // 8, width)), int(rng.integers(y1 + height // 8, height))
            pen.rectangle((x1, y1, x2 - 1, y2 - 1), fill=tuple(colours[label]))
            objects.append(DrawnObject(label, (x1, y1, x2, y2), odd=number == OBJECTS))
        yield Drawn(image, tuple(objects))


def write_voc(spec: str, count: int, seed: int = 0) -> None:
    """Add a split to VOC folders, made if they are missing: ``<root>/VOC2007+2012:trainval``.

    Args:
        spec: as ``read_voc`` takes it.
        count: images, dealt over the folders.
        seed: of the drawing.
    """
    path, _, split = spec.rpartition(":")
    folders = voc_folders(Path(path))
    for folder in folders:
        for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (folder / part).mkdir(parents=True, exist_ok=True)
    stems: dict[Path, list[str]] = {folder: [] for folder in folders}
    for index, drawn in enumerate(draw_images(count, len(VOC_CLASSES), seed)):
        folder, stem = folders[index % len(folders)], f"{split}_{index:06d}"
        drawn.image.save(folder / "JPEGImages" / f"{stem}.jpg", quality=80)
        (folder / "Annotations" / f"{stem}.xml").write_text(_voc_xml(f"{stem}.jpg", drawn), "utf-8")
        stems[folder].append(stem)
    for folder, names in stems.items():
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), "utf-8")


def write_coco(path: Path, images: Path, count: int, seed: int = 0) -> None:
    """Write a COCO file of instances, and its images.

    Args:
        path: of the JSON.
        images: folder of the images.
        count: images; the last has no objects.
        seed: of the drawing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, drawn in enumerate(draw_images(count, len(COCO_IDS), seed)):
        number = 1000 + 7 * index
        name, (width, height) = f"{number:012d}.jpg", drawn.image.size
        drawn.image.save(images / name, quality=80)
        entries.append({"id": number, "file_name": name, "width": width, "height": height})
        for found in drawn.objects if index < count - 1 else ():
            x1, y1, x2, y2 = found.box
            extent = [x1, y1, x2 - x1, y2 - y1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": COCO_IDS[found.label],
                    "bbox": extent,
                    "area": extent[2] * extent[3] * 0.8,  # a mask is smaller than its box
                    "iscrowd": int(found.odd),
                    "segmentation": [],
                }
            )
    categories = [{"id": number, "name": f"category {number}", "supercategory": "thing"} for number in COCO_IDS]
    whole = {"info": {}, "licenses": [], "images": entries, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(whole), "utf-8")


def stand_in(path: str, images: str | None, root: Path, count: int, seed: int = 0) -> tuple[str, str | None]:
    """Data of the form of ``path`` under ``root``; drawn scenes stand for themselves, fewer of them.

    Args:
        path: of a recipe's data set; what is there is not looked at.
        images: the recipe's folder of images, or None.
        root: where to write.
        count: images.
        seed: of the drawing.

    Returns:
        What takes the place of ``path`` and of ``images``.

    Raises:
        MixdetError: a path of no known form.
    """
    if path.startswith("scenes:"):
        words = [word for word in path.split(",") if not word.startswith("count=")]
        return ",".join([*words, f"count={count}"]), images
    if path.lower().endswith(".json"):
        file = root / _name(Path(path).parent) / Path(path).name
        folder = root / (file.stem.removeprefix("instances_") if images is None else _name(Path(images)))
        write_coco(file, folder, count, seed)
        return str(file), None if images is None else str(folder)
    folder_name, colon, split = path.rpartition(":")
    if not (colon and folder_name and split):
        raise MixdetError(
            f"{quoted(path)}: no stand-in for data of this form; give a COCO file, a VOC folder with a split, or scenes"
        )
    spec = f"{root / _name(Path(folder_name).parent) / Path(folder_name).name}:{split}"
    write_voc(spec, count, seed)
    return spec, images


def stand_in_pool(path: str, images: str | None, root: Path, count: int, seed: int = 0) -> tuple[str, str | None]:
    """Unlabelled images of the form of ``path`` under ``root``; arguments and result as ``stand_in``."""
    if path.startswith("scenes:") or (path.rpartition(":")[0] and not path.endswith(".txt")):
        return stand_in(path, images, root, count, seed)
    folder = root / _name(Path(path).with_suffix(""))
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"unlabeled_{index:06d}.jpg" for index in range(count)]
    for name, drawn in zip(names, draw_images(count, len(COCO_IDS), seed), strict=True):
        drawn.image.save(folder / name, quality=80)
    if not path.endswith(".txt"):
        return str(folder), images
    listed = folder / Path(path).name
    listed.write_text("".join(f"{name}\n" for name in names), "utf-8")
    return str(listed), None


def stand_in_labels(pool: DetectionDataset, classes: Sequence[str], path: Path) -> str:
    """Write a COCO file of one box in each image of ``pool``, classes in turn; its path."""
    images = [
        {"id": i + 1, "file_name": pool.images.name(i), "width": int(w), "height": int(h)}
        for i, (h, w) in enumerate(pool.sizes)
    ]
    annotations = [
        {"id": i + 1, "image_id": i + 1, "category_id": i % len(classes) + 1, "bbox": [w / 4, h / 4, w / 2, h / 2]}
        for i, (h, w) in enumerate(pool.sizes.tolist())
    ]
    categories = [{"id": k, "name": name} for k, name in enumerate(classes, start=1)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}), "utf-8")
    return str(path)


def _name(folder: Path) -> str:
    """The last name of a folder: enough to recognise it by."""
    return folder.name or "data"


def _voc_xml(file_name: str, drawn: Drawn) -> str:
    width, height = drawn.image.size
    objects = "".join(_voc_object(found) for found in drawn.objects)
    return (
        f"<annotation><folder>VOC</folder><filename>{file_name}</filename>"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        f"<segmented>0</segmented>{objects}</annotation>\n"
    )


def _voc_object(found: DrawnObject) -> str:
    name = VOC_CLASSES[found.label]
    part = f"<part><name>head</name>{_voc_box(found.box)}</part>" if name == "person" else ""
    return (
        f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated>"
        f"<difficult>{int(found.odd)}</difficult>{_voc_box(found.box)}{part}</object>"
    )


def _voc_box(box: Sequence[int]) -> str:
    """Pixels counted from 1, the last one inside."""
    corners = zip(("xmin", "ymin", "xmax", "ymax"), (box[0] + 1, box[1] + 1, box[2], box[3]), strict=True)
    return f"<bndbox>{''.join(f'<{name}>{value}</{name}>' for name, value in corners)}</bndbox>"
