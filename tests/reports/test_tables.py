from __future__ import annotations

from rich.console import Console

from mixdet.evaluation import ClassResult, Evaluation
from mixdet.evaluation.coco import COCO_AP, NUMBERS
from mixdet.reports import ap_markdown, ap_table

COCO = Evaluation(
    COCO_AP,
    0.21891,
    {name: (k + 0.21891 if k == 0 else k / 100) if name != "APl" else None for k, name in enumerate(NUMBERS)},
    {
        "cat": ClassResult({"AP": 0.5, "AP50": 1.0}, 12, 30),
        "dog [red]|<b>\x1b[2J": ClassResult({"AP": None, "AP50": None}, 0, 3),
    },
    7,
    12,
    33,
)
VOC = Evaluation("VOC07 11-point AP50", None, {"AP50": None}, {}, 2, 0, 0, "no ground truth")


def terminal(evaluation: Evaluation, width: int = 80) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(ap_table(evaluation))
    return capture.get()


def test_terminal_has_the_full_name_with_its_number_and_all_12() -> None:
    text = terminal(COCO)
    assert "COCO AP @[IoU=0.50:0.95 | area=all | maxDets=100]: 21.89" in text
    assert "7 images, 12 boxes, 33 detections" in text
    for name in NUMBERS:
        assert f" {name} " in text
    assert [line.split() for line in text.splitlines() if line.strip().startswith("cat")] == [
        ["cat", "50.00", "100.00", "12", "30"]
    ]


def test_terminal_shows_names_as_they_are() -> None:
    text = terminal(COCO)
    assert "dog [red]|<b>?[2J" in text
    assert "\x1b" not in text


def test_terminal_fits_80_columns() -> None:
    assert max(map(len, terminal(COCO).splitlines())) <= 80


def test_undefined_is_a_dash() -> None:
    assert "VOC07 11-point AP50: - (no ground truth)" in terminal(VOC)
    assert "VOC07 11-point AP50: - (no ground truth)" in ap_markdown(VOC)
    row = next(line for line in ap_markdown(COCO).splitlines() if line.startswith("| dog"))
    assert row.endswith("| - | - | 0 | 3 |")


def test_markdown() -> None:
    lines = ap_markdown(COCO).splitlines()
    assert lines[0] == r"**COCO AP @\[IoU=0.50:0.95 \| area=all \| maxDets=100\]: 21.89**"
    assert "| AP | AP50 | AP75 | APs | APm | APl |" in lines
    assert "| class | AP | AP50 | boxes | detections |" in lines
    assert "| :-- | --: | --: | --: | --: |" in lines
    assert "| cat | 50.00 | 100.00 | 12 | 30 |" in lines
    assert r"dog \[red\]\|&lt;b&gt;?\[2J" in ap_markdown(COCO)
