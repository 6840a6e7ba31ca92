"""What ``mixdet preview`` shows of mixed unlabelled images is what the student is fed."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from mixdet.cli.main import main
from mixdet.methods.instant_teaching import mixed_with_labeled
from mixdet.mixing import PRESETS as MIX_PRESETS
from mixdet.runs import pictures
from mixdet.runs.data import Data
from mixdet.runs.pictures import draw_fed
from mixdet.runs.streams import open_stream
from mixdet.structures import Instances, Stream, keyed_generator
from recipes_for_tests import QUICK, quick_recipe

OWN = ("data.strong={name: photometric, own_geometry: true}", "data.short_sides=[32, 64, 96]", "data.batch_size=8")


def drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, *words: str
) -> tuple[list[tuple[Tensor, Instances]], list[Image.Image], list[Any]]:
    """(image, instances) of every picture on the sheet, the pictures that got borders, and the views as they were."""
    seen: list[tuple[Tensor, Instances]] = []
    bordered: list[Image.Image] = []
    draw_instances, draw_borders = pictures.draw_instances, pictures.draw_borders

    def keep(image: Tensor, instances: Instances, classes: Any) -> Image.Image:
        seen.append((image, instances))
        return draw_instances(image, instances, classes)

    def lined(picture: Image.Image, *where: Any) -> Image.Image:
        bordered.append(picture)
        return draw_borders(picture, *where)

    monkeypatch.setattr(pictures, "draw_instances", keep)
    monkeypatch.setattr(pictures, "draw_borders", lined)
    recipe = quick_recipe(
        tmp_path, "method={name: mum}", "seed=0", "data.unlabeled=scenes:photo/train,count=16,size=96", *words
    )
    data = Data.open(recipe, measured=False)
    draw_fed(recipe, data, count)
    stream = Stream("labeled", labeled=True, views=("strong",))
    packed = islice(open_stream(recipe, data, stream, own_shards=range(1), start=0, stride=32), 2)
    views, following = (one.to_views("cpu", torch.zeros(3)) for one in packed)
    return seen, bordered, [views.weak, views.strong, following.weak]


@pytest.mark.parametrize("words", [(), OWN])
def test_a_row_is_the_image_its_strong_view_and_the_mixed_tiles_with_the_boxes_to_be_found(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, bordered, (weak, strong, _) = drawn(tmp_path, monkeypatch, 4, *words)
    assert len(seen) == 12
    assert len(bordered) == 4
    for i in range(4):
        (tiled, wanted), (image, boxes), (erased, nothing) = seen[3 * i : 3 * i + 3]
        height, width = weak.sizes[i].tolist()
        assert torch.equal(image, weak.images[i, :, :height, :width])
        assert torch.equal(boxes.boxes, weak.labels[i].boxes)
        height, width = strong.sizes[i].tolist()
        assert torch.equal(erased, strong.images[i, :, :height, :width])
        assert len(nothing) == 0
        assert tiled.shape == erased.shape
        assert torch.equal(wanted.boxes, strong.labels[i].boxes)
    assert any(not torch.equal(seen[3 * i][0], seen[3 * i + 2][0]) for i in range(4))


def test_without_mixing_the_third_picture_is_the_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, bordered, _ = drawn(tmp_path, monkeypatch, 3, *OWN, "method.tiles.p=0")
    assert not bordered
    for i in range(3):
        assert torch.equal(seen[3 * i][0], seen[3 * i + 2][0])


def test_instant_teachings_mixture_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the strong view with weak views of other images, with all boxes."""
    seen, bordered, (weak, strong, other) = drawn(tmp_path, monkeypatch, 4, "method={name: instant_teaching, mix_p: 1}")
    assert not bordered
    wanted = mixed_with_labeled(strong, other, keyed_generator(0, 0, 0, "method"), 1.0)
    for i in range(4):
        (mixed, boxes), (image, _), _ = seen[3 * i : 3 * i + 3]
        height, width = wanted.sizes[i].tolist()
        assert torch.equal(mixed, wanted.images[i, :, :height, :width])
        assert torch.equal(boxes.boxes, wanted.labels[i].boxes)
        assert torch.equal(image, weak.images[i, :, : image.shape[1], : image.shape[2]])


