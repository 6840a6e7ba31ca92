"""What a run says of its detectors."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mixdet.data import open_dataset
from mixdet.evaluation import Evaluation
from mixdet.runs.journal import Journal
from mixdet.training.distributed import World
from recipes_for_tests import quick_recipe

POOL = "data.unlabeled=scenes:photo/train,count=16,size=96"


def test_teacher_and_student_are_compared_by_ap_whatever_the_headline(tmp_path: Path) -> None:
    """Of PASCAL VOC's metric the headline is AP50."""

    def reached(ap: float, ap50: float) -> Evaluation:
        return Evaluation("VOC12 AP50", ap50, {"AP50": ap50, "AP": ap}, {}, 4, 9, 9)

    recipe = quick_recipe(tmp_path, "method={name: mum}", POOL)
    labeled = open_dataset("scenes:photo/train,count=4,size=96")
    journal = Journal(recipe, labeled, World(), Console(quiet=True), 0, tmp_path / "metrics.jsonl")
    assert journal.health is not None
    begun = journal.health.begins + 1
    journal.evaluated(begun, {"teacher": reached(0.30, 0.60), "student": reached(0.29, 0.80)})
    line = journal.health.line(begun, {"pseudo_boxes": 1.0, "pseudo_passed": 1.0})
    assert "AP teacher 30.0 student 29.0" in line
    assert "alarm" not in (tmp_path / "metrics.jsonl").read_text()
    journal.evaluated(begun + 1, {"teacher": reached(0.20, 0.80), "student": reached(0.29, 0.60)})
    assert "the teacher (AP 20.0) is worse than its student (29.0)" in (tmp_path / "metrics.jsonl").read_text()
