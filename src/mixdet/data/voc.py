"""PASCAL VOC folders into packed arrays."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixdet.data.check import bad_name, clean_boxes, nearest
from mixdet.data.dataset import DetectionDataset
from mixdet.data.images import FileImages, image_size, quoted, regular_file
from mixdet.errors import MixdetError

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class _Object:
    name: str
    corners: tuple[float, float, float, float]  # as written
    difficult: bool
    label: str  # file and object, for messages


def read_voc(spec: str) -> DetectionDataset:
    """A split of one or more VOC folders: ``<root>/VOC2007:trainval``, ``<root>/VOC2007+2012:trainval``.

    A folder of any name will do that holds ``Annotations/``, ``JPEGImages/`` and ``ImageSets/Main/<split>.txt``. Pixels
    are counted from 1 in VOC and ``xmax``, ``ymax`` are the last ones inside, so 1 is subtracted from ``xmin`` and
    ``ymin`` (as detectron2 does): [1, 1, w, h] becomes [0, 0, w, h]. ``<part>`` boxes are no objects. Classes are the
    standard 20 in their order, or, if any other name occurs, all names in the folders' annotations, sorted: the same
    for every split. Image ids are 1..N; images are named from ``<root>``.

    Raises:
        MixdetError: one line on the first defect: file, object, field, value, fix.
    """
    folders, split = _folders(spec, ("Annotations", "JPEGImages"))
    names: list[str] = []
    sizes: list[tuple[int, int]] = []
    objects: list[_Object] = []
    index: list[int] = []
    for folder in folders:
        present = _images_by_stem(folder)
        for stem in _stems(folder, split, annotated=True):
            size, found = _read_annotation(folder / "Annotations" / f"{stem}.xml")
            file = _file_of(stem, present, folder)
            index += [len(names)] * len(found)
            objects += found
            sizes.append(size or image_size(folder / "JPEGImages" / file))
            names.append(f"{folder.name}/JPEGImages/{file}")
    return _pack(spec, folders, names, sizes, objects, index)


def voc_images(spec: str) -> list[Path]:
    """The image files of a split, from its list of names alone: no annotation is opened."""
    folders, split = _folders(spec, ("JPEGImages",))
    files = []
    for folder in folders:
        present = _images_by_stem(folder)
        stems = _stems(folder, split, annotated=False)
        files += [folder / "JPEGImages" / _file_of(stem, present, folder) for stem in stems]
    return files


def is_voc(spec: str) -> bool:
    """Whether ``spec`` names VOC folders, with or without a split."""
    path = Path(spec.rpartition(":")[0] or spec)
    return ("VOC" in path.name and not path.is_file()) or (path / "Annotations").is_dir()


def voc_folders(path: Path) -> list[Path]:
    """The folders that a path stands for: ``VOC2007+2012`` for VOC2007 and VOC2012, unless a folder is called so."""
    first, *others = [path.name] if path.is_dir() else path.name.split("+")
    stem = first.rstrip("0123456789")
    return [path.with_name(name) for name in (first, *(stem + other for other in others))]


def _pack(
    spec: str,
    folders: list[Path],
    names: list[str],
    sizes: list[tuple[int, int]],
    objects: list[_Object],
    index: list[int],
) -> DetectionDataset:
    classes = _classes(folders, {found.name for found in objects})
    label_of = {name: label for label, name in enumerate(classes)}
    rows = np.array([found.corners for found in objects], np.float64).reshape(-1, 4)
    boxes, notes = clean_boxes(
        spec,
        rows - [1, 1, 0, 0],
        np.array(sizes, np.int32).reshape(-1, 2)[index],
        lambda k: (
            f"{objects[k].label}: bndbox = "
            + ", ".join(f"{field} {value:g}" for field, value in zip(_CORNERS, objects[k].corners, strict=True))
        ),
    )
    return DetectionDataset.from_rows(
        os.path.basename(spec),
        FileImages.from_names(folders[0].parent, names, homes=[folder / "JPEGImages" for folder in folders]),
        classes,
        sizes=sizes,
        image_index=index,
        boxes=boxes,
        labels=[label_of[found.name] for found in objects],
        difficult=[found.difficult for found in objects],
        notes=notes,
    )


def _folders(spec: str, parts: Iterable[str]) -> tuple[list[Path], str]:
    """The VOC folders, each with its ``parts``, and the split."""
    path, colon, split = spec.rpartition(":")
    if not (colon and path and split):
        raise MixdetError(
            f"{quoted(spec)}: names no split; write it after a colon, e.g. {quoted(spec.rstrip(':'))}:train"
        )
    if problem := bad_name(split):
        raise MixdetError(f"{quoted(spec)}: split = {quoted(repr(split))} {problem}")
    folders = voc_folders(Path(path))
    for folder in folders:
        for part in parts:
            if not (folder / part).is_dir():
                raise MixdetError(f"{quoted(spec)}: there is no folder {quoted(folder / part)}; check the path")
    return folders, split


def _stems(folder: Path, split: str, *, annotated: bool) -> list[str]:
    """The image names of a split, without extension; ``annotated``: each has an annotation file."""
    file = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not file.exists():
        there = ", ".join(sorted(p.stem for p in file.parent.glob("*.txt") if "_" not in p.stem)) or "none"
        raise MixdetError(f"{quoted(file)}: no such file; the splits there are: {quoted(there)}")
    stems = [line.strip() for line in _text(regular_file(file)).splitlines() if line.strip()]
    if not stems:
        raise MixdetError(f"{quoted(file)}: the file is empty; write one image name a line")
    seen: dict[str, int] = {}
    for number, stem in enumerate(stems, 1):
        line = f"{quoted(file)}: entry {number}: {quoted(repr(stem))}"
        if problem := bad_name(stem):
            raise MixdetError(f"{line} {problem}")
        if seen.setdefault(stem, number) != number:
            raise MixdetError(f"{line} is entry {seen[stem]} too; remove one")
        if re.search(r"\s-?[01]$", stem):
            raise MixdetError(f"{line} looks like a line of a list for one class; name a split for all")
        if annotated and not (folder / "Annotations" / f"{stem}.xml").exists():
            raise MixdetError(f"{line} has no file in {quoted(folder / 'Annotations')}; add or remove it")
    return stems


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise MixdetError(f"{quoted(file)}: the text is not UTF-8; save it as UTF-8") from None


def _images_by_stem(folder: Path) -> dict[str, str]:
    """Stem -> file name in JPEGImages; of several the first by name: ``.jpg``, then ``.png``."""
    with os.scandir(folder / "JPEGImages") as entries:
        names = sorted((entry.name for entry in entries), reverse=True)
    return {os.path.splitext(name)[0]: name for name in names}


def _file_of(stem: str, present: dict[str, str], folder: Path) -> str:
    if stem not in present:
        alike = nearest(stem, present)
        hint = f"did you mean {quoted(present[alike])}?" if alike else "add the image, or remove the line"
        raise MixdetError(f"{quoted(folder / 'JPEGImages' / stem)}.jpg: no such file; {hint}")
    return present[stem]


def _classes(folders: Iterable[Path], names: set[str]) -> tuple[str, ...]:
    if names <= set(VOC_CLASSES):
        return VOC_CLASSES
    for folder in folders:
        for file in sorted((folder / "Annotations").glob("*.xml")):
            names = names | {found.name for found in _read_annotation(file)[1]}
    return tuple(sorted(names))


class _NoDoctype(ET.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise MixdetError("has a DOCTYPE, which can make a small file unfold into gigabytes; remove it")


def _read_annotation(file: Path) -> tuple[tuple[int, int] | None, list[_Object]]:
    """(height, width) if the file has it, and its objects."""
    shown = quoted(file)
    parser = ET.XMLParser(target=_NoDoctype())
    try:
        parser.feed(regular_file(file).read_bytes())
        root: ET.Element = parser.close()
    except ET.ParseError as fault:
        raise MixdetError(f"{shown}: is not well-formed XML ({fault}); correct the file") from None
    except MixdetError as fault:
        raise MixdetError(f"{shown}: {fault}") from None
    except (ValueError, LookupError) as fault:  # an unknown encoding
        raise MixdetError(f"{shown}: {quoted(str(fault))}; save the file as UTF-8") from None
    size = tuple(_number(shown, root, f"size/{side}", "0") for side in ("height", "width"))
    objects = [
        _read_object(f"{shown}: object {number}", element) for number, element in enumerate(root.findall("object"), 1)
    ]
    return (int(size[0]), int(size[1])) if min(size) >= 1 else None, objects


def _read_object(label: str, element: ET.Element) -> _Object:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise MixdetError(f"{label}: name is missing; write the class")
    label = f"{label} ({quoted(name)})"
    if element.find("bndbox") is None:
        raise MixdetError(f"{label}: bndbox is missing; write xmin, ymin, xmax, ymax, or remove the object")
    x1, y1, x2, y2 = (_number(label, element, f"bndbox/{field}") for field in _CORNERS)
    if x2 < x1 or y2 < y1:
        low, high, a, b = ("xmin", "xmax", x1, x2) if x2 < x1 else ("ymin", "ymax", y1, y2)
        raise MixdetError(f"{label}: {low} = {a:g} is larger than {high} = {b:g}; swap or correct them")
    return _Object(name, (x1, y1, x2, y2), _number(label, element, "difficult", "0") != 0, label)


def _number(label: str, element: ET.Element, field: str, default: str | None = None) -> float:
    """The number at ``field``; ``default`` if it is missing or empty, an error without one."""
    text = (element.findtext(field) or "").strip() or default
    if text is None:
        raise MixdetError(f"{label}: {field} is missing; write a number in pixels")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise MixdetError(f"{label}: {field} = {quoted(repr(text))} is no finite number; write a number such as 12.5")
    return value
