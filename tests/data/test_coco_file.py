from __future__ import annotations

import json
from pathlib import Path

import pytest

from mixdet.data.coco_file import parse_coco
from mixdet.errors import MixdetError


def refused(path: Path, *words: str) -> str:
    """The message of the error, which is one line and holds ``words`` and the file."""
    with pytest.raises(MixdetError) as caught:
        parse_coco(path)
    message = str(caught.value)
    assert message.isprintable()
    for word in (path.name, *words):
        assert word in message
    return message


def one_box(box: str, **fields: str) -> bytes:
    """A file with one annotation whose values are the given JSON."""
    row = {"id": "7", "image_id": "1", "category_id": "1", "bbox": box, **fields}
    rows = "{" + ", ".join(f'"{key}": {value}' for key, value in row.items()) + "}"
    return f'{{"images": [{{"id": 1, "file_name": "a"}}],\n "annotations": [{rows}], "categories": []}}'.encode()


def test_only_what_is_needed_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_bytes(one_box("[1, 2.5, 3, 4]", segmentation="[[1, 2, 3]]", area="1e2", iscrowd="true", other="{}"))
    parsed = parse_coco(path)
    assert parsed.images[0].width is None
    row = parsed.annotations[0]
    assert (row.id, row.bbox, row.area, row.iscrowd) == (7, (1.0, 2.5, 3.0, 4.0), 100.0, True)


SYNTAX = [
    (b"", "the file is empty"),
    (b" \n ", "the file is empty"),
    (b'{"images": [],\n "anno', "ends too early, in line 2"),
    (b'{"images": [],\n  ]', "line 2, column 3"),
    ('{"images": []}'.encode("utf-16"), "UTF-16"),
    ('{"images": []}'.encode("utf-16-le"), "UTF-16"),
    ('{"images": [{"id": 1, "file_name": "é.png"}]}'.encode("latin-1"), "not UTF-8"),
    (b"[" * 200_000, "a COCO file is an object of images, annotations and categories"),
    (b'{"x": ' + b"[" * 200_000, "nested too deeply"),
    (b'{"images": [{"id": ' + b"9" * 5000 + b"}]}", "images[0]"),
    (b"[]", "a COCO file is an object of images, annotations and categories"),
    (b'{"images": {}, "annotations": [], "categories": []}', "got `object`"),
    (b'{"images": [], "annotations": []}', "required field `categories`"),
    (b'{"images": [], "categories": []}', '"annotations": []'),
]


@pytest.mark.parametrize(("content", "words"), SYNTAX, ids=[words[:20] for _, words in SYNTAX])
def test_files_that_are_no_coco(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "set.json"
    path.write_bytes(content)
    message = refused(path, words)
    assert len(message) < 800
    assert path.read_bytes() == content


def test_missing_files_and_folders(tmp_path: Path) -> None:
    refused(tmp_path / "gone.json", "No such file")
    (tmp_path / "folder.json").mkdir()
    refused(tmp_path / "folder.json", "is a folder")


@pytest.mark.parametrize(
    ("box", "fields", "words"),
    [
        ("[1, NaN, 3, 4]", {}, "annotation 7 of image 1: bbox = [1, nan, 3, 4] is not finite"),
        ("[1, 2, -Infinity, 4]", {}, "annotation 7 of image 1: bbox = [1, 2, -inf, 4] is not finite"),
        ("[1, 2, 3]", {}, "annotations[0] (id 7): bbox = [1, 2, 3]: Expected `array` of length 4; write four numbers"),
        ("[1, 2, 3, 4, 5]", {}, "bbox = [1, 2, 3, 4, 5]"),
        ('[1, 2, 3, "4"]', {}, "bbox = [1, 2, 3, '4']: Expected `float`, got `str`"),
        ("[1, 2, 3, true]", {}, "bbox = [1, 2, 3, True]: Expected `float`, got `bool`"),
        ("[1, 2, 3, null]", {}, "bbox = [1, 2, 3, None]"),
        ("[1, 2, 3, 1e999]", {}, "annotations[0] (id 7): bbox = [1, 2, 3, inf]: Number out of range"),
        ("null", {}, "bbox = None"),
        ('"1 2 3 4"', {}, "bbox = '1 2 3 4'"),
        ("[1, 2, 3, 4]", {"area": "NaN"}, "annotation 7 of image 1: area = nan is not finite"),
        ("[1, 2, 3, 4]", {"area": '"big"'}, "annotations[0] (id 7): area = 'big'"),
        ("[1, 2, 3, 4]", {"iscrowd": "0.5"}, "annotations[0] (id 7): iscrowd = 0.5"),
        ("[1, 2, 3, 4]", {"image_id": "[]"}, "annotations[0] (id 7): image_id = []"),
        ("[1, 2, 3, 4]", {"category_id": "1.5"}, "category_id = 1.5: Expected `int`"),
        ("[1, 2, 3, 4]", {"category_id": "9" * 19}, "category_id = 9999999999999999999"),
        ("[1, 2, 3, 4]", {"id": "{}"}, "annotations[0] (id {}): id = {}"),
        ('["' + "x" * 5000 + '"]', {}, "annotations[0] (id 7): bbox = ['xxx"),
        ('"\\u001b[31m"', {}, "bbox = '\\x1b[31m'"),
    ],
)
def test_the_wrong_value_is_named(tmp_path: Path, box: str, fields: dict[str, str], words: str) -> None:
    path = tmp_path / "set.json"
    path.write_bytes(one_box(box, **fields))
    assert len(refused(path, words)) < 800


def test_nan_elsewhere_is_a_syntax_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_bytes(one_box("[1, 2, 3, 4]").replace(b'"id": 1,', b'"id": 1, "x":\n NaN,'))
    refused(path, "line 2, column 2")
    path.write_text(json.dumps([float("nan")]))
    refused(path, "a COCO file is an object")


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_bytes(one_box("0").replace(b', "bbox": 0', b""))
    refused(path, "annotations[0] (id 7): bbox is missing", "write four numbers [x, y, width, height] in pixels")
