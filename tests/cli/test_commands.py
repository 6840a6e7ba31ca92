"""The commands from end to end, in process, on a detector that trains in a second."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from mixdet.cli.main import main
from mixdet.data.scenes import scenes
from mixdet.detectors import UnrelatedLayer
from mixdet.runs import commands
from mixdet.runs.infer import load_trained
from mixdet.training.weights import read_weights
from recipes_for_tests import QUICK


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, trained from the command line."""
    out = tmp_path_factory.mktemp("runs") / "first"
    words = ["method.mix=lossmix", "method.ema_decay=0.5", "schedule.steps=3", "evaluation.every=2"]
    assert (
        main(
            ["train", "lossmix_small", *QUICK, *words, "data.test=scenes:photo/test,count=4,size=96", f"run.out={out}"]
        )
        == 0
    )
    return out


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    data = scenes("photo", count=3, size=96)
    for index, name in enumerate(("a.png", "b.jpg", "more/a.png")):
        Image.fromarray(data.image(index).permute(1, 2, 0).numpy()).save(folder / name)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files below ``folder``."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed to stderr: exactly one line."""
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "Traceback" not in text
    return text


def test_a_run_leaves_recipe_metrics_weights_and_pictures(run: Path) -> None:
    assert {p.name for p in run.iterdir()} == {
        "checkpoints",
        "env.json",
        "images",
        "metrics.jsonl",
        "recipe.yaml",
        "weights",
    }
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if "loss" in line]
    assert [line["step"] for line in trained] == [1, 2, 3]
    terms = {"rpn_cls", "rpn_box", "roi_cls", "roi_box"}
    for line in trained:
        assert line.keys() >= terms | {"lr", "images_per_second", "waiting_share", "lam"}
        assert line["loss"] == pytest.approx(sum(line[t] for t in terms), abs=1e-5)
    evaluated = {line["step"] for line in lines if "val/teacher/AP50" in line and "val/student/AP" in lines[-1]}
    assert evaluated == {2, 3}
    names = {f"{which}-last.safetensors" for which in ("student", "teacher")}
    assert {p.name for p in (run / "weights").iterdir()} >= names
    tensors, card = read_weights(run / "weights" / "teacher-last.safetensors")
    assert (card.which, card.step, card.short_side, card.long_side) == ("teacher", 3, 96, 96)
    assert card.classes == scenes("photo", count=1).classes
    assert tensors["backbone.body.stem.0.weight"].dtype == torch.float32
    for name in ("inputs.png", "detections.png"):
        with Image.open(run / "images" / name) as picture:
            assert picture.width > 300


def test_the_table_names_the_metric_and_where_the_files_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "lossmix_small", *QUICK, "schedule.steps=1", f"run.out={tmp_path / 'r'}"]) == 0
    text = capsys.readouterr().out
    assert "COCO AP @[IoU=0.50:0.95 | area=all | maxDets=100]" in text
    assert "learning rate 0.001 for a batch of 4" in text
    assert f"weights   {tmp_path / 'r' / 'weights' / 'student'}" in text
    assert f"pictures  {tmp_path / 'r' / 'images'}" in text


