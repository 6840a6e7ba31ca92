"""MUM's tables: its recipes are Table 9, and rows of studies carry the paper's numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mixdet.recipes import Recipe, load_recipe, load_study, study_names

MUM = [name for name in study_names() if name.startswith("mum")]
FRACTIONS = {"0.5": 0.005, "1": 0.01, "2": 0.02, "5": 0.05, "10": 0.1, "additional": 1.0}

TABLE_1 = """
supervised        6.83±0.15   9.05±0.16   12.70±0.15  18.47±0.22  23.86±0.81  37.63
csd               7.41±0.21   10.51±0.06  13.93±0.12  18.63±0.07  22.46±0.08  38.82
stac              9.78±0.53   13.97±0.35  18.25±0.25  24.38±0.12  28.64±0.21  39.21
instant_teaching  -           18.05±0.15  22.45±0.15  26.75±0.05  30.40±0.05  39.6
ismt              -           18.88±0.74  22.43±0.56  26.27±0.24  30.53±0.52  39.6
multi_phase       -           -           -           -           -           40.1
unbiased_teacher  16.94±0.23  20.75±0.12  24.30±0.07  28.27±0.11  31.50±0.10  41.3
mum               18.54±0.48  21.88±0.12  24.84±0.10  28.52±0.09  31.87±0.30  42.11
"""
TABLE_4 = """
supervised        10.16  13.43  18.7  23.67  27.41
unbiased_teacher  15.95  19.8   24    27.88  30.48
mum               16.52  20.5   24.5  28.35  30.58
"""
OTHERS = {
    "mum_table2": """
        supervised               ap50 72.63 ap 42.13
        csd                      ap50 74.70
        stac                     ap50 77.45 ap 44.64
        instant_teaching         ap50 78.3  ap 48.7
        ismt                     ap50 77.2  ap 46.2
        multi_phase              ap50 77.4
        unbiased_teacher         ap50 77.4  ap 48.7
        mum                      ap50 78.94 ap 50.22
        csd_coco20               ap50 75.1
        stac_coco20              ap50 79.08 ap 46.01
        instant_teaching_coco20  ap50 79.0  ap 49.7
        ismt_coco20              ap50 77.75 ap 49.59
        unbiased_teacher_coco20  ap50 78.82 ap 50.34
        mum_coco20               ap50 80.45 ap 52.31
    """,
    "mum_table3": """
        baseline  ap 18.40 ap50 34.99 ap75 17.48
        tiles_4   ap 18.99 ap50 36.09 ap75 18.31
        tiles_2   ap 18.52 ap50 35.25 ap75 17.61
        tiles_8   ap 18.28 ap50 35.19 ap75 17.00
        tiles_16  ap 16.46 ap50 31.93 ap75 15.22
        group_2   ap 18.92 ap50 35.94 ap75 17.89
        group_6   ap 18.85 ap50 36.27 ap75 17.66
        group_12  ap 18.84 ap50 36.12 ap75 17.56
    """,
    "mum_table5": """
        cutout_t       ap_teacher 8.27 ap_student 8.44
        cutout_t_star  ap_teacher 15.95 ap_student 14.68
        mum_t          ap_teacher 14.55 ap_student 14.22
        mum_t_star     ap_teacher 16.52 ap_student 15.38
    """,
    "mum_table7": """
        unbiased_teacher  ap 20.70 ap_small 8.93 ap_medium 21.85 ap_large 28.07
        mum               ap 21.81 ap_small 9.86 ap_medium 23.66 ap_large 27.91
    """,
    "mum_table8": """
        tiles_1  ap_small 8.93 ap_medium 21.85 ap_large 28.07
        tiles_2  ap_small 9.33 ap_medium 22.93 ap_large 28.60
        tiles_4  ap_small 9.86 ap_medium 23.66 ap_large 27.91
        tiles_8  ap_small 9.72 ap_medium 22.33 ap_large 27.12
    """,
    "mum_supervised": "cutout ap 36.87\n mum ap 38.12",
}


def _row(study: str, row: str, seed: int = 0) -> Recipe:
    found = load_study(study)
    return found.recipe_of(found.row(row), seed=seed)


@pytest.mark.parametrize(
    ("name", "weight", "decay", "ramp", "steps", "batch"),
    [
        ("mum_coco", 4, 0.9996, 2000, 180000, 32),
        ("mum_coco_additional", 2, 0.9996, 90000, 360000, 32),
        ("mum_voc", 4, 0.9996, 30000, 45000, 32),
        ("mum_voc_coco", 4, 0.9996, 30000, 90000, 32),
    ],
)
def test_the_recipes_are_the_columns_of_table_9(
    name: str, weight: float, decay: float, ramp: int, steps: int, batch: int
) -> None:
    recipe = load_recipe(name)
    method, optim, schedule, data = recipe.method, recipe.optim, recipe.schedule, recipe.data
    assert (method.name, method.score_threshold, method.unsup_weight, method.views) == ("mum", 0.7, weight, "both")
    assert (method.decay.value, method.decay.burn_in_steps) == (decay, 0)
    assert (method.decay.ramp, method.decay.ramp_steps) == ("linear", ramp)
    assert (method.tiles.group_size, method.tiles.num_tiles, method.tiles.p) == (4, 4, 1.0)
    assert (optim.name, optim.lr, optim.momentum, optim.weight_decay) == ("sgd", 0.01, 0.9, 1e-4)
    assert (optim.reference_batch_size, optim.clip_norm) == (batch, None)
    assert (schedule.name, schedule.steps, schedule.warmup_steps) == ("constant", steps, 1000)
    assert (data.batch_size, data.unlabeled_batch_size, recipe.evaluation.metric) == (batch, None, "coco")
    detector = recipe.detector
    assert (detector.body, detector.norm, detector.frozen_stages) == ("resnet50", "frozen", 2)
    assert (detector.preset, detector.roi_cls_loss) == ("unbiased_teacher", "focal")


@pytest.mark.parametrize(
    ("study", "row", "recipe"),
    [
        ("mum_table1", "mum_1", "mum_coco"),
        ("mum_table1", "mum_additional", "mum_coco_additional"),
        ("mum_table2", "mum", "mum_voc"),
        ("mum_table2", "mum_coco20", "mum_voc_coco"),
        ("mum_table4", "mum_0.5", "mum_swin"),
        ("mum_table5", "mum_t_star", "mum_swin"),
        ("mum_table7", "mum", "mum_coco"),
        ("mum_table8", "tiles_4", "mum_coco"),
    ],
)
def test_a_row_that_is_a_recipe_is_that_recipe(study: str, row: str, recipe: str) -> None:
    assert _row(study, row) == load_recipe(recipe)


def test_every_row_names_its_place_in_a_comment() -> None:
    for name in MUM:
        text = (Path(__file__).parents[2] / "src/mixdet/studies" / f"{name}.yaml").read_text()
        assert text.startswith(f"# mixdet compare {name}")
        place = "Section 5, " if name == "mum_supervised" else f"Table {name[-1]}, "
        comment = ""
        for line in text.split("rows:\n")[1].splitlines():
            if line.startswith("  # "):
                comment = line[4:]
            elif found := re.match(r"  - \{?name: ([\w.]+)", line):
                paper = bool(load_study(name).row(found[1]).paper)
                assert comment.startswith(place if paper else "Not in the paper: "), found[1]
    for row in (row for name in MUM for row in load_study(name).rows if not row.paper):
        assert (row.note or "").startswith("not in the paper"), row.name


@pytest.mark.parametrize(("study", "table"), [("mum_table1", TABLE_1), ("mum_table4", TABLE_4)])
def test_the_numbers_of_coco_standard(study: str, table: str) -> None:
    rows = {row.name: row for row in load_study(study).rows if row.paper}
    for line in table.split("\n")[1:-1]:
        system, *cells = line.split()
        for part, cell in zip(FRACTIONS, cells, strict=False):
            if cell == "-":
                continue
            ap, _, spread = cell.partition("±")
            row = rows.pop(f"{system}_{part}")
            assert row.paper == {"ap": float(ap)}
            assert (row.note or "") == (f"± {spread} in the paper" if spread else "")
    assert not rows


@pytest.mark.parametrize("study", OTHERS)
def test_the_numbers_of_the_other_tables(study: str) -> None:
    expected = {}
    for line in OTHERS[study].strip().splitlines():
        name, *words = line.split()
        expected[name] = {key: float(value) for key, value in zip(words[::2], words[1::2], strict=True)}
    assert {row.name: row.paper for row in load_study(study).rows if row.paper} == expected


@pytest.mark.parametrize("study", ["mum_table1", "mum_table4"])
def test_a_seed_is_another_draw_of_the_papers_part(study: str) -> None:
    for row in load_study(study).rows:
        recipe = _row(study, row.name, seed=3)
        labeled = recipe.data.labeled
        assert labeled.fraction == FRACTIONS[row.name.rpartition("_")[2]]
        assert (labeled.fraction_rule, labeled.fraction_seed, recipe.seed) == ("uniform", 3, 3)
        assert (recipe.data.unlabeled is not None) == recipe.method.unlabeled
        if row.name.endswith("additional") and recipe.data.unlabeled:
            assert recipe.data.unlabeled.path.endswith("unlabeled2017")


def test_rows_of_table_1_are_the_systems_protocols() -> None:
    teacher, more = _row("mum_table1", "unbiased_teacher_2"), _row("mum_table1", "unbiased_teacher_additional")
    assert (teacher.method.decay.burn_in_steps, teacher.method.unsup_weight, teacher.schedule.steps) == (
        2000,
        4,
        180000,
    )
    assert (more.method.decay.burn_in_steps, more.method.unsup_weight, more.schedule.steps) == (90000, 2, 360000)
    assert more.method.decay.value == 0.9996
    stac = _row("mum_table1", "stac_5")
    assert (stac.data.batch_size, stac.optim.lr, stac.schedule.milestones) == (8, 0.01, (120000, 160000))
    assert [stage.name for stage in stac.stages] == ["supervised", "student"]
    assert _row("mum_table1", "supervised_5").schedule == stac.schedule
    instant = _row("mum_table1", "instant_teaching_1")
    assert (instant.method.co_rectify, instant.detector.preset) == (True, "instant_teaching")
    assert _row("mum_table1", "ismt_1").detector.name == "two_head_rcnn"
    assert _row("mum_table1", "multi_phase_additional").ensemble == (0.7, 1.0, 1.7)
    assert _row("mum_table2", "multi_phase").ensemble == (0.9, 1.0, 1.4)
    mixed = _row("mum_table1", "stac_mum_1")
    tiles = mixed.method.mixed_tiles()
    assert tiles is not None
    assert (tiles.group_size, mixed.data.batch_size // mixed.data.shards) == (4, 4)
    assert _row("mum_table1", "mum_box_1").method.unsup_box_loss


def test_rows_of_the_ablations_differ_in_what_they_are_about() -> None:
    third = {row.name: _row("mum_table3", row.name) for row in load_study("mum_table3").rows}
    assert {(r.data.batch_size, r.data.shards, r.schedule.steps) for r in third.values()} == {(12, 1, 45000)}
    assert {(r.optim.lr, r.optim.reference_batch_size) for r in third.values()} == {(0.01, 12)}
    assert third.pop("baseline").method.name == "unbiased_teacher"
    assert {n: (r.method.tiles.group_size, r.method.tiles.num_tiles) for n, r in third.items()} == {
        "ramp": (1, 1),
        **{f"tiles_{n}": (4, n) for n in (2, 4, 8, 16)},
        **{f"group_{n}": (n, 4) for n in (2, 6, 12)},
    }
    fifth = {row.name: _row("mum_table5", row.name).method for row in load_study("mum_table5").rows}
    assert {n: (m.name, m.decay.value, m.decay.burn_in_steps) for n, m in fifth.items()} == {
        "cutout_t": ("unbiased_teacher", 0.9996, 2000),
        "cutout_t_star": ("unbiased_teacher", 0.999, 2000),
        "mum_t": ("mum", 0.9996, 2000),
        "mum_t_star": ("mum", 0.999, 2000),
    }


def test_supervised_detection_is_detectron2s_1x_schedule() -> None:
    rows = {row.name: _row("mum_supervised", row.name) for row in load_study("mum_supervised").rows}
    for recipe in rows.values():
        assert (recipe.data.batch_size, recipe.optim.lr, recipe.optim.reference_batch_size) == (16, 0.02, 16)
        assert (recipe.schedule.steps, recipe.schedule.milestones) == (90000, (60000, 80000))
        assert (recipe.method.name, recipe.method.mix, recipe.detector.norm) == ("supervised", None, "frozen")
    views = {name: (recipe.method.views, recipe.method.mixed_tiles() is not None) for name, recipe in rows.items()}
    assert views == {
        "plain": ("weak", False),
        "cutout": ("strong", False),
        "patches": ("strong", False),
        "mum": ("weak", True),
        "mum_half": ("weak", True),
    }
    strong = rows["patches"].data.strong
    assert (strong.jitter_p, strong.grey_p, strong.blur_p, strong.erase) == (0, 0, 0, True)
