"""Studies: the tables of the paper as overrides, with its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixdet.errors import MixdetError
from mixdet.recipes import MixSection, Study, load_recipe, load_study, study_names
from mixdet.recipes.mix import BetaLam

LOSSMIX = ("lossmix_table1", "lossmix_table2", "lossmix_table3")
ROWS = [(name, row.name) for name in LOSSMIX for row in load_study(name).rows]


def test_there_are_the_tables_of_two_papers() -> None:
    mum = [f"mum_table{number}" for number in (1, 2, 3, 4, 5, 7, 8)]
    assert study_names() == (*LOSSMIX, "mum_supervised", *mum)


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_every_row_is_a_recipe(name: str, row: str) -> None:
    study = load_study(name)
    recipe = study.recipe_of(study.row(row), ["seed=7"])
    assert recipe.seed == 7
    assert recipe.schedule == load_recipe(study.recipe).schedule


def test_every_row_names_its_place_in_a_comment() -> None:
    for name in LOSSMIX:
        text = (Path(__file__).parents[2] / "src/mixdet/studies" / f"{name}.yaml").read_text()
        assert text.startswith(f"# mixdet compare {name}")
        table = f"# Table {name[-1]}, "
        named = text.count(table) + text.count("# Not in the paper: ")
        assert named == len(load_study(name).rows)


def test_table_1_and_2_are_two_backbones_of_four_rows() -> None:
    for name, keys in (("lossmix_table1", 3), ("lossmix_table2", 6)):
        study = load_study(name)
        assert len(study.rows) == 8
        assert {len(row.paper) for row in study.rows} == {keys}
        recipes = [study.recipe_of(row) for row in study.rows]
        assert [r.detector.body for r in recipes] == ["resnet50"] * 4 + ["resnet101"] * 4
        assert [r.method.mix for r in recipes] == [None, "noise", "union", "lossmix"] * 2
    assert load_study("lossmix_table1").row("r101_lossmix").paper == {"ap": 55.91, "ap50": 82.84, "ap75": 62.72}


def test_table_3_has_eleven_rows_and_two_controls() -> None:
    study = load_study("lossmix_table3")
    assert len([row for row in study.rows if row.paper]) == 11
    for row in study.rows:
        assert bool(row.paper) != (row.note or "").startswith("not in the paper")
    recipes = {row.name: study.recipe_of(row) for row in study.rows}
    assert {r.evaluation.select_by for r in recipes.values()} == {"ap"}
    assert recipes["classification_only"].detector.mixed_terms == ("rpn_cls", "roi_cls")
    assert recipes["localization_only"].detector.mixed_terms == ("rpn_box", "roi_box")
    assert recipes["roi_only"].detector.mixed_terms == ("roi_cls", "roi_box")
    assert recipes["alpha_0.2"].method.mix == MixSection(lam=BetaLam(alpha=0.2))
    assert recipes["reg"].method.mixed_fraction == 0.5
    assert recipes["partial"].method.mix_until_step == 16000
    assert len({recipe.to_yaml() for recipe in recipes.values()}) == 13


def test_layers_of_a_study(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "{name: S, source: x, recipe: lossmix_small, overrides: [seed=1, optim.lr=1],"
        " rows: [{name: a, overrides: [seed=2, method.mix.lam.alpha=3]}], seeds: [0, 1]}"
    )
    study = load_study(path)
    recipe = study.recipe_of(study.rows[0], ["method.mix=union"])
    assert (recipe.seed, recipe.optim.lr, recipe.method.mix) == (2, 1.0, "union")
    assert study.seeds == (0, 1)
    path.write_text("{name: S, source: x, recipe: lossmix_small, rows: [{name: a, overrides: [optim.lrr=1]}]}")
    with pytest.raises(MixdetError, match=r"^study 'S', row a: optim\.lrr=1: no such key; did you mean 'lr'\?"):
        load_study(path).recipe_of(load_study(path).rows[0])


def test_a_row_is_like_another_one_and_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "{name: S, source: x, recipe: lossmix_small, overrides: [optim.lr=1], rows: ["
        "{name: a, overrides: [optim.lr=2, data.batch_size=4]}, {name: b, like: a, overrides: [optim.lr=3]},"
        "{name: c, like: b, overrides: ['seed={seed}']}]}"
    )
    study = load_study(path)
    found = [study.recipe_of(row, seed=7) for row in study.rows]
    assert [(r.optim.lr, r.data.batch_size) for r in found] == [(2, 4), (3, 4), (3, 4)]
    assert study.words_of(study.row("c")) == ("optim.lr=2", "data.batch_size=4", "optim.lr=3", "seed={seed}")


HEAD = "{name: S, source: x, recipe: lossmix_small, rows: "


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (HEAD + "[{name: a, papr: {}}]}", r"s\.yaml:1: rows\[0\]\.papr=\{\}: no such key; did you mean 'paper'\?"),
        (
            HEAD + "[{name: a, paper: {ap_smal: 1}}]}",
            r"s\.yaml:1: rows\[0\]\.paper=\{ap_smal: 1.0\}: no such number 'ap_smal'; did you mean 'ap_small'\?",
        ),
        (HEAD + "[{name: a, paper: {ap: 120}}]}", r"s\.yaml:1: rows\[0\]\.paper\.ap=120: must be at most 100"),
        (HEAD + "[{name: 'a,b'}]}", r"rows\[0\]\.name='a,b': must match"),
        (HEAD + "[{name: a}, {name: a}]}", r"rows=\[a, a\]: names must differ; 'a' stands there twice"),
        (HEAD + "[{name: a, like: a}]}", r"rows\[0\]\.like='a': must be the name of a row above"),
        (HEAD + "[{name: a, like: b}, {name: b}]}", r"rows\[0\]\.like='b': must be the name of a row above"),
        (HEAD + "[]}", r"rows=\[\]: needs at least 1"),
        ("{name: S, source: x, recipe: y}", r"s\.yaml: rows: is missing"),
    ],
)
def test_an_error_in_a_study_is_one_line(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(MixdetError, match=line):
        load_study(tmp_path / "s.yaml")


def test_unknown_names() -> None:
    with pytest.raises(MixdetError, match=r"'lossmix_table4': no such study; did you mean 'lossmix_table"):
        load_study("lossmix_table4")
    study: Study = load_study("lossmix_table3")
    with pytest.raises(MixdetError, match=r"'unoin': LossMix Table 3, ablation has no such row; did you mean 'union'"):
        study.row("unoin")