def test_eval_measures_another_data_set_with_another_metric(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data.val=scenes:clipart/val,count=3,size=96", "evaluation.metric=voc07"]
    assert main(["eval", str(run), *words]) == 0
    assert "VOC07 11-point AP50" in capsys.readouterr().out
    assert main(["eval", str(run / "weights" / "student-last.safetensors")]) == 0
    assert "COCO AP" in capsys.readouterr().out
    assert main(["eval", str(run), "data.test=scenes:photo/test,count=2,size=96", "--split", "test"]) == 0
    assert "2 images" in capsys.readouterr().out


def test_eval_counts_detections_above_the_score_asked_for(run: Path) -> None:
    trained = load_trained(run, torch.device("cpu"))
    scores = torch.cat([found.scores for found in trained.detect(scenes("photo", split="val", count=4, size=96))])
    counts = [
        commands.evaluate(run, [f"evaluation.score_threshold={score:.9f}"]).detections
        for score in (float(scores.median()), 1.0)
    ]
    assert counts == [int((scores > scores.median()).sum()), 0]
    assert commands.evaluate(run).detections == len(scores) > counts[0] > 0


def test_predict_draws_and_writes_coco_json(run: Path, photos: Path, tmp_path: Path) -> None:
    assert main(["predict", str(run), str(photos), "--out", str(tmp_path / "found"), "--score", "0.05"]) == 0
    content = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert [i["file_name"] for i in content["images"]] == ["a.png", "b.jpg", "more/a.png"]
    assert {c["name"] for c in content["categories"]} == set(scenes("photo", count=1).classes)
    sizes = {i["id"]: (i["width"], i["height"]) for i in content["images"]}
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        width, height = sizes[annotation["image_id"]]
        assert x >= 0 <= y
        assert x + w <= width + 0.02
        assert y + h <= height + 0.02
        assert annotation["score"] >= 0.05
    assert sorted(p.relative_to(tmp_path / "found").as_posix() for p in (tmp_path / "found").rglob("*.png")) == [
        "a.png",
        "b.png",
        "more/a.png",
    ]


def test_photos_that_differ_in_their_ending_get_a_picture_each(run: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "a.bmp"):
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    files = [str(tmp_path / name) for name in ("a.jpg", "a.bmp")]
    assert main(["predict", str(run), *files, "--out", str(tmp_path / "found")]) == 0
    assert sorted(p.name for p in (tmp_path / "found").glob("*.png")) == ["a.bmp.png", "a.jpg.png"]


def test_preview_draws_what_is_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for mix in ("lossmix", "cutmix", "mosaic", "null"):
        out = tmp_path / f"{mix}.png"
        assert main(["preview", "lossmix_small", *QUICK, f"method.mix={mix}", "--out", str(out), "--count", "5"]) == 0
        with Image.open(out) as picture:
            assert picture.height > 100
    assert len({(tmp_path / f"{m}.png").read_bytes() for m in ("lossmix", "cutmix", "mosaic", "null")}) == 4


def test_resume_of_a_finished_run_only_reports(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "metrics.jsonl").read_text()
    assert main(["resume", str(run)]) == 0
    assert (run / "metrics.jsonl").read_text() == before


def coco(folder: Path, change: Callable[[dict], None]) -> Path:  # type: ignore[type-arg]
    Image.new("RGB", (64, 48)).save(folder / "one.png")
    content = {
        "images": [{"id": 7, "file_name": "one.png", "width": 64, "height": 48}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{"id": 5, "image_id": 7, "category_id": 3, "bbox": [4, 4, 20, 20]}],
    }
    change(content)
    path = folder / "train.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optim.lrr=0.1"], ("optim.lrr", "did you mean", "lr")),
        (["optim.lr=fast"], ("optim.lr", "fast")),
        (["data.labeled=nowhere.json"], ("nowhere.json",)),
        (["schedule.steps=0"], ("schedule.steps", "0")),
        (["method.mix=losmix"], ("method.mix", "losmix", "lossmix")),
        (["data.batch_size=2", "data.shards=2", "method.mix=lossmix"], ("2 images to mix",)),
        (["detector.body=resnet50", "detector.weights=wheel"], ("detector.weights", "resnet50")),
        (["data.val=scenes:oil/val"], ("oil", "photo")),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: list[str], said: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "lossmix_small", *QUICK, *words, f"run.out={tmp_path / 'r'}"]) == 2
    line = one_line(capsys)
    assert all(word in line for word in said), line
    assert not (tmp_path / "r").exists()


def test_a_box_of_width_zero_is_one_line_naming_file_image_annotation_and_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = coco(tmp_path, lambda content: content["annotations"][0].update(bbox=[4, 4, 0, 20]))
    assert main(["train", "lossmix_small", *QUICK, f"data.labeled={path}", f"run.out={tmp_path / 'r'}"]) == 2
    line = one_line(capsys)
    assert all(word in line for word in ("train.json", "annotation 5", "bbox", "width")), line