@pytest.mark.parametrize("words", [("data.batch_size=1",), ("data.batch_size=2", "data.shards=2")])
def test_as_many_are_mixed_as_there_are_unlabelled_images(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A labelled shard of one image leaves nothing to mix; the unlabelled ones that it stands for are four."""
    size = f"data.unlabeled_batch_size={4 * len(words)}"
    seen, bordered, _ = drawn(tmp_path, monkeypatch, 4, *words, size)
    assert len(bordered) == 4
    assert any(not torch.equal(seen[3 * i][0], seen[3 * i + 2][0]) for i in range(4))
    blended = "method={name: mum, mix_unlabeled: lossmix, decay: {burn_in_steps: 1}}"
    assert len(drawn(tmp_path, monkeypatch, 4, blended, *words, size)[0]) == 12


@pytest.mark.parametrize("name", ["unbiased_teacher", "mum"])
def test_mixed_unlabelled_images_are_drawn_before_their_tiles(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = f"method={{name: {name}, mix_unlabeled: lossmix, decay: {{burn_in_steps: 1}}}}"
    seen, bordered, (_, strong, _) = drawn(tmp_path, monkeypatch, 4, words)
    assert len(bordered) == (4 if name == "mum" else 0)
    wanted = MIX_PRESETS["lossmix"](strong, strong, keyed_generator(0, 0, 0, "method"))
    for i in range(4):
        mixed, boxes = seen[3 * i]
        height, width = wanted.sizes[i].tolist()
        assert torch.equal(boxes.boxes, wanted.labels[i].boxes)
        assert torch.equal(mixed, wanted.images[i, :, :height, :width]) == (name != "mum")


@pytest.mark.parametrize("views", ["weak", "both"])
def test_a_labelled_mixture_is_drawn_before_its_tiles(
    views: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = f"method={{name: supervised, mix: mosaic, tiles: {{num_tiles: 2}}, labeled_views: {views}}}"
    seen, bordered, (weak, strong, _) = drawn(tmp_path, monkeypatch, 4, words)
    assert len(bordered) == 4
    fed = weak if views == "weak" else strong
    wanted = MIX_PRESETS["mosaic"](fed, fed, keyed_generator(0, 0, 0, "method"))
    for i in range(4):
        assert torch.equal(seen[3 * i][1].boxes, wanted.labels[i].boxes)


def test_captions_say_whose_pixels_an_image_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheets: list[list[str]] = []
    contact_sheet = pictures.contact_sheet

    def keep(shown: list[Image.Image], columns: int, captions: list[str]) -> Image.Image:
        sheets.append(captions)
        return contact_sheet(shown, columns, captions)

    monkeypatch.setattr(pictures, "contact_sheet", keep)
    blended = "method={name: mum, mix_unlabeled: lossmix, decay: {burn_in_steps: 1}}"
    drawn(tmp_path, monkeypatch, 4, blended, "method.tiles.p=0")
    drawn(tmp_path, monkeypatch, 4, blended)
    drawn(tmp_path, monkeypatch, 4, "method={name: instant_teaching, mix_p: 0}")
    untiled, tiled, alone = (captions[2::3] for captions in sheets)
    name = r"train\S*#\d+"
    assert any(re.fullmatch(rf"{name} \+ {name}, no tiles \(method\.tiles\.p\)", caption) for caption in untiled)
    assert any(re.fullmatch(rf"{name} \+ {name} in mixed tiles; boxes of .*", caption) for caption in tiled)
    assert all(re.fullmatch(rf"fed: {name}", caption) for caption in alone)


def test_the_command_draws_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, pool = tmp_path / "tiles.png", "data.unlabeled=scenes:photo/train,count=16,size=96"
    assert main(["preview", "mum_small", *QUICK, pool, "--out", str(out), "--count", "2"]) == 0
    assert f"2 training inputs drawn in {out}" in capsys.readouterr().out
    with Image.open(out) as picture:
        assert picture.width > picture.height  # three columns, two rows
