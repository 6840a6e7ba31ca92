from __future__ import annotations

from itertools import combinations
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import mixdet.reports
from mixdet.reports import contact_sheet, draw_detections, draw_instances, printable
from mixdet.reports.drawing import _colour, _label, _Mark, _overlap, draw_borders, heated
from mixdet.structures import Detections, Instances

CLASSES = ("cat", "dog")
BOX = torch.tensor([[40.0, 60.0, 120.0, 100.0]])
GREY = torch.full((3, 120, 160), 128, dtype=torch.uint8)


def one(**fields: torch.Tensor) -> Instances:
    return Instances(BOX, torch.tensor([0]), **fields)


def change(picture: Image.Image) -> np.ndarray:
    """(H, W) how far the picture is from plain GREY."""
    bare = np.asarray(draw_instances(GREY, Instances.empty(), CLASSES, min_width=picture.width))
    return np.abs(np.asarray(picture).astype(int) - bare.astype(int)).sum(axis=2)


def edge(picture: Image.Image) -> float:
    """Change in a strip across the right edge of BOX, below the label."""
    factor = picture.width // 160
    return float(change(picture)[80 * factor, 100 * factor : 140 * factor].sum())


def test_small_images_are_enlarged_by_a_whole_factor() -> None:
    assert draw_instances(GREY, one(), CLASSES, min_width=320).size == (320, 240)
    assert draw_instances(GREY, one(), CLASSES).size == (480, 360)
    assert draw_instances(torch.zeros(3, 300, 500), one(), CLASSES).size == (500, 300)


def test_uint8_and_float_images_give_the_same_picture() -> None:
    image = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    a, b = (draw_instances(i, Instances.empty(), CLASSES, min_width=1) for i in (image, image / 255))
    assert np.array_equal(np.asarray(a), image.permute(1, 2, 0).numpy())
    assert np.array_equal(np.asarray(a), np.asarray(b))
    assert np.asarray(draw_instances(image / 128, Instances.empty(), CLASSES)).max() == 255


def test_the_box_is_where_the_instance_is() -> None:
    shift = change(draw_instances(GREY, one(), CLASSES, min_width=320))
    inside = shift[140:190, 100:220]
    assert (inside == 0).all()
    assert (shift[120:200, 80] > 0).all()
    assert (shift[200, 80:240] > 0).all()
    assert (shift[:, 250:] == 0).all()


def test_boxes_are_as_strong_as_shares_times_weights() -> None:
    edges = [edge(draw_instances(GREY, one(shares=torch.tensor([s])), CLASSES)) for s in (0.0, 0.1, 0.3, 0.7, 1.0)]
    assert edges[0] > 0
    assert edges == sorted(edges)
    assert edges[-1] > 3 * edges[1]
    halves = one(shares=torch.tensor([0.5]), cls_weights=torch.tensor([0.6]))
    assert edge(draw_instances(GREY, halves, CLASSES)) == edges[2]


def test_the_label_tells_the_weight() -> None:
    def plate(strength: float) -> int:
        """Width of the label."""
        picture = draw_instances(GREY, one(cls_weights=torch.tensor([strength])), ("m",), min_width=320)
        return int((change(picture)[105:115] > 0).all(axis=0).sum())

    assert plate(1.0) < plate(0.3)


def test_strong_boxes_lie_on_top() -> None:
    boxes, labels = BOX.repeat(2, 1), torch.tensor([0, 1])
    for shares in ([1.0, 0.2], [0.2, 1.0]):
        instances = Instances(boxes, labels, shares=torch.tensor(shares))
        pixel = np.asarray(draw_instances(GREY, instances, CLASSES, min_width=320))[199, 160]
        strong = _colour(int(shares[1] > shares[0]))
        assert np.abs(pixel.astype(int) - strong).max() <= 2


def test_detections_below_the_threshold_are_left_out() -> None:
    detections = Detections(
        BOX.repeat(2, 1) + torch.tensor([[0.0], [15.0]]), torch.tensor([0, 1]), torch.tensor([0.9, 0.2])
    )
    alone = Detections(BOX, torch.tensor([0]), torch.tensor([0.9]))
    both = draw_detections(GREY, detections, CLASSES, 0.3)
    assert np.array_equal(np.asarray(both), np.asarray(draw_detections(GREY, alone, CLASSES, 0.3)))
    assert not np.array_equal(np.asarray(both), np.asarray(draw_detections(GREY, detections, CLASSES, 0.1)))


def test_ignored_instances_are_grey() -> None:
    picture = np.asarray(draw_instances(GREY, one(ignored=torch.tensor([True])), CLASSES, min_width=320)).astype(int)
    assert (picture.max(axis=2) - picture.min(axis=2) <= 8).all()