def test_files_that_cannot_be_what_they_should_be_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preview", "lossmix_small", *QUICK, "--out", str(tmp_path / "mixed.pgn"), "--count", "1"]) == 2
    assert "mixed.pgn: its ending is of no kind of picture; write mixed.png" in one_line(capsys)
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe\x00")
    words = [f"data.val={{path: scenes:photo/val, files: {tmp_path / 'names.txt'}}}", f"run.out={tmp_path / 'r'}"]
    assert main(["train", "lossmix_small", *QUICK, *words]) == 2
    assert "names.txt: the text is not UTF-8" in one_line(capsys)


def test_a_missing_image_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = coco(tmp_path, lambda content: content["images"][0].update(file_name="two.png"))
    assert main(["train", "lossmix_small", *QUICK, f"data.labeled={path}", f"run.out={tmp_path / 'r'}"]) == 2
    assert "two.png" in one_line(capsys)


def test_classes_of_val_that_training_lacks_are_named_before_step_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = coco(tmp_path, lambda content: None)
    assert main(["train", "lossmix_small", *QUICK, f"data.val={path}", f"run.out={tmp_path / 'r'}"]) == 2
    assert "cat" in one_line(capsys)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["eval", "nowhere"], "nowhere"),
        (["predict", "nowhere", "a.jpg", "--out", "x"], "nowhere"),
        (["resume", "nowhere"], "nowhere"),
    ],
)
def test_what_is_not_there_is_named(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert said in one_line(capsys)


@pytest.mark.parametrize("name", ["photos", "found", "file"])
def test_predict_changes_nothing_that_is_there(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "detections.json").write_text("{}")
    (tmp_path / "file").write_text("notes")
    before = contents(tmp_path)
    said = {"photos": "holds the images themselves", "found": "is there already", "file": "is a file, not a folder"}
    assert main(["predict", str(run), str(tmp_path / "photos"), "--out", str(tmp_path / name)]) == 2
    line = one_line(capsys)
    assert said[name] in line
    assert "name another folder with --out" in line
    assert contents(tmp_path) == before


def test_a_picture_replaces_an_earlier_one_and_no_photo(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    before, photo = contents(tmp_path), str(tmp_path / "photos" / "a.png")
    for words in (["preview", "lossmix_small", *QUICK, "--count", "1"], ["gradcam", str(run), photo]):
        assert main([*words, "--out", photo]) == 2
        assert "a.png: is there already, and not drawn by mixdet; name another file with --out" in one_line(capsys)
    assert contents(tmp_path) == before
    for _ in range(2):
        assert main(["preview", "lossmix_small", *QUICK, "--count", "1", "--out", str(tmp_path / "p.png")]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "is a file, not a folder; name another folder with run.out"),
        (["data.labeled=nope.json"], "data.labeled: nope.json: "),
        (["data.val=nope.json"], "data.val: nope.json: "),
    ],
)
def test_train_names_the_setting_that_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    (tmp_path / "file").write_text("notes")
    out = tmp_path / ("r" if words else "file") / "run"
    assert main(["train", "lossmix_small", *QUICK, *words, f"run.out={out}"]) == 2
    assert said in one_line(capsys)
    assert contents(tmp_path) == {"file": b"notes"}


def test_a_run_does_not_begin_among_files_that_it_would_write_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "inputs.png").write_text("the user's")
    assert main(["train", "lossmix_small", *QUICK, f"run.out={tmp_path}"]) == 2
    assert "images: is there already; name another folder with run.out" in one_line(capsys)
    assert contents(tmp_path) == {"images/inputs.png": b"the user's"}


def test_labels_without_a_box_teach_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = coco(tmp_path, lambda content: content["annotations"].clear())
    assert main(["train", "lossmix_small", *QUICK, f"data.labeled={path}", f"run.out={tmp_path / 'r'}"]) == 2
    assert "data.labeled: train.json: no image has a box to learn from; add boxes" in one_line(capsys)


