"""The law of overrides: sections before keys, names before neighbours, layers in order, text as it is."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from mixdet.errors import MixdetError
from mixdet.recipes import Layer, MixSection, Recipe, load_recipe, resolve
from mixdet.recipes.load import stage_recipes
from mixdet.recipes.mix import BetaLam, FixedLam


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["optim={name: sgd, lr: 0.1}", "optim.lr=0.2", "seed=3"],
            {"optim": {"name": "sgd", "lr": 0.2}, "seed": 3},
        ),
        (
            ["method={mix: union}", "method.mix={p: 0.5}", "method.mix.lam.alpha=5", "method.ema_decay=0.9"],
            {"method": {"mix": {"p": 0.5, "lam": {"name": "beta", "alpha": 5}}, "ema_decay": 0.9}},
        ),
        (
            ["method.name=supervised", "method.mix.lam.name=fixed", "method.mix.lam.value=0.3"],
            {"method": {"mix": {"lam": {"name": "fixed", "value": 0.3}}}},
        ),
        (
            ["data.labeled=train.json", "data.labeled.fraction=0.1", "data={batch_size: 4}", "method.mix=null"],
            {
                "data": {"labeled": {"path": "train.json", "fraction": 0.1}, "batch_size": 4},
                "method": {"mix": None, "two_targets": True},
            },
        ),
    ],
)
def test_the_order_of_different_keys_does_not_matter(
    words: list[str], expected: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("method: {mix: lossmix, two_targets: true}")
    recipes = [load_recipe(path, list(order)) for order in permutations(words)]
    assert all(recipe == recipes[0] for recipe in recipes)
    whole = {"method": {"mix": "lossmix", "two_targets": True}} | expected
    assert recipes[0] == Recipe.model_validate(whole)


def test_the_last_of_one_key_wins() -> None:
    assert load_recipe("lossmix_small", ["seed=1", "seed=2"]).seed == 2
    assert load_recipe("lossmix_small", ["optim.lr=1", "optim={lr: 2}"]).optim.lr == 1


def test_a_later_layer_wins_even_with_a_section() -> None:
    rows = [Layer("row", ["method.mix.lam.alpha=5"]), Layer("command line", ["method.mix=union"])]
    assert resolve("lossmix_small", rows).recipe.method.mix == "union"
    assert isinstance(resolve("lossmix_small", rows[::-1]).recipe.method.mix, MixSection)


def test_a_name_starts_its_section_afresh(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("method: {name: supervised, mix: {p: 0.5, lam: {name: beta, alpha: 3}}, two_targets: true}")
    assert load_recipe(path, ["method.name=supervised"]).method == Recipe().method
    method = load_recipe(path, ["method.mix.lam.name=fixed", "method.mix.lam.value=0.5"]).method
    assert method.two_targets
    assert method.mix == MixSection(p=0.5, lam=FixedLam(value=0.5))
    assert load_recipe(path, ["method.mix={input: paste}"]).method.mix == MixSection(input="paste")
    assert load_recipe(path, ["optim.name=sgd", "optim.lr=3"]).optim.name == "sgd"


def test_the_name_of_a_flat_section_keeps_its_neighbours() -> None:
    schedule = load_recipe("lossmix_voc", ["schedule.name=cosine"]).schedule
    assert (schedule.name, schedule.steps) == ("cosine", 18000)


def test_a_key_within_what_is_written_in_short_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("{data: {labeled: a.json}, method: {mix: noise}}")
    recipe = load_recipe(path, ["data.labeled.fraction=0.1", "data.val.crowd=keep", "method.mix.p=0.5"])
    assert (recipe.data.labeled.path, recipe.data.labeled.fraction) == ("a.json", 0.1)
    assert recipe.data.val is not None
    assert (recipe.data.val.path, recipe.data.val.crowd) == ("scenes:photo/val", "keep")
    noise = MixSection.model_validate(MixSection.presets["noise"])
    assert recipe.method.mix == noise.model_copy(update={"p": 0.5})
    path.write_text("{data: {val: null}, method: {mix: null}}")
    recipe = load_recipe(path, ["data.val.path=b.json", "method.mix.lam.alpha=2"])
    assert recipe.data.val is not None
    assert recipe.data.val.path == "b.json"
    assert recipe.method.mix == MixSection(lam=BetaLam(alpha=2))


@pytest.mark.parametrize("text", ["1.0", "yes", "[a", "a=b", "07", "~", "a: b", " x ", "2012-01-01", "null.json", "#"])
def test_text_is_taken_as_it_is(text: str) -> None:
    recipe = load_recipe("lossmix_small", [f"data.labeled={text}", f"run.out={text}", f"data.val.path={text}"])
    assert recipe.data.labeled.path == text
    assert recipe.run.out == text
    assert recipe.data.val is not None
    assert recipe.data.val.path == text


def test_null_is_null_only_where_it_may_stand() -> None:
    assert load_recipe("lossmix_small", ["run.out=null"]).run.out is None
    assert load_recipe("lossmix_small", ["data.val=null"]).data.val is None
    assert load_recipe("lossmix_small", ["optim.clip_norm=null"]).optim.clip_norm is None
    assert load_recipe("lossmix_small", ["data.labeled=null"]).data.labeled.path == "null"
    assert load_recipe("lossmix_small", ["detector.weights=null"]).detector.weights == "null"


def test_values_are_yaml_elsewhere() -> None:
    words = ["optim.lr=1e-3", "data.short_sides=[160, 192]", "detector.mixed_terms=[]", "method.two_targets=true"]
    recipe = load_recipe("lossmix_small", [*words, "schedule.steps=1e3", "data.labeled={path: x.json, fraction: .5}"])
    assert recipe.optim.lr == 1e-3
    assert recipe.data.short_sides == (160, 192)
    assert recipe.detector.mixed_terms == ()
    assert recipe.method.two_targets is True
    assert recipe.schedule.steps == 1000
    assert (recipe.data.labeled.path, recipe.data.labeled.fraction) == ("x.json", 0.5)


def test_origins_follow_every_value() -> None:
    layers = [Layer("row", ["optim={lr: 0.5}"]), Layer("command line", ["method.mix.lam.alpha=2", "data.val=v.json"])]
    origins = {".".join(path): origin.place for path, origin in resolve("lossmix_small", layers).origins.items()}
    assert origins["optim.lr"] == "row"
    assert "optim.name" not in origins  # the section was replaced, the default is the schema's
    assert origins["method.mix.lam.alpha"] == "command line"
    assert "method.mix" not in origins
    assert origins["data.val"] == "command line"
    assert origins["data.labeled"] == origins["seed"] == "lossmix_small.yaml"
    assert "run.out" not in origins


POOL = ["data.unlabeled=pool", "schedule.steps=9000"]


def test_a_key_of_a_methods_section_keeps_the_methods_other_defaults() -> None:
    mum = {"value": 0.99, "burn_in_steps": 0, "ramp": "linear", "ramp_steps": 2000}
    teacher = {"value": 0.99, "burn_in_steps": 2000, "ramp": "none", "ramp_steps": 0}
    for name, expected in (("mum", mum), ("unbiased_teacher", teacher)):
        for words in (
            [f"method.name={name}", "method.decay.value=0.99"],
            ["method.decay.value=0.99", f"method.name={name}"],
            [f"method={{name: {name}, decay: {{value: 0.99}}}}"],
        ):
            method = load_recipe("lossmix_small", [*POOL, *words]).method
            assert method.decay.model_dump() == expected, words  # type: ignore[union-attr]


def test_a_stage_is_named_in_the_key() -> None:
    words = ["stages.supervised.optim.lr=0.1", "stages.supervised.schedule.steps=50", "stages.supervised.optim.lr=0.2"]
    recipe = load_recipe("stac_small", [*words, "stages.student.labels.score_threshold=0.5"])
    first, second = stage_recipes(recipe, Path("run"))
    assert first.seed == second.seed == recipe.seed
    assert (first.schedule.steps, first.optim.lr, first.method.name) == (50, 0.2, "supervised")
    assert second.schedule.steps == load_recipe("stac_small").schedule.steps
    labels = recipe.stages[1].labels
    assert labels is not None
    assert (labels.score_threshold, labels.rule) == (0.5, "fallback")
    whole = load_recipe("stac_small", ["stages.student.labels={by: [supervised], rule: matched}"]).stages[1].labels
    assert whole is not None
    assert whole.rule == "matched"


@pytest.mark.parametrize(
    ("recipe", "word", "line"),
    [
        (
            "stac_small",
            "stages.first.seed=1",
            "no stage of the recipe is called 'first'; its stages are supervised, student",
        ),
        ("mum_small", "stages.first.seed=1", "no stage of the recipe is called 'first'; it has none"),
        ("stac_small", "stages.student.labels.rul=1", "command line: stages.student.labels.rul=1: no such key"),
        ("stac_small", "stages.student.labels.rule=x", "must be one of threshold, fallback, matched"),
        ("stac_small", "stages.student.labels=null", "learns from labels that an earlier stage gave"),
        ("stac_small", "stages.student.scedule.steps=1", "stage student: scedule.steps=1: no such key"),
    ],
)
def test_what_no_stage_has(recipe: str, word: str, line: str) -> None:
    with pytest.raises(MixdetError) as fault:
        load_recipe(recipe, [word])
    assert line in str(fault.value)
    assert "\n" not in str(fault.value)


def test_stages_of_another_offset_draw_otherwise() -> None:
    recipe = load_recipe("multi_phase_small", ["seed=5", "stages.phase2.seed_offset=7"])
    assert [stage.seed for stage in stage_recipes(recipe, Path("run"))] == [5, 1005, 12]
