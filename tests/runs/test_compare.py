"""Rows x seeds: what is run, what is kept, and the numbers of the table."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shlex
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mixdet.cli.arguments import parse
from mixdet.cli.main import main
from mixdet.recipes import load_recipe
from mixdet.runs import commands
from mixdet.runs import rows as module
from mixdet.runs.results import (
    T_QUANTILES,
    Entry,
    Result,
    comparison_markdown,
    comparison_rows,
    comparison_table,
    half_width,
    interval,
    of_row,
    paired,
    read_results,
    spread,
)
from mixdet.runs.rows import digest
from recipes_for_tests import QUICK

WORDS = [*QUICK, "schedule.steps=2", "run.checkpoint_every=1", "evaluation.visualize=0"]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A study of two rows, "plain" and "mixed", in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    rows = (
        "  - {name: plain, overrides: [method.mix=null], paper: {ap: 12.5}}\n"
        "  - {name: mixed, overrides: [method.mix=union], note: a note}\n"
    )
    Path("own.yaml").write_text(
        f"name: Our table\nsource: none\nrecipe: lossmix_small\noverrides: {WORDS}\nrows:\n{rows}"
    )
    return "own.yaml"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was trained and what was resumed, in order."""
    seen: list[str] = []
    for name in ("train", "resume"):

        def spy(
            *args: object, name: str = name, original: object = getattr(commands, name), **options: object
        ) -> object:
            seen.append(name)
            return original(*args, **options)  # type: ignore[operator]

        monkeypatch.setattr(commands, name, spy)
    return seen


def _results(path: str = "runs/compare/our_table.jsonl") -> list[Result]:
    return read_results(Path(path))


def _interrupt(monkeypatch: pytest.MonkeyPatch, step: int) -> pytest.MonkeyPatch:
    """SIGTERM arrives once, during step ``step`` of the next run."""
    from mixdet.training import loop

    make_step, sent = loop.Step, list[int]()

    def step_with_signal(index: int, *rest: object) -> object:
        if index == step - 1 and not sent:
            sent.append(index)
            os.kill(os.getpid(), signal.SIGTERM)
        return make_step(index, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "Step", step_with_signal)
    return monkeypatch


