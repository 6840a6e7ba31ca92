"""The command line: its grammar, its help, its errors and exit codes."""

from __future__ import annotations

import argparse
import subprocess
import sys
from types import ModuleType

import pytest

from mixdet.cli.arguments import COMMANDS, parse
from mixdet.cli.main import main
from mixdet.errors import EnvironmentFault, MixdetError
from mixdet.recipes import load_recipe, recipe_names
from mixdet.recipes.yaml_text import parse as parse_yaml


def _parsed(line: str) -> dict[str, object]:
    args = parse(line.split())
    assert args is not None
    return vars(args)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("train", {"recipe": None, "overrides": []}),
        ("train lossmix_voc", {"recipe": "lossmix_voc", "overrides": []}),
        ("train seed=1", {"recipe": None, "overrides": ["seed=1"]}),
        ("train a.yaml seed=1 optim.lr=2", {"recipe": "a.yaml", "overrides": ["seed=1", "optim.lr=2"]}),
        ("train seed=1 a.yaml", {"recipe": "a.yaml", "overrides": ["seed=1"]}),
        ("train run/a=b.yaml run.out=a=b", {"recipe": "run/a=b.yaml", "overrides": ["run.out=a=b"]}),
        ("train seed=1 --debug optim.lr=-2", {"debug": True, "overrides": ["seed=1", "optim.lr=-2"]}),
        ("--debug train", {"debug": True, "recipe": None}),
        ("resume runs/a seed=1", {"run": "runs/a", "overrides": ["seed=1"]}),
        ("eval runs/a data.val=b.json", {"model": "runs/a", "overrides": ["data.val=b.json"]}),
        ("predict w.pth a b --out o", {"model": "w.pth", "paths": ["a", "b"], "out": "o", "score": 0.5}),
        ("predict --out o w.pth a --score 0.1 x=y", {"model": "w.pth", "paths": ["a", "x=y"], "score": 0.1}),
        ("gradcam w.pth a b", {"model": "w.pth", "paths": ["a", "b"], "beside": [], "rank": 1, "class_name": None}),
        ("gradcam w a --beside u --class dog --beside v", {"beside": ["u", "v"], "class_name": "dog", "layer": None}),
        ("preview", {"recipe": None, "overrides": [], "count": 8, "out": "preview.png"}),
        ("preview bccd --count 4 seed=1 --out p.png", {"recipe": "bccd", "overrides": ["seed=1"], "count": 4}),
        ("compare a b --seeds 0,2 seed=1", {"studies": ["a", "b"], "seeds": (0, 2), "overrides": ["seed=1"]}),
        ("compare a --rows x,y --results r.json", {"rows": ("x", "y"), "results": "r.json", "seeds": None}),
        ("config show", {"action": "show", "recipe": None, "overrides": []}),
        ("config check bccd seed=1", {"action": "check", "recipe": "bccd", "overrides": ["seed=1"]}),
    ],
)
def test_grammar(line: str, expected: dict[str, object]) -> None:
    found = _parsed(line)
    assert {key: found[key] for key in expected} == expected
    assert found["command"] == line.removeprefix("--debug ").split()[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian", "no command 'trian'; did you mean 'train'? (train, resume, eval,"),
        ("--debug", "which command? (train, resume,"),
        ("train --optim.lr=3", "train '--optim.lr': settings have no dashes; write optim.lr=VALUE"),
        ("train --epochs 3", "train '--epochs': no such option; settings are key=value, without dashes"),
        ("preview --cuont 3", "preview '--cuont': no such option; did you mean '--count'?"),
        ("train a b", "train 'b': settings are key=value, without spaces"),
        ("resume", "resume needs the folder of a run; see mixdet resume --help"),
        ("eval seed=1", "eval needs the run, or a weights file; see mixdet eval --help"),
        ("predict w --out o", "predict needs the images, or a folder of them"),
        ("predict w a", "the following arguments are required: --out; see mixdet predict --help"),
        ("predict w a --out o --score nan", "--score: 'nan' is not a score; use a number from 0 to 1"),
        ("preview --count 0", "--count: '0' is not a count; use 1, 2, ..."),
        ("preview --count", "--count: expected one argument"),
        ("compare", "compare needs a study, or recipes"),
        ("compare a --seeds 1,1", "--seeds: '1,1' is not a list of seeds; write different ones such as 0,1,2"),
        ("compare a --rows x,", "--rows: 'x,' is not a list of rows"),
        ("config", "config needs what to do: show, explain or check"),
        ("config chek", "config 'chek': write show, explain or check; did you mean 'check'?"),
    ],
)
def test_a_command_line_that_means_nothing(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith(f"mixdet: error: command line: {message}")


@pytest.mark.parametrize("words", [["--help"], *([command.name, "--help"] for command in COMMANDS)])
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 120
    if words == ["--help"]:
        assert all(command.summary in out for command in COMMANDS)
    else:
        command = next(c for c in COMMANDS if c.name == words[0])
        assert out.count("mixdet " + command.name) >= 3  # usage and two examples
        assert len(command.examples) == 2


def test_help_names_the_shipped_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "--help"])
    assert ", ".join(recipe_names()) in " ".join(capsys.readouterr().out.split())  # wrapped


