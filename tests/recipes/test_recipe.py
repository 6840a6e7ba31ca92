"""Shipped recipes, the schema and its round trip through YAML."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mixdet.errors import MixdetError
from mixdet.recipes import MixSection, Recipe, UniformLam, load_recipe, recipe_names, remarks
from mixdet.recipes.method import MUMSection, SupervisedSection
from mixdet.recipes.section import Key, leaves
from mixdet.recipes.yaml_text import dump_value, parse


def _model_fields() -> list[tuple[str, str | None]]:
    found = []
    for path in leaves(Recipe):
        section = Key.of(Recipe).at(path[:-1])
        assert section is not None
        for model in section.sections:
            if path[-1] in model.model_fields:
                found.append((".".join(path), model.model_fields[path[-1]].description))
    return found


def test_the_shipped_recipes() -> None:
    assert recipe_names() == (
        "bccd",
        "csd",
        "instant_teaching",
        "ismt",
        "lossmix_coco",
        "lossmix_small",
        "lossmix_voc",
        "multi_phase",
        "multi_phase_small",
        "mum",
        "mum_coco",
        "mum_coco_additional",
        "mum_small",
        "mum_swin",
        "mum_voc",
        "mum_voc_coco",
        "quickstart",
        "stac",
        "stac_small",
        "supervised",
        "supervised_small",
        "unbiased_teacher",
    )


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_is_one_screen_with_its_command_and_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "src/mixdet/recipes" / f"{name}.yaml").read_text()
    assert len(text.splitlines()) <= 45
    first, second = text.splitlines()[:2]
    assert first.split("  ")[0] in (f"# mixdet train {name}", "# mixdet train")
    papers = ("lossmix_voc", "lossmix_coco", "mum_coco", "mum_coco_additional", "mum_swin", "mum_voc", "mum_voc_coco")
    assert ("Table" in second) == (name in papers)
    recipe = load_recipe(name)
    (tmp_path / "again.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "again.yaml") == recipe
    assert parse(recipe.to_yaml(), "")[0] == recipe.model_dump(mode="json")


def test_no_name_is_the_quickstart() -> None:
    assert load_recipe() == load_recipe("quickstart")
    recipe = load_recipe()
    assert (recipe.method.name, recipe.run.baseline) == ("mum", True)
    assert recipe.data.labeled.fraction == 0.1


def test_the_voc_recipe_is_supplement_b() -> None:
    recipe = load_recipe("lossmix_voc")
    optim, schedule, data = recipe.optim, recipe.schedule, recipe.data
    assert (optim.name, optim.lr, optim.momentum, optim.weight_decay) == ("sgd", 0.08, 0.9, 1e-4)
    assert (schedule.name, schedule.steps, schedule.milestones, schedule.gamma) == ("step", 18000, (12000, 16000), 0.1)
    assert (schedule.warmup_steps, schedule.warmup_factor) == (100, 0.001)
    assert (data.batch_size, data.short_sides, data.flip) == (64, tuple(range(480, 801, 32)), 0.5)
    assert (data.long_side, data.test_short_side, data.test_long_side) == (1333, 800, 1333)
    assert (recipe.detector.norm, recipe.detector.preset, recipe.detector.frozen_stages) == ("sync", "detectron2", 2)
    assert data.labeled.difficult == "keep"


@pytest.mark.parametrize("size", ["", "_small"])
def test_the_baseline_of_mum_differs_in_the_method_alone(size: str) -> None:
    baseline, mum = load_recipe(f"supervised{size}"), load_recipe(f"mum{size}")
    assert isinstance(baseline.method, SupervisedSection)
    assert isinstance(mum.method, MUMSection)
    assert (baseline.method.ema_decay, baseline.method.labeled_views) == (
        mum.method.decay.value,
        mum.method.labeled_views,
    )
    assert baseline.data == mum.data.model_copy(update={"unlabeled": None})
    for section in ("detector", "optim", "schedule", "evaluation"):
        assert getattr(baseline, section) == getattr(mum, section)


def test_the_coco_recipe_differs_in_length_and_sizes() -> None:
    recipe = load_recipe("lossmix_coco")
    assert (recipe.schedule.steps, recipe.schedule.milestones) == (270000, (210000, 250000))
    assert recipe.data.short_sides == tuple(range(640, 801, 32))
    assert recipe.optim == load_recipe("lossmix_voc").optim


def test_the_swin_recipe_is_the_papers_column() -> None:
    """Table 9, and the authors' burn-in without a ramp; half a per cent of 118,287 images."""
    recipe = load_recipe("mum_swin")
    method, optim, data = recipe.method, recipe.optim, recipe.data
    assert (method.name, method.score_threshold, method.unsup_weight, method.views) == ("mum", 0.7, 4, "both")
    assert (method.decay.value, method.decay.burn_in_steps, method.decay.ramp) == (0.999, 2000, "none")
    assert (method.tiles.group_size, method.tiles.num_tiles, method.tiles.p) == (4, 4, 1)
    assert (optim.name, optim.lr, optim.momentum, optim.weight_decay) == ("sgd", 0.01, 0.9, 1e-4)
    assert (recipe.schedule.name, recipe.schedule.steps) == ("constant", 60000)
    assert (data.batch_size, data.unlabeled_batch_size, data.labeled.fraction) == (16, None, 0.005)
    assert (recipe.detector.body, recipe.detector.frozen_stages) == ("swin_tiny", 0)