def test_predict_names_images_it_cannot_read(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.jpg").write_text("<html>")
    assert main(["predict", str(run), str(tmp_path / "bad.jpg"), "--out", str(tmp_path / "o")]) == 2
    assert "bad.jpg" in one_line(capsys)
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(run), str(tmp_path / "empty"), "--out", str(tmp_path / "o")]) == 2
    assert "no images" in one_line(capsys)


def test_gradcam_draws_a_row_an_image_and_a_column_a_detector(run: Path, photos: Path, tmp_path: Path) -> None:
    files = [str(photos / "a.png"), str(photos / "b.jpg")]
    sizes = []
    for beside in ([], ["--beside", str(run / "weights" / "student-last.safetensors")]):
        assert main(["gradcam", str(run), *files, *beside, "--out", str(tmp_path / "cam.png")]) == 0
        with Image.open(tmp_path / "cam.png") as picture:
            sizes.append(picture.size)
    assert sizes[1][0] == pytest.approx(1.5 * sizes[0][0], rel=0.05)  # three columns for two
    assert sizes[0][1] == sizes[1][1]
    assert main(["gradcam", str(run), *files, "--count", "1", "--out", str(tmp_path / "c.png")]) == 0
    with Image.open(tmp_path / "c.png") as picture:
        assert 2 * picture.height == pytest.approx(sizes[0][1], rel=0.05)


def test_gradcam_goes_on_where_one_score_does_not_depend_on_the_layer(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mixdet.runs import grad_cam as drawing

    grad_cam, unrelated = drawing.grad_cam, list[bool]()

    def asked(*words: object) -> object:
        if unrelated.pop():
            raise UnrelatedLayer("the score of this box does not depend on p2: it is pooled from another level")
        return grad_cam(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(drawing, "grad_cam", asked)
    words = ["gradcam", str(run), str(photos / "a.png"), str(photos / "b.jpg"), "--out", str(tmp_path / "cam.png")]
    unrelated += [False, True]
    assert main(words) == 0
    assert (tmp_path / "cam.png").is_file()
    capsys.readouterr()
    unrelated += [True, True]
    assert main(words) == 2
    assert "does not depend on p2: it is pooled from another level; name another --layer" in one_line(capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--class", "cat"], "no class 'cat'; it has "),
        (["--layer", "res5"], "no layer 'res5'; this detector has stem, "),
        (["--rank", "9999"], "no image has 9999 or more detections; give other images, or a lower --rank"),
        (["--beside", "nowhere"], "nowhere: no such weights file"),
        (["--out", "cam.what"], "cam.what: its ending is of no kind of picture"),
    ],
)
def test_gradcam_says_what_cannot_be_drawn(
    run: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["gradcam", str(run), str(photos), *words]) == 2
    assert said in one_line(capsys)


def test_own_data_without_own_validation_data_says_which_setting_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = coco(tmp_path, lambda content: None)
    assert main(["train", "lossmix_small", *QUICK, f"data.labeled={path}", f"run.out={tmp_path / 'r'}"]) == 2
    line = one_line(capsys)
    assert line.startswith("mixdet: error: data.val=scenes:photo/val,count=4,size=96 does not go with data.labeled="), (
        line
    )
    assert "set data.val=FILE, or data.val=null" in line


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["train", "train.json"], "write data.labeled=train.json"),
        (["compare", "lossmix_tabel3"], "lossmix_table3"),
        (["eval", "nowhere"], "no such run folder"),
    ],
)
def test_what_a_newcomer_types_is_answered_with_what_to_type(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert said in one_line(capsys)


def test_a_cut_image_is_found_before_step_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = coco(tmp_path, lambda content: None)
    whole = (tmp_path / "one.png").read_bytes()
    (tmp_path / "one.png").write_bytes(whole[: len(whole) - 30])
    assert (
        main(["train", "lossmix_small", *QUICK, f"data.labeled={path}", "data.val=null", f"run.out={tmp_path / 'r'}"])
        == 2
    )
    assert "one.png" in one_line(capsys)
    assert not (tmp_path / "r").exists()
