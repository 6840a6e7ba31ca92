"""``mixdet split``: files that recipes read back as what was chosen."""

from __future__ import annotations

import json
import shlex
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from mixdet.cli.main import main
from mixdet.data import DetectionDataset, open_dataset
from mixdet.data.overlap import identities
from mixdet.data.splits import folds_of, labeled_subset
from mixdet.data.stand_in import write_coco, write_voc
from mixdet.data.unlabeled import open_unlabeled
from mixdet.errors import MixdetError
from mixdet.recipes import load_recipe
from mixdet.recipes.recipe import SourceSection
from mixdet.runs.data import build_dataset
from mixdet.runs.splitting import split


@pytest.fixture
def coco(tmp_path: Path) -> str:
    write_coco(tmp_path / "data" / "train.json", tmp_path / "data" / "train", 24)
    return str(tmp_path / "data" / "train.json")


def same(a: DetectionDataset, b: DetectionDataset) -> None:
    for field in ("classes", "boxes", "labels", "areas", "crowd", "sizes", "category_ids", "image_ids", "offsets"):
        assert np.array_equal(getattr(a, field), getattr(b, field)), field


def test_what_is_written_is_what_was_chosen(coco: str, tmp_path: Path) -> None:
    (made,) = split(coco, tmp_path / "out", fraction=0.5, seeds=(3,))
    whole = open_dataset(coco)
    chosen = labeled_subset(whole, fraction=0.5, seed=3)
    written = open_dataset(str(made.folder / "labeled.json"), str(tmp_path / "data" / "train"))
    same(written, whole.subset(chosen))
    pool = open_unlabeled(str(made.folder / "unlabeled.txt"))
    assert made.unlabeled == len(pool) == 12
    assert sorted(identities(pool) + identities(written)) == sorted(identities(whole))


def test_images_to_validate_on(coco: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made,) = split(coco, tmp_path / "out", count=12, val_fraction=0.25, seeds=(3,))
    assert (len(made.labeled), made.val, made.unlabeled) == (12, 6, 6)
    images = str(tmp_path / "data" / "train")
    parts = [identities(open_dataset(str(made.folder / f"{name}.json"), images)) for name in ("labeled", "val")]
    parts += [identities(open_unlabeled(str(made.folder / "unlabeled.txt")))]
    assert sorted(chain(*parts)) == sorted(identities(open_dataset(coco)))
    same(made.labeled, open_dataset(coco).subset(labeled_subset(open_dataset(coco), count=12, seed=3)))
    (fewer,) = split(coco, tmp_path / "fewer", count=9, val_fraction=0.25, seeds=(3,))
    held = [identities(open_dataset(str(s.folder / "val.json"), images)) for s in (made, fewer)]
    assert held[0] == held[1]  # with more labels the same images validate
    assert main(["split", coco, "--labeled", "75%", "--val", "25%", "--out", str(tmp_path / "all")]) == 0
    said = capsys.readouterr().out
    assert "6 to validate on, 0 unlabelled" in said
    assert "data.unlabeled=FOLDER" in said
    assert "val.json" in said


def test_several_seeds_and_folds(coco: str, tmp_path: Path) -> None:
    made = split(coco, tmp_path / "out", count=9, seeds=(0, 1), folds=3)
    assert [s.folder.name for s in made] == ["seed-0", "seed-1"]
    images = str(tmp_path / "data" / "train")
    for s in made:
        labeled = identities(s.labeled)
        held: list[str] = []
        for number in range(3):
            train, val = (
                identities(open_dataset(str(s.folder / f"fold-{number}-{part}.json"), images))
                for part in ("train", "val")
            )
            assert sorted(train + val) == sorted(labeled)
            assert len(val) == 3
            held += val
        assert sorted(held) == sorted(labeled)
    assert identities(made[0].labeled) != identities(made[1].labeled)


def test_voc(tmp_path: Path) -> None:
    write_voc(f"{tmp_path / 'VOC2007'}:trainval", 8)
    (made,) = split(f"{tmp_path / 'VOC2007'}:trainval", tmp_path / "out", count=5)
    labeled = open_dataset(str(made.folder / "labeled.json"), str(made.images))
    assert (len(labeled), len(labeled.classes)) == (5, 20)
    assert len(open_unlabeled(str(made.folder / "unlabeled.txt"))) == 3


def test_difficult_boxes_count_as_they_do_in_training(tmp_path: Path) -> None:
    data = f"{tmp_path / 'VOC2007'}:trainval"
    write_voc(data, 8)
    for file in (tmp_path / "VOC2007" / "Annotations").glob("*.xml"):
        file.write_text(file.read_text("utf-8").replace("<difficult>0<", "<difficult>1<"), "utf-8")
    (made,) = split(data, tmp_path / "out", fraction=0.5, rule="uniform", seeds=(3,))
    section = SourceSection(path=data, fraction=0.5, fraction_seed=3, fraction_rule="uniform")
    again = build_dataset(section)
    assert [made.labeled.images.name(i) for i in range(4)] == [again.images.name(i) for i in range(4)]
    assert (len(again), again.ignored.any()) == (4, False)


