from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from mixdet.data.dataset import DetectionDataset
from mixdet.data.scenes import CLASSES, SPLITS, STYLES, SceneImages, open_scenes, scenes
from mixdet.data.scenes.layout import (
    MAX_OBJECTS,
    MIN_SIDE,
    MIN_VISIBLE,
    NO_CLASS,
    Item,
    Layout,
    draw_layout,
    place,
    without_hidden,
)
from mixdet.data.scenes.shapes import SHAPES, clutter
from mixdet.data.scenes.styles import draw
from mixdet.errors import MixdetError

BRIGHT = np.array([[0.9, 0.1, 0.1], [0.1, 0.2, 0.9], [0.1, 0.1, 0.1], [0.9, 0.1, 0.9]])


@pytest.fixture(scope="module")
def many() -> DetectionDataset:
    return scenes(count=400)


def thing(name: str, x: float, y: float, side: float, angle: float = 0.0) -> Item:
    shape = SHAPES[name](np.random.default_rng(0))
    return place(shape, BRIGHT, CLASSES.index(name), x, y, side, angle, flip=1)


def test_an_image_does_not_depend_on_when_it_is_read() -> None:
    one, other = scenes(count=6), scenes(count=9)
    forth = [one.image(i) for i in range(6)]
    back = [other.image(i) for i in reversed(range(6))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forth, back, strict=True))
    assert torch.equal(one.instances(5).boxes, other.instances(5).boxes)


def test_images_are_what_the_data_set_says() -> None:
    for style in STYLES:
        data = scenes(style, count=5)
        for i in range(5):
            image = data.image(i)
            assert image.dtype == torch.uint8
            assert image.shape == (3, *data.sizes[i].tolist())
            assert image.float().std() > 1
        assert data.images.name(4) == f"scenes:{style}/train#5"
    assert data.image_ids.tolist() == [1, 2, 3, 4, 5]
    assert data.category_ids.tolist() == list(range(1, len(CLASSES) + 1))
    assert not data.crowd.any()
    assert not data.difficult.any()


@pytest.mark.parametrize("change", [{"split": "val"}, {"seed": 1}, {"difficulty": 0.4}])
def test_another_split_seed_or_difficulty_is_another_scene(change: dict[str, object]) -> None:
    usual, other = scenes(count=3), scenes(count=3, **change)  # type: ignore[arg-type]
    assert usual.images.name(0) != other.images.name(0)
    assert usual.boxes.shape != other.boxes.shape or not np.allclose(usual.boxes, other.boxes)


def test_the_same_scenes_in_every_style() -> None:
    data = [scenes(style, count=20) for style in STYLES]
    for other in data[1:]:
        assert np.array_equal(data[0].boxes, other.boxes)
        assert np.array_equal(data[0].labels, other.labels)
        assert np.array_equal(data[0].sizes, other.sizes)
        assert not torch.equal(data[0].image(0), other.image(0))


def test_number_class_shape_and_size_vary(many: DetectionDataset) -> None:
    counts = np.diff(many.offsets)
    assert counts.min() == 0
    assert 10 <= counts.max() <= MAX_OBJECTS
    assert (np.bincount(many.labels, minlength=len(CLASSES)) > 100).all()
    assert (many.sizes.max(1) == 160).all()
    assert (many.sizes.min(1) >= 120).all()
    assert 0.3 < (many.sizes[:, 0] > many.sizes[:, 1]).mean() < 0.7
    sides = np.sqrt(many.areas)
    assert np.percentile(sides, 95) > 2.5 * np.percentile(sides, 5)


@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
def test_boxes_lie_inside_their_image(difficulty: float) -> None:
    data = scenes(count=60, size=64, difficulty=difficulty)
    height_width = data.sizes[data.image_index]
    assert (data.boxes >= 0).all()
    assert (data.boxes[:, 2:] <= height_width[:, ::-1]).all()
    assert ((data.boxes[:, 2:] - data.boxes[:, :2]) >= MIN_SIDE - 1e-3).all()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", CLASSES)
def test_boxes_are_tight(name: str, style: str) -> None:
    for angle in (0.0, 0.7, 2.5, 4.4):
        item = thing(name, 80, 70, 60, angle)
        looks = []
        for tone in (0.1, 0.9):  # shadows are the same under both: what differs is the thing itself
            layout = Layout((140, 160), (replace(item, colours=np.full((4, 3), tone)),))
            looks.append(draw(layout, style, np.random.default_rng(3)).astype(int))
        differs = abs(looks[1] - looks[0]).max(2)
        own = differs > (0.3 if style == "watercolor" else 0.1) * differs.max()  # a bleed is weaker
        rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
        seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert seen == pytest.approx(layout.boxes[0], abs=2.0)


