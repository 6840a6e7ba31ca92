from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mixdet.data.check import check_images
from mixdet.data.voc import VOC_CLASSES, is_voc, read_voc
from mixdet.errors import MixdetError

PERSON = """<object><name>person</name><pose>Left</pose><difficult>0</difficult>
  <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>40</xmax><ymax>30</ymax></bndbox>
  <part><name>head</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part></object>"""
SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"


def thing(name: str = "dog", box: str = "11 6 20 15", extra: str = "") -> str:
    corners = zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=True)
    return (
        f"<object><name>{name}</name><bndbox>{''.join(f'<{k}>{v}</{k}>' for k, v in corners)}</bndbox>{extra}</object>"
    )


def folder(root: Path, name: str = "VOC2007", split: str = "trainval", **annotations: str) -> Path:
    """A VOC folder with one image an annotation; returns the folder."""
    base = root / name
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (base / part).mkdir(parents=True, exist_ok=True)
    for k, (stem, xml) in enumerate(annotations.items()):
        (base / "Annotations" / f"{stem}.xml").write_text(xml)
        Image.new("RGB", (40, 30), (50 * k, 0, 0)).save(base / "JPEGImages" / f"{stem}.jpg")
    (base / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in annotations))
    return base


def annotation(*objects: str, size: str = SIZE) -> str:
    return f"<annotation>{size}{''.join(objects)}</annotation>"


def refused(spec: str, *words: str) -> str:
    with pytest.raises(MixdetError) as caught:
        read_voc(spec)
    message = str(caught.value)
    assert message.isprintable()
    for word in words:
        assert word in message
    return message


def test_reads_objects_and_subtracts_one_from_the_minima(tmp_path: Path) -> None:
    folder(tmp_path, a=annotation(PERSON, thing()), b=annotation(), c=annotation(thing("cat", "3 4 3 4")))
    data = read_voc(f"{tmp_path}/VOC2007:trainval")
    assert data.name == "VOC2007:trainval"
    assert data.classes == VOC_CLASSES
    assert len(data.classes) == 20
    assert data.instances(0).boxes.tolist() == [[0, 0, 40, 30], [10, 5, 20, 15]]
    assert [data.classes[k] for k in data.instances(0).labels] == ["person", "dog"]
    assert len(data.instances(1)) == 0
    assert data.instances(2).boxes.tolist() == [[2, 3, 3, 4]]
    assert data.images.name(0) == "VOC2007/JPEGImages/a.jpg"
    assert data.image_ids.tolist() == [1, 2, 3]
    check_images(data, decode=True)


def test_difficult(tmp_path: Path) -> None:
    hard = thing(extra="<difficult>1</difficult>")
    folder(tmp_path, a=annotation(hard, thing(extra="<difficult> </difficult>"), thing()))
    data = read_voc(f"{tmp_path}/VOC2007:trainval")
    assert data.difficult.tolist() == [True, False, False]
    assert data.ignored.tolist() == [True, False, False]
    assert not data.crowd.any()


def test_two_years(tmp_path: Path) -> None:
    folder(tmp_path, "VOC2007", a=annotation(thing()))
    folder(tmp_path, "VOC2012", b=annotation(thing("cat")), a=annotation(thing("cow")))
    data = read_voc(f"{tmp_path}/VOC2007+2012:trainval")
    assert [data.images.name(i) for i in range(3)] == [
        "VOC2007/JPEGImages/a.jpg",
        "VOC2012/JPEGImages/b.jpg",
        "VOC2012/JPEGImages/a.jpg",
    ]
    assert [data.classes[k] for k in data.labels] == ["dog", "cat", "cow"]
    check_images(data)
    refused(f"{tmp_path}/VOC2007+2011:trainval", "there is no folder", "VOC2011")


