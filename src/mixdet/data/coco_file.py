"""The typed parse of a COCO JSON, which never builds the masks, and what is wrong where it fails."""

from __future__ import annotations

import json
import math
import os
import re
from typing import Annotated, Any

import msgspec

from mixdet.data.images import quoted, regular_file
from mixdet.errors import MixdetError

Int = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Id = Int | str


class CocoImage(msgspec.Struct, gc=False):
    id: Id
    file_name: str
    width: float | None = None
    height: float | None = None


class CocoAnnotation(msgspec.Struct, gc=False):
    image_id: Id
    category_id: Int
    bbox: tuple[float, float, float, float]
    id: Id | None = None
    area: float | None = None
    iscrowd: int | bool | None = None


class CocoCategory(msgspec.Struct, gc=False):
    id: Int
    name: str


class CocoFile(msgspec.Struct, gc=False):
    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory]


class _Sections(msgspec.Struct):
    """The same lists, their items unparsed: to find the one that is wrong."""

    images: list[msgspec.Raw] = msgspec.field(default_factory=list)
    annotations: list[msgspec.Raw] = msgspec.field(default_factory=list)
    categories: list[msgspec.Raw] = msgspec.field(default_factory=list)


_FIXES = {
    "bbox": "write four numbers [x, y, width, height] in pixels",
    "file_name": "write the image's file name as text",
    "name": "write the category's name as text",
    "id": "write an integer",
    "image_id": "write the id of an image",
    "category_id": "write the integer id of a category",
    "annotations": 'write a list; an unlabelled set has "annotations": []',
}


def parse_coco(path: str | os.PathLike[str]) -> CocoFile:
    """The parsed file; values are of the right type and not checked otherwise.

    Raises:
        MixdetError: naming the file, and where possible the id, field and value, or the line.
    """
    file, shown = regular_file(path), quoted(path)
    try:
        raw = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as fault:
        raise MixdetError(f"{shown}: {fault.strerror}; check the file's permissions") from None
    if not raw.strip():
        raise MixdetError(f"{shown}: the file is empty; write it again")
    if b"\0" in raw[:4]:
        raise MixdetError(f"{shown}: the file is UTF-16 or UTF-32 text, or not text; save it as UTF-8")
    try:
        return msgspec.json.decode(raw, type=CocoFile)
    except RecursionError:
        raise MixdetError(f"{shown}: brackets are nested too deeply; this is no COCO file") from None
    except UnicodeDecodeError:
        raise MixdetError(f"{shown}: the text is not UTF-8; save it as UTF-8") from None
    except msgspec.ValidationError as fault:
        raise MixdetError(f"{shown}: {_wrong_type(raw, str(fault))}") from None
    except msgspec.DecodeError as fault:
        raise MixdetError(f"{shown}: {_wrong_syntax(raw, str(fault))}") from None


def _wrong_type(raw: bytes, fault: str) -> str:
    """``fault`` with the id, field and value it is about."""
    reason, _, place = fault.partition(" - at ")
    where = re.match(r"`\$\.(images|annotations|categories)\[(\d+)\](?:\.(\w+))?", place)
    missing = re.search(r"required field `(\w+)`", reason)
    if not where:
        field = missing[1] if missing else re.sub(r"[`$.]", "", place)
        fix = _FIXES.get(field, "a COCO file is an object of images, annotations and categories")
        return f"{reason}{' at ' + place if place else ''}; {fix}"
    section, position, field = where[1], int(where[2]), where[3] or (missing[1] if missing else "")
    label, item = f"{section}[{position}]", _item(raw, section, position)
    if "id" in item:
        label += f" (id {_short(item['id'])})"
    value = f"{field} = {_short(item[field])}" if field in item else f"{field or 'item'} is missing or of a wrong type"
    return f"{label}: {value}: {reason}; {_FIXES.get(field, 'correct the value')}"


def _item(raw: bytes, section: str, position: int) -> dict[str, Any]:
    """One item of one section, untyped; empty if that cannot be parsed either."""
    try:
        item = json.loads(bytes(getattr(msgspec.json.decode(raw, type=_Sections), section)[position]))
    except (RecursionError, ValueError):  # a DecodeError of msgspec is a ValueError
        return {}
    return item if isinstance(item, dict) else {}


def _wrong_syntax(raw: bytes, fault: str) -> str:
    """``fault`` with the line it is in, or with the annotation whose number is NaN or infinite."""
    if "truncated" in fault:
        lines = raw.count(b"\n") + 1
        return f"the file ends too early, in line {lines}; it was cut off: write it again"
    at = re.search(r"\(byte (\d+)\)", fault)
    if not at:
        return f"{fault}; correct the JSON"
    byte = int(at[1])
    if re.search(rb"NaN|Infinity", raw[max(0, byte - 2) : byte + 9]) and (found := _first_not_finite(raw)):
        return found
    line, column = raw.count(b"\n", 0, byte) + 1, byte - raw.rfind(b"\n", 0, byte)
    return f"line {line}, column {column}: {re.sub(r' *[(]byte [0-9]+[)]', '', fault)}; correct the JSON"


def _first_not_finite(raw: bytes) -> str | None:
    """Python writes NaN and Infinity into JSON, and reads them: the slow way to name the annotation."""
    try:
        annotations = json.loads(raw)["annotations"]
        for row in annotations:
            for field, value in row.items():
                numbers = value if isinstance(value, list) else [value]
                if any(isinstance(v, float) and not math.isfinite(v) for v in numbers):
                    label = f"annotation {_short(row.get('id'))} of image {_short(row.get('image_id'))}"
                    return f"{label}: {field} = {_short(value)} is not finite; write numbers in pixels, or remove it"
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    return None


def _short(value: object) -> str:
    return quoted(repr(value))