@pytest.mark.parametrize("line", [e for c in COMMANDS for e in c.examples])
def test_the_examples_are_grammatical(line: str) -> None:
    assert f"mixdet {_parsed(line.removeprefix('mixdet '))['command']}" in line


def test_nothing_typed_is_help_and_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "start here" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mixdet 0.")


def test_config_show(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["optim.lr=0.04", "method.mix.lam.alpha=0.2", "data.val=mine.json"]
    assert main(["config", "show", "lossmix_voc", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert parse_yaml(out, "")[0] == load_recipe("lossmix_voc", words).model_dump(mode="json")
    lines = {" ".join(line.split()) for line in out.splitlines()}
    assert "lr: 0.04 # command line" in lines
    assert "alpha: 0.2 # command line" in lines
    assert "val: # command line" in lines
    assert "steps: 18000 # lossmix_voc.yaml" in lines
    assert "aspect_grouping: true" in lines  # a default says nothing


def test_config_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "explain", "mum_small", "seed=7"]) == 0
    text = capsys.readouterr().out
    assert load_recipe("mum_small", ["seed=7"]).model_dump(mode="json") == parse_yaml(text, "explained")[0]
    lines = text.splitlines()
    for key, meaning in (
        ("  score_threshold: 0.7", "  # "),
        (
            "    burn_in_steps: 200",
            "    # Steps on labelled images alone (unlabelled ones are read all the same), before",
        ),
        (
            "  metric: coco",
            "  # COCO's AP, or PASCAL VOC's of 2007 (11 points) or 2012 (area). One of coco, voc07, voc12.",
        ),
    ):
        assert lines[lines.index(key) - 1].startswith(meaning)
    assert "One of supervised, csd, stac, instant_teaching, ismt, multi_phase, unbiased_teacher, mum." in text


def test_config_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check"]) == 0
    assert capsys.readouterr().out == "quickstart: valid\n"
    assert main(["config", "check", "lossmix_voc", "run.devices=1"]) == 0
    assert capsys.readouterr().out.startswith("note: detector.norm=sync")
    assert main(["config", "check", "quickstart", "optim.lrr=1"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("mixdet: error: command line: optim.lrr=1: no such key; did you mean 'lr'?")


def _command(monkeypatch: pytest.MonkeyPatch, name: str, outcome: int | BaseException) -> list[argparse.Namespace]:
    seen = []

    def run(args: argparse.Namespace) -> int:
        seen.append(args)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    module = ModuleType(f"mixdet.cli.{name}")
    module.__dict__["run"] = run
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return seen


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_only_the_chosen_command_is_loaded_and_run(command: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command in COMMANDS
    seen = _command(monkeypatch, command.module, 0)  # type: ignore[attr-defined]
    assert main(command.examples[0].split()[1:]) == 0  # type: ignore[attr-defined]
    assert [args.command for args in seen] == [command.name]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("outcome", "code", "message"),
    [
        (143, 143, None),
        (MixdetError("a.json: no images;\nadd some"), 2, "a.json: no images; add some"),
        (EnvironmentFault("no network"), 3, "no network"),
        (FileNotFoundError(2, "No such file", "x"), 3, "x: No such file"),
        (OSError("disk"), 3, "disk"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(143), 143, None),
        (SystemExit(), 0, None),
        (ValueError("odd"), 1, "a fault of mixdet, ValueError: odd; run again with --debug for the traceback"),
    ],
)
def test_exit_codes(
    outcome: int | BaseException,
    code: int,
    message: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _command(monkeypatch, "train", outcome)
    assert main(["train"]) == code
    assert capsys.readouterr().err == (f"mixdet: error: {message}\n" if message else "")
    assert main(["--debug", "train"]) == code
    assert ("Traceback" in capsys.readouterr().err) == (message is not None)


def test_help_and_recipes_load_without_torch() -> None:
    script = (
        "import sys, time; from mixdet.cli.main import main\n"
        "main(['train', '--help']); spent = time.process_time()\n"
        "assert 'pydantic' not in sys.modules and 'yaml' not in sys.modules\n"
        "assert main(['config', 'check', 'lossmix_voc']) == 0\n"
        "import mixdet.recipes\n"
        "heavy = {'torch', 'torchvision', 'timm', 'numpy', 'rich', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert spent < 0.5, spent\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