def test_a_linked_folder_of_voc_is_fine_and_images_out_of_it_are_not(tmp_path: Path) -> None:
    real = folder(tmp_path / "far", "year", a=annotation(thing()))
    (tmp_path / "VOC2007").symlink_to(real)
    data = read_voc(f"{tmp_path}/VOC2007:trainval")
    check_images(data)
    (real / "JPEGImages" / "a.jpg").rename(tmp_path / "a.jpg")
    (real / "JPEGImages" / "a.jpg").symlink_to(tmp_path / "a.jpg")
    with pytest.raises(MixdetError, match="link out of the images' folder"):
        check_images(data)


def test_other_names_are_sorted_and_the_same_for_every_split(tmp_path: Path) -> None:
    base = folder(tmp_path, "mine", "train", a=annotation(thing("zebra \n")), b=annotation(thing("ant"), thing("dog")))
    (base / "ImageSets" / "Main" / "val.txt").write_text("a")
    assert read_voc(f"{base}:train").classes == ("ant", "dog", "zebra")
    val = read_voc(f"{base}:val")
    assert val.classes == ("ant", "dog", "zebra")
    assert val.labels.tolist() == [2]


@pytest.mark.parametrize(
    "size", ["", "<size><width>0</width><height>0</height></size>", "<size><width>40</width></size>"]
)
def test_sizes_come_from_the_image_if_need_be(tmp_path: Path, size: str) -> None:
    folder(tmp_path, a=annotation(thing(), size=size))
    assert read_voc(f"{tmp_path}/VOC2007:trainval").sizes.tolist() == [[30, 40]]


def test_floats_latin1_and_other_image_types(tmp_path: Path) -> None:
    base = folder(tmp_path, a=annotation(thing(box="11.5 6.25 20 15")))
    xml = f'<?xml version="1.0" encoding="ISO-8859-1"?><annotation><folder>é</folder>{SIZE}</annotation>'
    (base / "Annotations" / "b.xml").write_bytes(xml.encode("latin-1"))
    Image.new("RGB", (40, 30)).save(base / "JPEGImages" / "b.PNG")
    (base / "ImageSets" / "Main" / "trainval.txt").write_bytes(b"\xef\xbb\xbfa\r\n\r\nb")
    data = read_voc(f"{base}:trainval")
    assert data.boxes.tolist() == [[10.5, 5.25, 20, 15]]
    assert data.images.name(1) == "VOC2007/JPEGImages/b.PNG"


def test_boxes_beyond_the_image_are_clipped(tmp_path: Path) -> None:
    folder(tmp_path, a=annotation(thing(box="0 0 41 31"), thing(box="30 20 60 25")))
    data = read_voc(f"{tmp_path}/VOC2007:trainval")
    assert data.boxes.tolist() == [[0, 0, 40, 30], [29, 19, 40, 25]]
    assert len(data.notes) == 1
    assert "1 of 2 boxes clipped" in data.notes[0]
    assert "a.xml: object 2 (dog): bndbox = xmin 30, ymin 20, xmax 60, ymax 25" in data.notes[0]


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        (annotation(PERSON, thing(box="nan 6 20 15")), "object 2 (dog): bndbox/xmin = 'nan' is no finite number"),
        (annotation(thing(box="11 6,5 20 15")), "object 1 (dog): bndbox/ymin = '6,5'"),
        (annotation(thing(box="11 6 inf 15")), "bndbox/xmax = 'inf'"),
        (annotation(thing(box="11 6 1e30 15")), "bndbox = xmin 11, ymin 6, xmax 1e+30, ymax 15 is larger"),
        (annotation(thing(box="30 6 20 15")), "object 1 (dog): xmin = 30 is larger than xmax = 20"),
        (annotation(thing(box="11 16 20 15")), "ymin = 16 is larger than ymax = 15; swap"),
        (annotation(thing(box="51 6 60 15")), "outside its image of width 40"),
        (annotation("<object><name>dog</name></object>"), "object 1 (dog): bndbox is missing"),
        (annotation("<object><name>dog</name><bndbox><xmin>1</xmin></bndbox></object>"), "bndbox/ymin is missing"),
        (annotation("<object><bndbox/></object>"), "object 1: name is missing"),
        (annotation(thing(extra="<difficult>yes</difficult>")), "difficult = 'yes'"),
        (annotation(size="<size><width>x</width></size>"), "size/width = 'x'"),
        (annotation(thing("\x7fdog", "30 6 20 15")), r"object 1 ('\x7fdog')"),
        (annotation(thing())[:-20], "is not well-formed XML"),
        ("", "is not well-formed XML"),
        ('<?xml version="1.0" encoding="nonsense"?><a/>', "nonsense"),
    ],
)
def test_defects_name_file_object_and_value(tmp_path: Path, xml: str, words: str) -> None:
    folder(tmp_path, good=annotation(thing()), bad=xml)
    refused(f"{tmp_path}/VOC2007:trainval", "bad.xml", words)