def test_a_box_that_leaves_the_image_is_clipped() -> None:
    item = thing("car", 5, 60, 40)
    assert item.extent[0] < 0
    assert Layout((120, 160), (item,)).boxes[0][0] == 0


def test_hidden_things_are_not_there() -> None:
    size = (120, 160)
    hidden, front = thing("star", 80, 60, 20), thing("house", 80, 60, 80)
    assert without_hidden([hidden, front], size) == [front]
    assert without_hidden([front, hidden], size) == [front, hidden]
    behind_clutter = place(clutter(np.random.default_rng(1)), BRIGHT, NO_CLASS, 80, 60, 90, 0.0, flip=1)
    assert without_hidden([hidden, behind_clutter], size) == [behind_clutter]


def test_a_thing_that_was_taken_out_hides_nothing() -> None:
    far, middle, front = thing("star", 60, 60, 20), thing("house", 66, 60, 50), thing("house", 80, 60, 90)
    assert without_hidden([far, middle], (120, 160)) == [middle]
    wide = thing("car", 20, 60, 30)
    kept = without_hidden([wide, far, middle, front], (120, 160))
    assert kept == [wide, front]


def test_what_can_hardly_be_seen_is_not_there() -> None:
    outside = thing("star", -12, 60, 40)
    assert without_hidden([outside], (120, 160)) == []
    assert without_hidden([thing("star", 80, 60, MIN_SIDE - 1)], (120, 160)) == []
    assert 0 < MIN_VISIBLE < 1


def test_difficulty_makes_things_smaller_and_more_turned() -> None:
    easy, hard = scenes(count=100, difficulty=0.0), scenes(count=100, difficulty=1.0)
    assert np.median(easy.areas) > 1.3 * np.median(hard.areas)
    upright = draw_layout(np.random.default_rng(8), 160, 0.0)
    for item in upright.items:
        if item.label == CLASSES.index("house"):
            base = item.parts[1].points[2:4]
            assert base[0, 1] == pytest.approx(base[1, 1])


def test_images_pickle_small_and_read_the_same() -> None:
    data = scenes("watercolor", split="val", seed=7)
    text = pickle.dumps(data.images)
    assert len(text) < 2000
    assert torch.equal(pickle.loads(text).draw(3), data.image(3))


@pytest.mark.parametrize("size", [96, 320])
def test_an_image_that_is_kept_is_as_it_was_drawn(size: int) -> None:
    images = scenes(count=2, size=size).images
    assert isinstance(images, SceneImages)
    images.read(1).zero_()
    assert torch.equal(images.read(1), images.draw(1))


def test_open_scenes_reads_every_option() -> None:
    data = open_scenes("clipart/val,count=7,seed=3,size=96,difficulty=0.25")
    assert data.images == SceneImages("clipart", "val", 7, 3, 96, 0.25)
    assert data.name == "scenes:clipart/val,seed=3,size=96,difficulty=0.25"
    again = open_scenes(data.name.removeprefix("scenes:") + ",count=7")
    assert np.array_equal(again.boxes, data.boxes)
    assert open_scenes("photo").name == "scenes:photo/train"
    assert {split: len(open_scenes(f"photo/{split}")) for split in SPLITS} == SPLITS


@pytest.mark.parametrize(
    ("text", "wrong", "accepted"),
    [
        ("oil/train", "'oil'", "photo, clipart, watercolor"),
        ("", "''", "photo, clipart, watercolor"),
        ("photo/dev", "'dev'", "train, val, test"),
        ("photo,number=3", "'number=3'", "count=…, seed=…, size=…, difficulty=…"),
        ("photo,count", "'count'", "count=…"),
        ("photo,count=few", "count='few'", "a whole number"),
        ("photo,difficulty=hard", "difficulty='hard'", "a number"),
        ("photo,count=0", "count 0", "between 1 and"),
        ("photo,seed=-1", "seed -1", "between 0 and"),
        ("photo,size=8", "size 8", "between 64 and 2048"),
        ("photo,difficulty=1.5", "difficulty 1.5", "between 0 and 1"),
        ("photo,difficulty=nan", "difficulty nan", "between 0 and 1"),
    ],
)
def test_bad_text_is_one_line_that_names_it(text: str, wrong: str, accepted: str) -> None:
    with pytest.raises(MixdetError) as caught:
        open_scenes(text)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("scenes:")
    assert wrong in line
    assert accepted in line