def test_nothing_is_overwritten(coco: str, tmp_path: Path) -> None:
    split(coco, tmp_path / "out", count=9)
    with pytest.raises(MixdetError, match=r"labeled\.json: is there already; name another folder with --out"):
        split(coco, tmp_path / "out", count=9)
    (tmp_path / "other").mkdir()
    for name in ("val.json", "unlabeled.txt", "fold-1-val.json"):
        (tmp_path / "other" / name).write_text("the user's")
        with pytest.raises(MixdetError, match=f"{name}: is there already"):
            split(coco, tmp_path / "other", count=9, val_count=3, folds=2)
        assert [path.read_text() for path in (tmp_path / "other").iterdir()] == ["the user's"]
        (tmp_path / "other" / name).unlink()


def test_the_uniform_rule_takes_images_with_a_box_only_and_may_miss_a_class(coco: str) -> None:
    whole = open_dataset(coco)
    assert (np.diff(whole.offsets) == 0).any()
    chosen = labeled_subset(whole, count=23, seed=0, rule="uniform")
    assert (np.diff(whole.subset(chosen).offsets) > 0).all()
    assert len(labeled_subset(whole, count=1, seed=0, rule="uniform")) == 1
    with pytest.raises(MixdetError, match="only 23 images have a box"):
        labeled_subset(whole, count=24, seed=0, rule="uniform")


def test_folds_are_refused_where_they_make_no_sense(coco: str) -> None:
    whole = open_dataset(coco)
    assert folds_of(whole, 0, 0) == []
    for folds in (1, 25):
        with pytest.raises(MixdetError, match=r"must be 0 or in \[2, 24\]"):
            folds_of(whole, folds, 0)


def test_the_command(coco: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["split", coco, "--labeled", "50%", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "12 labelled images (" in said
    assert "12 unlabelled" in said
    assert f"data.unlabeled={out}/unlabeled.txt" in said


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["scenes:photo/train,count=4,size=64", "--labeled", "2"], "has no image files to list"),
        (["DATA", "--labeled", "ten"], "'ten' is neither a number of images such as 120 nor a share such as 10%"),
        (["DATA", "--labeled", "0%"], "'0%' is neither"),
        (["DATA", "--labeled", "500"], "500 labelled images were asked for; it has 24: ask for 1 to 24"),
        (["DATA", "--labeled", "2"], "ask for at least"),
        (["DATA", "--labeled", "20", "--val", "5"], "which leaves 4, and 5 are asked for to validate on"),
        (["DATA", "--labeled", "20", "--val", "five"], "'five' is neither a number of images"),
        (["DATA"], "required"),
        (["--labeled", "3"], "split needs the data"),
        (["DATA", "other.json", "--labeled", "3"], "one data set at a time"),
        (["missing.json", "--labeled", "3"], "missing.json"),
    ],
)
def test_defects_in_one_line(
    words: list[str], line: str, coco: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [coco if word == "DATA" else word for word in words]
    assert main(["split", *argv, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_of_a_split_that_is_refused(coco: str, tmp_path: Path) -> None:
    with pytest.raises(MixdetError, match="folds = 1"):
        split(coco, tmp_path / "out", count=9, folds=1)
    assert not (tmp_path / "out").exists()


def test_a_list_under_a_linked_folder_is_read_back(coco: str, tmp_path: Path) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "far" / "away")
    (made,) = split(coco, tmp_path / "out", count=9)
    assert len(open_unlabeled(str(made.folder / "unlabeled.txt"))) == 15


def test_the_share_of_the_uniform_rule_is_of_the_images_with_a_box(coco: str) -> None:
    assert len(labeled_subset(open_dataset(coco), fraction=0.5, seed=0, rule="uniform")) == 11  # int(0.5 * 23)


def test_difficult_flags_that_are_lost_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_voc(f"{tmp_path / 'VOC2007'}:trainval", 8)
    words = ["split", f"{tmp_path / 'VOC2007'}:trainval", "--labeled", "6", "--out", str(tmp_path / "a, b")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "difficult boxes are ordinary ones in labeled.json" in said
    command = next(line for line in said.splitlines() if line.startswith("next: ")).removeprefix("next: ")
    recipe = load_recipe("mum", shlex.split(command)[3:5])
    assert recipe.data.labeled.path == str(tmp_path / "a, b" / "labeled.json")


@pytest.mark.parametrize("name", ["Bild\u202f1.png", "zero\u200dwidth.png", "\u00a0.png"])
def test_names_that_only_look_odd(name: str, coco: str, tmp_path: Path) -> None:
    rename(coco, name)
    (made,) = split(coco, tmp_path / "out", count=9, seeds=(0,))
    pool = open_unlabeled(str(made.folder / "unlabeled.txt"))
    labeled = open_dataset(str(made.folder / "labeled.json"), str(tmp_path / "data" / "train"))
    assert len(pool) == 15
    assert name in {d.images.name(i) for d in (pool, labeled) for i in range(len(d))}


def test_nothing_is_written_where_a_name_does_not_fit_a_line(coco: str, tmp_path: Path) -> None:
    rename(coco, "end.png ")
    with pytest.raises(MixdetError, match="a name that a line of text cannot hold"):
        split(coco, tmp_path / "out", count=9, seeds=(0, 1, 2))  # some seed leaves it unlabelled
    assert not (tmp_path / "out").exists()


def rename(coco: str, name: str) -> None:
    """Call the first image of a COCO file otherwise."""
    content = json.loads(Path(coco).read_text())
    folder = Path(coco).parent / "train"
    (folder / content["images"][0]["file_name"]).rename(folder / name)
    content["images"][0]["file_name"] = name
    Path(coco).write_text(json.dumps(content))