BOMB = "".join(f'<!ENTITY a{k} "{f"&a{k - 1};" * 10}">' for k in range(1, 12))


@pytest.mark.parametrize(
    "doctype",
    [
        "<!DOCTYPE annotation>",
        f'<!DOCTYPE x [<!ENTITY a0 "lol">{BOMB}]>',
        '<!DOCTYPE x [<!ENTITY a11 SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE x SYSTEM "http://localhost/x.dtd">',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_doctypes_are_refused(tmp_path: Path, doctype: str, encoding: str) -> None:
    base = folder(tmp_path, a="")
    xml = f'<?xml version="1.0" encoding="{encoding}"?>{doctype}<annotation><folder>&a11;</folder></annotation>'
    (base / "Annotations" / "a.xml").write_bytes(xml.encode(encoding))
    refused(f"{base}:trainval", "a.xml: has a DOCTYPE", "remove it")


def test_deep_xml_does_not_crash(tmp_path: Path) -> None:
    folder(tmp_path, a="<annotation>" + "<x>" * 100_000 + "</x>" * 100_000 + "</annotation>")
    assert len(read_voc(f"{tmp_path}/VOC2007:trainval").labels) == 0


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("a\nzz\n", "entry 2: 'zz' has no file in"),
        ("a\n../a\n", "entry 2: '../a' leaves"),
        ("/etc/a\n", "absolute"),
        ("a\na\n", "entry 2: 'a' is entry 1 too"),
        ("a  1\n", "looks like a line of a list for one class"),
        (" \n", "the file is empty"),
    ],
)
def test_split_lists(tmp_path: Path, lines: str, words: str) -> None:
    base = folder(tmp_path, a=annotation())
    (base / "ImageSets" / "Main" / "trainval.txt").write_text(lines)
    refused(f"{base}:trainval", "trainval.txt", words)


def test_specs(tmp_path: Path) -> None:
    base = folder(tmp_path, a=annotation())
    (base / "ImageSets" / "Main" / "dog_train.txt").write_text("a 1")
    refused(f"{base}", "names no split", "VOC2007:train")
    refused(f"{base}:", "names no split")
    refused(f"{base}:test", "test.txt: no such file", "splits there are: trainval")
    refused(f"{base}:../../x", "split = '../../x' leaves")
    refused(f"{tmp_path}/VOC2012:train", "there is no folder", "Annotations")
    assert is_voc(f"{base}:trainval")
    assert is_voc(f"{tmp_path}/VOC2007+2012:trainval")
    assert is_voc(str(base))
    assert not is_voc(str(tmp_path))
    assert not is_voc(f"{tmp_path}/pool:all")


def test_missing_images(tmp_path: Path) -> None:
    base = folder(tmp_path, abc=annotation())
    (base / "JPEGImages" / "abc.jpg").rename(base / "JPEGImages" / "ABc.jpg")
    refused(f"{base}:trainval", "abc.jpg: no such file; did you mean ABc.jpg?")