@pytest.mark.parametrize(("key", "description"), _model_fields())
def test_every_setting_is_described(key: str, description: str | None) -> None:
    assert description or key.endswith("lam.name")


def test_a_recipe_is_frozen_and_forbids_unknown_keys() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Recipe.model_validate({"sed": 1})


def test_a_string_is_short_for_a_data_sets_path() -> None:
    recipe = Recipe.model_validate({"data": {"labeled": "train.json", "val": None, "test": "test.json"}})
    assert recipe.data.labeled.path == "train.json"
    assert recipe.data.val is None
    assert recipe.data.test is not None
    assert recipe.data.test.path == "test.json"


def test_mix_is_a_preset_a_section_or_nothing() -> None:
    for value in (None, "union"):
        assert Recipe.model_validate({"method": {"mix": value}}).method.mix == value
    lam = {"name": "uniform", "low": 0.1, "high": 0.2}
    mix = Recipe.model_validate({"method": {"mix": {"supervision": "union", "lam": lam}}}).method.mix
    assert mix == MixSection(supervision="union", lam=UniformLam(low=0.1, high=0.2))


@pytest.mark.parametrize("name", MixSection.presets)
def test_presets_are_those_of_mixing(name: str) -> None:
    from mixdet.mixing import PRESETS

    mix, section = PRESETS[name], MixSection.model_validate(MixSection.presets[name])
    for key in ("input", "supervision", "per", "pairing", "p"):
        assert getattr(mix, key) == getattr(section, key)
    assert type(mix.lam).__name__.lower() == section.lam.name
    assert vars(mix.lam) == section.lam.model_dump(exclude={"name"})


def test_remarks_tell_what_is_probably_not_meant() -> None:
    assert remarks(load_recipe("lossmix_voc")) == []
    assert "detector.norm=sync" in remarks(load_recipe("lossmix_voc", ["run.devices=1"]))[0]
    assert "warm-up" in remarks(load_recipe("lossmix_small", ["schedule.steps=10"]))[0]
    assert "data.val=null" in remarks(load_recipe("lossmix_small", ["data.val=null"]))[0]
    assert "lags by some 2500 steps" in remarks(load_recipe("mum_small", ["method.decay.value=0.9996"]))[0]
    assert "ends within the ramp" in remarks(load_recipe("mum_coco", ["schedule.steps=1500"]))[-1]
    assert (
        "5 cells of 32, and is cut into 5 tiles" in remarks(load_recipe("mum_small", ["method.tiles.num_tiles=8"]))[0]
    )
    assert remarks(load_recipe("mum_small", ["method.tiles={num_tiles: 8, mode: reference}"])) == []
    assert "published with focal" in remarks(load_recipe("mum_small", ["detector.roi_cls_loss=cross_entropy"]))[0]


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_meant_as_they_are(name: str) -> None:
    assert [line for line in remarks(load_recipe(name)) if "group_size" not in line] == []


@settings(deadline=None)
@given(st.text() | st.floats(allow_nan=False) | st.integers() | st.booleans() | st.none() | st.lists(st.text()))
def test_a_value_survives_yaml(value: object) -> None:
    line = dump_value(value)
    assert "\n" not in line
    assert parse(line, "")[0] == value


@pytest.mark.parametrize(
    "text", ["1e-3", "no", "1:30", "2012-01-01", "0x10", "010", "1_000", "~", "null", "", "{a", "="]
)
def test_words_that_yaml_versions_read_differently_are_quoted(text: str) -> None:
    assert dump_value(text) == f"'{text}'"


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("-1E5", -1e5), (".5", 0.5), ("3.", 3.0), ("no", "no"), ("010", "010")]
)
def test_numbers_and_words(text: str, value: object) -> None:
    assert parse(text, "")[0] == value


BOMBS = {
    "a: &a [1]\nb: *a\n": ":2: aliases are not read; write the value out",
    "a: &a {b: [*a, *a]}\n": ":1: aliases are not read",
    "[" * 5000: ":1: nested deeper than 20 levels",
    "\n" + "{a: " * 5000: ":2: nested deeper than 20 levels",
    "a: " + "x" * 300_000: ": 200001 characters long",
    "optim:\n  lr: 1\n  lr: 2\n": ":3: the key 'lr' stands here twice",
    "optim:\n  lr: [1\n": ":3: expected ',' or ']'",
    "optim:\n\tlr: 3": ":2: found character '\\t'",
    "a: !!python/object/apply:os.system [ls]": ":1: could not determine a constructor",
    "{1: 2}": ":1: a key must be a word",
    "? [a]\n: b": ":1: a key must be a word",
    "a: \x01": ": not YAML: unacceptable character #x0001",
    "": ": the file is empty",
    "- a": ": holds a list, not the sections of a recipe",
    "a: 1\n---\nb: 2": ":2: but found another document",
}


@pytest.mark.parametrize(("text", "message"), BOMBS.items(), ids=list(BOMBS.values()))
def test_a_file_that_is_no_recipe(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(MixdetError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(MixdetError, match=r"binary\.yaml: is not UTF-8 text"):
        load_recipe(tmp_path / "binary.yaml")
    with pytest.raises(MixdetError, match="is not a file; give the path of a recipe's YAML"):
        load_recipe(tmp_path)
    with pytest.raises(MixdetError, match=r"none\.yaml: there is no such recipe file"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(MixdetError, match=r"'lossmix_vok': no such recipe; did you mean 'lossmix_voc'\? \(bccd, "):
        load_recipe("lossmix_vok")