def test_a_line_for_each_row_and_seed_and_none_is_run_twice(
    study: str, calls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", study, "--seeds", "0,1"]) == 0
    assert calls == ["train"] * 4
    lines = _results()
    assert [(r.study, r.row, r.seed) for r in lines] == [
        ("Our table", row, seed) for seed in (0, 1) for row in ("plain", "mixed")
    ]
    for line in lines:
        assert (line.split, line.steps) == ("val", 2)
        assert line.metric.startswith("COCO AP")
        assert set(line.numbers) >= {"AP", "AP50", "AP75"}
        assert 0 < line.cpu_seconds < 60
        assert re.fullmatch(r"[0-9a-f]{12}\+?|\d+\.\d+\S*", line.commit)
        args = parse(shlex.split(line.command)[1:])
        assert args is not None
        assert (args.studies, args.rows, args.seeds) == ([study], (line.row,), (line.seed,))
    folder = Path("runs/compare/our_table/our_table-mixed-1")
    assert (folder / "weights" / "student-best.safetensors").is_file()
    assert not (folder / "checkpoints").exists()
    out = capsys.readouterr().out
    assert "COCO AP" in out
    assert "selected weights on val; mean ± sd over seeds" in out
    assert "mixed: a note" in out

    assert main(["compare", study, "--seeds", "1,2", "--rows", "mixed"]) == 0
    assert calls == ["train"] * 5
    assert main(["compare", study, "run.log_every=5", "data.workers=0"]) == 0  # changes no result
    assert calls == ["train"] * 5
    assert "12.50" in capsys.readouterr().out
    assert _results()[:4] == lines


def test_the_numbers_are_those_of_the_selected_weights_and_of_the_last(study: str) -> None:
    words = ["schedule.steps=3", "evaluation.every=1", "data.test=scenes:photo/test,count=3,size=96"]
    assert main(["compare", study, "--rows", "plain", *words]) == 0
    assert main(["compare", study, "--rows", "plain", *words[:2]]) == 0
    test, val = _results()
    folder = "runs/compare/our_table/our_table-plain-0"
    assert (test.split, val.split) == ("test", "val")
    last = 100 * commands.evaluate(Path(folder, "weights", "student-last.safetensors")).numbers["AP"]
    for line in (test, val):
        assert line.numbers.pop("AP student, last") == pytest.approx(last, abs=1e-4)
        numbers = commands.evaluate(folder, words[2:], split=line.split).numbers
        assert line.numbers == {k: None if v is None else pytest.approx(100 * v, abs=1e-4) for k, v in numbers.items()}


def test_the_last_steps_teacher_and_student_each_have_a_number(study: str) -> None:
    assert main(["compare", study, "--rows", "plain", "method.ema_decay=0.5", "schedule.steps=3"]) == 0
    (line,) = _results()
    for name in ("teacher", "student"):
        weights = Path("runs/compare/our_table/our_table-plain-0/weights", f"{name}-last.safetensors")
        last = commands.evaluate(weights).numbers["AP"]
        assert last is not None
        assert line.numbers[f"AP {name}, last"] == pytest.approx(100 * last, abs=1e-4)


def test_an_interrupted_row_is_resumed(study: str, calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["compare", study, "--rows", "mixed", "schedule.steps=3"]
    with monkeypatch.context() as patch:
        _interrupt(patch, step=2)
        assert main(words) == 143
    assert not Path("runs/compare/our_table.jsonl").exists()
    assert main(words) == 0
    assert main([*words, "--results", "straight/own.jsonl"]) == 0
    assert calls == ["train", "resume", "train"]
    assert _results()[0].numbers == _results("straight/own.jsonl")[0].numbers
    metrics = "our_table-mixed-0/metrics.jsonl"
    resumed, straight = (
        [json.loads(line).get("loss") for line in Path(parent, metrics).read_text().splitlines()]
        for parent in ("runs/compare/our_table", "straight/own")
    )
    assert resumed == straight


def test_a_run_that_ended_before_its_line_is_measured(study: str, calls: list[str]) -> None:
    recipe = load_recipe(
        "lossmix_small", [*WORDS, "method.mix=union", "seed=0", "run.out=runs/compare/our_table/our_table-mixed-0"]
    )
    commands.train(recipe)
    assert main(["compare", study, "--rows", "mixed"]) == 0
    assert calls == ["train", "resume"]
    assert [r.steps for r in _results()] == [2]


def test_a_changed_recipe_is_run_again(study: str, calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["compare", study, "--rows", "plain"]
    assert main(words) == 0
    with monkeypatch.context() as patch:
        _interrupt(patch, step=1)
        assert main([*words, "optim.lr=4e-3"]) == 143
    assert main([*words, "optim.lr=3e-3"]) == 0  # what was interrupted is another run
    assert calls == ["train"] * 3
    assert main(words) == 0
    assert calls == ["train"] * 3
    lines = _results()
    assert [r.row for r in lines] == ["plain"] * 2
    assert lines[0].recipe != lines[1].recipe
    assert "lr: 0.003" in Path("runs/compare/our_table/our_table-plain-0/recipe.yaml").read_text()


def test_as_many_processes_as_the_recipe_says(study: str, calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    spawned: list[tuple[list[str], int]] = []

    def spawn(arguments: list[str], devices: int) -> int:
        spawned.append((arguments, devices))
        commands.train(load_recipe(arguments[1], ["run.devices=1"]))
        return 0

    monkeypatch.setattr(module, "spawn", spawn)
    assert main(["compare", study, "--rows", "mixed", "data.shards=2", "run.devices=2"]) == 0
    assert spawned == [(["train", "runs/compare/our_table/our_table-mixed-0.yaml"], 2)]
    assert [r.split for r in _results()] == ["val"]
    monkeypatch.setattr(module, "spawn", lambda *_: 3)
    assert main(["compare", study, "--rows", "plain", "data.shards=2", "run.devices=2"]) == 3
    assert len(_results()) == 1


def test_recipes_are_rows_too(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name, mix in (("one", "null"), ("two", "half")):
        text = load_recipe("lossmix_small", [*WORDS, f"method.mix={mix}"]).to_yaml()
        Path(f"{name}.yaml").write_text(text)
    assert main(["compare", "one.yaml", "two.yaml", "schedule.warmup_steps=1"]) == 0
    assert [(r.study, r.row, r.seed) for r in _results("runs/compare/one_and_two.jsonl")] == [
        ("one and two", "one", 0),
        ("one and two", "two", 0),
    ]
    table = capsys.readouterr().out.split("one and two")[-1].split()
    assert {"row", "one", "two", "AP"} <= set(table)
    commands_of = [shlex.split(r.command)[1:] for r in _results("runs/compare/one_and_two.jsonl")]
    assert main(commands_of[1]) == 0  # there already
    assert len(_results("runs/compare/one_and_two.jsonl")) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["own.yaml", "quickstart"], "command line: own.yaml is a study; compare one study, or several recipes"),
        (["own.yaml", "--rows", "mixd"], "'mixd': Our table has no such row; did you mean 'mixed'? (plain, mixed)"),
        (
            ["lossmix_small", "bccd", "--rows", "bcd"],
            "command line: --rows bcd: not among the recipes lossmix_small, bccd",
        ),
        (["quickstart", "quickstart"], "command line: two of the recipes are called quickstart; rename one"),
        (["own.yaml", "data.val=null"], "plain: data.val=null: there is nothing to compare by; give it data.val or"),
        (["own.yaml", "--results", "bad.jsonl"], "bad.jsonl, line 1: not a result ("),
        (["own.yaml", "--results", "bytes.jsonl"], "bytes.jsonl: the text is not UTF-8, so not results; name another"),
    ],
)
def test_what_cannot_be_compared(
    words: list[str], message: str, study: str, calls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bytes.jsonl").write_bytes(b"\xff\xfe")
    Path("bad.jsonl").write_text('{"study": "Our table"}\n')
    assert main(["compare", *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"mixdet: error: {message}")
    assert err.count("\n") == 1
    assert calls == []


def test_not_under_torchrun(study: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["compare", study]) == 2
    assert "run it without torchrun" in capsys.readouterr().err


def test_the_digest_is_of_what_determines_the_result() -> None:
    recipe = load_recipe("lossmix_small")
    for same in ("run.out=a", "run.device=cpu", "run.log_every=7", "data.workers=3", "data.worker_start=fork"):
        assert digest(load_recipe("lossmix_small", [same])) == digest(recipe)
    others = ("seed=1", "method.mix=half", "data.flip=0", "optim.lr=2", "evaluation.metric=voc12")
    for other in (*others, "run.precision=bf16", "run.rollbacks=1"):
        assert digest(load_recipe("lossmix_small", [other])) != digest(recipe)
    default = {"optim.momentum=0.9", "schedule.gamma=0.1", "data.unlabeled=null", "run.precision=fp32"}
    assert all(digest(load_recipe("lossmix_small", [same])) == digest(recipe) for same in default)
    words = ["data.unlabeled=scenes:photo/train", "schedule.steps=3000"]
    teachers = [
        load_recipe("lossmix_small", [*words, f"method={{name: {name}}}"])
        for name in ("csd", "mum", "unbiased_teacher")
    ]
    assert len({digest(r) for r in (recipe, *teachers)}) == 4


def test_the_paired_interval_is_students() -> None:
    """Student (1908): the hours of sleep that ten patients gained; R's t.test prints 0.7001142 and 2.4598858."""
    gained = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    assert half_width(gained) == pytest.approx((2.4598858 - 0.7001142) / 2, rel=1e-4)
    assert interval(gained) == "+1.58 [+0.70, +2.46]"
    assert interval([1.0, 3.0]) == "+2.00 [-10.71, +14.71]"  # 12.706 * sqrt(2) / sqrt(2)
    assert interval([1.0, 2.0, 3.0]) == "+2.00 [-0.48, +4.48]"  # 4.303 * 1 / sqrt(3) = 2.484
    assert interval([-0.5]) == "-0.50"
    assert interval([]) == "-"


def test_the_quantiles_enclose_95_per_cent_of_students_density() -> None:
    for freedom, quantile in enumerate(T_QUANTILES, start=1):
        scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
        count = 20_000
        width = 2 * quantile / count
        middles = (-quantile + (i + 0.5) * width for i in range(count))
        inside = width * scale * sum((1 + t * t / freedom) ** (-(freedom + 1) / 2) for t in middles)
        assert inside == pytest.approx(0.95, abs=1e-4)
    assert half_width([0.0, 1.0] * 10) > 2.093 * math.sqrt(20 / 19 / 4) / math.sqrt(20)  # wider than 19 degrees need


def _result(row: str, seed: int, ap: float | None) -> Result:
    numbers = {"AP": ap, "AP50": None if ap is None else 2 * ap, "AP_small": 1.0}
    return Result("t", row, seed, "val", "COCO AP", numbers, 1, 1.0, "d", "c", "v")


def test_spread_and_pairs() -> None:
    results = [_result("a", 0, 10.0), _result("a", 1, 14.0), _result("b", 1, 15.5), _result("b", 2, None)]
    assert of_row(results, "b", "AP") == {1: 15.5}
    assert paired(of_row(results, "b", "AP"), of_row(results, "a", "AP")) == [1.5]
    assert spread([10.0, 14.0]) == "12.00 ± 2.83 (n=2)"
    assert spread([15.5]) == "15.50 (n=1)"
    assert spread([]) == "-"


def test_some_numbers_stand_where_a_paper_has_them() -> None:
    recipe = load_recipe("lossmix_small")
    entries = [Entry("base", lambda seed: recipe), Entry("own", lambda seed: recipe, {"ap_small": 9.86})]
    numbers: dict[str, float | None] = {
        "AP": 10.0,
        "APs": 4.0,
        "APl": 20.0,
        "AP teacher, last": 9.0,
        "AP student, last": 10.0,
    }
    results = [replace(_result(row, 0, 10.0), numbers=numbers) for row in ("base", "own")]
    assert comparison_rows(entries, results) == [
        ["row", "AP", "AP - base", "paper", "APs", "APs - base", "paper"],
        ["base", "10.00 (n=1)", "", "", "4.00 (n=1)", "", ""],
        ["own", "10.00 (n=1)", "+0.00", "", "4.00 (n=1)", "+0.00", "9.86"],
    ]
    assert comparison_rows([Entry("own", lambda seed: recipe, {"ap_student": 8.44})], results) == [
        ["row", "AP", "AP - own", "paper", "AP student, last", "AP student, last - own", "paper"],
        ["own", "10.00 (n=1)", "", "", "10.00 (n=1)", "", "8.44"],
    ]


def test_the_table() -> None:
    recipe = load_recipe("lossmix_small")
    entries = [Entry("base", lambda seed: recipe, {"ap": 53.3, "ap50": 78.89}), Entry("own", lambda seed: recipe)]
    results = [
        _result(row, seed, ap) for row, aps in (("base", (10, 12)), ("own", (13, 13))) for seed, ap in enumerate(aps)
    ]
    out = io.StringIO()
    Console(file=out, width=200).print(comparison_table("Title", entries, results))
    rows = [re.split(r"\s{2,}", line.strip()) for line in out.getvalue().splitlines() if line.strip()]
    assert rows == [
        ["Title"],
        ["row", "AP", "AP - base", "paper"],
        ["base", "11.00 ± 1.41 (n=2)", "53.30"],
        ["own", "13.00 ± 0.00 (n=2)", "+2.00 [-10.71, +14.71]"],
        ["row", "AP50", "AP50 - base", "paper"],
        ["base", "22.00 ± 2.83 (n=2)", "78.89"],
        ["own", "26.00 ± 0.00 (n=2)", "+4.00 [-21.41, +29.41]"],
    ]
    assert max(len(line) for line in out.getvalue().splitlines()) < 80
    markdown = comparison_markdown(entries, results).splitlines()
    assert markdown[0] == "| row | AP | AP - base | paper | AP50 | AP50 - base | paper |"
    assert markdown[1] == "| --- | --: | --: | --: | --: | --: | --: |"
    assert markdown[3].startswith("| own | 13.00 ± 0.00 (n=2) | +2.00 [-10.71, +14.71] |  | ")