@pytest.mark.parametrize(
    "name",
    [
        "\x1b[31mred\x07",
        "two\nlines\r\t",
        "\ud800 lone",
        "x" * 5000,
        "",
        "\u202eright to left",
        "\x00",
        "猫 🐈",
        "é" * 50,
    ],
)
def test_any_name_can_be_drawn(name: str) -> None:
    picture = draw_instances(GREY, one(), (name,))
    assert edge(picture) > 0
    contact_sheet([picture], 1, [name])


@pytest.mark.parametrize(
    "box",
    [
        [-1e30, -50.0, 1e30, 5000.0],
        [300.0, 300.0, 400.0, 400.0],
        [30.0, 30.0, 30.0, 30.0],
        [50.0, 50.0, 20.0, 20.0],
        [float("nan"), 0.0, 10.0, 10.0],
        [0.0, 0.0, float("inf"), 10.0],
    ],
)
def test_any_box_can_be_drawn(box: list[float]) -> None:
    instances = Instances(torch.tensor([box]), torch.tensor([0]))
    assert draw_instances(GREY, instances, CLASSES).size == (480, 360)


def test_odd_sizes_can_be_drawn() -> None:
    for height, width, size in ((1, 1, (400, 400)), (3, 2000, (2000, 3)), (400, 2, (20, 4000))):
        assert draw_instances(torch.zeros(3, height, width), one(), ("a long name",)).size == size


def test_labels_do_not_cover_each_other() -> None:
    size, taken = (320, 240), []
    pen = ImageDraw.Draw(Image.new("RGBA", size))
    for k in range(60):
        _label(pen, _Mark((k * 3.0, k * 2.0, k * 3.0 + 60, k * 2.0 + 40), "cat", (255, 0, 0), 1.0), size, taken)
    assert 5 < len(taken) < 60  # where no room is left a label is left out
    assert not any(_overlap(a, b) for a, b in combinations(taken, 2))
    assert all(x1 >= 0 and y1 >= 0 and x2 < 320 and y2 < 240 for x1, y1, x2, y2 in taken)


def test_classes_have_colours_of_their_own() -> None:
    colours = [_colour(k) for k in range(100)]
    assert len(set(colours)) == 100
    assert colours == [_colour(k) for k in range(100)]
    assert all(max(c) - min(c) >= 60 for c in colours)  # none is the grey of ignored boxes


def test_contact_sheet() -> None:
    pictures = [Image.new("RGB", (100, 80), (255, 0, 0))] * 3
    plain, titled = contact_sheet(pictures, 2), contact_sheet(pictures, 2, ["a", "b", "c"])
    assert plain.width == titled.width > 200
    assert titled.height > plain.height > 160
    assert (np.asarray(plain) == (255, 0, 0)).all(axis=2).sum() == 3 * 100 * 80
    assert contact_sheet(pictures, 9).width == contact_sheet(pictures, 3).width


def test_contact_sheet_fits_unequal_pictures_into_equal_cells() -> None:
    small, tall = Image.new("RGB", (100, 80), (255, 0, 0)), Image.new("RGB", (500, 2000), (0, 0, 255))
    mixed, even = contact_sheet([small, small, tall], 3), contact_sheet([small] * 3, 3)
    assert mixed.size == even.size
    assert (np.asarray(mixed) == (0, 0, 255)).all(axis=2).sum() == 20 * 80


def test_contact_sheet_refuses_what_does_not_fit_together() -> None:
    with pytest.raises(ValueError, match="no images"):
        contact_sheet([], 2)
    with pytest.raises(ValueError, match="1 captions for 2 images"):
        contact_sheet([Image.new("RGB", (9, 9))] * 2, 2, ["a"])


def test_printable() -> None:
    assert printable("a\n b\t c") == "a b c"
    assert printable("\x1b[2J\u202ex\ud800") == "?[2J?x?"
    assert printable("x" * 50) == "x" * 37 + "..."


def test_all_is_complete() -> None:
    values = vars(mixdet.reports).items()
    public = {n for n, v in values if not n.startswith("_") and not isinstance(v, ModuleType)}
    assert public == set(mixdet.reports.__all__)


def test_borders_are_drawn_where_the_enlarged_image_was_cut() -> None:
    picture = Image.new("RGB", (400, 200), "black")  # of 50 x 100 pixels
    drawn = np.asarray(draw_borders(picture, [0, 25, 50], [0, 50, 100], (50, 100)))
    white = (drawn == 255).all(-1)
    assert white[100].all()
    assert white[:, 200].all()
    assert not white[:90, :190].any()
    assert np.asarray(picture).max() == 0


def test_heat_lies_over_the_image_where_there_is_some() -> None:
    heat = torch.zeros(120, 160)
    heat[:60, :80], heat[60:, 80:] = 1.0, 0.1
    for image in (GREY, GREY.float() / 255):
        drawn = heated(image, heat).int()
        assert drawn.shape == (3, 120, 160)
        assert (drawn[:, :60, 80:] == 128).all()
        red, green, blue = drawn[:, 30, 40].tolist()
        assert red > 128 > max(green, blue)
        red, green, blue = drawn[:, 90, 120].tolist()
        assert blue > 128 > max(red, green)
