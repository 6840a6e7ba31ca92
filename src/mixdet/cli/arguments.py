"""The grammar of the command line; nothing heavier than argparse is loaded to read it."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

from mixdet.cli.options import add_options
from mixdet.errors import MixdetError

_OVERRIDES = """settings:
  key.sub=value changes one setting of the recipe, section={key: value} a whole section, key=null means none.
  `mixdet config show` prints every setting; quote values with brackets for your shell: 'data.short_sides=[160]'."""


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        name: what is typed.
        module: file of ``mixdet.cli`` whose ``run(args)`` does it.
        usage: its grammar.
        summary: one line.
        about: what a newcomer needs to know.
        examples: command lines.
    """

    name: str
    module: str
    usage: str
    summary: str
    about: str
    examples: tuple[str, ...]


COMMANDS = (
    Command(
        "train",
        "train",
        "[RECIPE] [key=value ...] [--dry-run]",
        "train a detector",
        "Trains what a recipe says and writes a run folder. Without a recipe: the quickstart, on drawn images that\n"
        "come with mixdet, minutes on a CPU. RECIPE is one of\n  {recipes}\nor a path to a YAML file.",
        ("mixdet train", "mixdet train mum_small data.labeled=train.json data.unlabeled=photos/ data.val=val.json"),
    ),
    Command(
        "resume",
        "resume",
        "RUN [key=value ...]",
        "go on with a run where it stopped",
        "Continues the run in folder RUN from its last complete checkpoint, exactly as if it had not stopped.",
        ("mixdet resume runs/quickstart-1", "mixdet resume runs/quickstart-1 run.device=cpu"),
    ),
    Command(
        "eval",
        "evaluate",
        "RUN|WEIGHTS [key=value ...] [--split val|test]",
        "measure a trained detector",
        "Measures the detector of a run folder, or of a weights file in one, on data.val or data.test.",
        ("mixdet eval runs/quickstart-1 --split test", "mixdet eval runs/quickstart-1 evaluation.metric=voc07"),
    ),
    Command(
        "predict",
        "predict",
        "RUN|WEIGHTS PATH ... --out DIR [--score 0.5]",
        "detect objects in images",
        "Writes the detections in images, or in folders of images, to DIR: drawn, and as a COCO file.",
        (
            "mixdet predict runs/quickstart-1 photos/ --out found",
            "mixdet predict runs/quickstart-1 a.jpg b.jpg --out found --score 0.8",
        ),
    ),
    Command(
        "split",
        "split",
        "DATA --labeled N|N% [--val N|N%] [--images DIR] [--seeds 0] [--folds K] [--out DIR] [option ...]",
        "keep the labels of some images",
        "Writes labeled.json, the images of DATA (a COCO file, or VOC_FOLDER:SPLIT) that keep their labels, and\n"
        "unlabeled.txt, a list of the others; with --val also val.json, images to validate on. Every class is among\n"
        "the labelled images, unless --rule is uniform.",
        (
            "mixdet split all.json --labeled 80% --val 20%",
            "mixdet split train.json --labeled 120 --seeds 0,1,2 --folds 5 --out split",
        ),
    ),
    Command(
        "preview",
        "preview",
        "[RECIPE] [key=value ...] [--out FILE] [--count 8]",
        "see the mixed images a recipe trains on",
        "Draws labelled images as the first steps would see them, or unlabelled ones; boxes as strong as they weigh.",
        ("mixdet preview", "mixdet preview lossmix_voc method.mix=union --out union.png"),
    ),
    Command(
        "tiles",
        "tiles",
        "DATA [--images DIR] [--num-tiles 1,2,4,8,16]",
        "see in how many tiles your objects would lie",
        "Prints MUM's N_O, the tiles an object lies in, by object size and number of tiles, and the numbers of tiles\n"
        "(method.tiles.num_tiles) that keep it where the paper found a gain. DATA is a COCO file or VOC_FOLDER:SPLIT.",
        ("mixdet tiles train.json", "mixdet tiles train.json --num-tiles 2,3,4,5,6"),
    ),
    Command(
        "gradcam",
        "gradcam",
        "RUN|WEIGHTS PATH ... [--beside RUN|WEIGHTS] [--class NAME] [--layer NAME] [option ...]",
        "see where a detector looks",
        "Draws for each image the best detection, and the pixels that its class score comes from (Grad-CAM). With\n"
        "--beside another detector, or several, is asked about the same box and class.",
        (
            "mixdet gradcam runs/quickstart-1 photos/",
            "mixdet gradcam runs/mum a.jpg --beside runs/baseline --class fish --out fish.png",
        ),
    ),
    Command(
        "compare",
        "compare",
        "STUDY_OR_RECIPE ... [key=value ...] [--seeds 0,1,2] [--rows A,B] [--results FILE] [--dry-run]",
        "run the rows of a table, or several recipes, side by side",
        "Runs every row with every seed and prints what was measured next to what the paper printed. A study is one\n"
        "of\n  {studies}\nor a path to a YAML file.",
        (
            "mixdet compare lossmix_small mum_small --seeds 0,1,2",
            "mixdet compare lossmix_table3 --rows union,lossmix --results table3.json",
        ),
    ),
    Command(
        "config",
        "config",
        "show|explain|check [RECIPE] [key=value ...]",
        "print or check a recipe without running it",
        "show prints every setting of the recipe, and behind those that are not defaults where they were set.\n"
        "explain prints them with what each means and which words it takes. check says whether the recipe is valid.",
        ("mixdet config explain mum method.mix_labeled=lossmix", "mixdet config check my_recipe.yaml"),
    ),
)


CONFIG_ACTIONS = ("show", "explain", "check")


class _Parser(argparse.ArgumentParser):
    """Errors are raised as one line; nothing is printed or exited."""

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        raise MixdetError(f"command line: {message}; see {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    """The whole grammar; ``parse`` is what reads a command line."""
    parser = _Parser(
        prog="mixdet",
        usage="mixdet COMMAND ...",
        description="Train object detectors by mixing images, when labels are few.",
        epilog="start here:\n  mixdet train                  a first detector on drawn images, minutes on a CPU\n"
        "  mixdet COMMAND --help         what a command does, with examples\n\n"
        "exit codes: 0 done, 1 a fault of mixdet, 2 the input, 3 the machine, 130 Ctrl-C, 143 terminated",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    parser.add_argument("--debug", action="store_true", help="print the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_Parser)
    for command in COMMANDS:
        add_options(command.name, _add_command(commands, command))
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace | None:
    """The command line as a namespace; None if it is empty.

    ``command`` and ``debug`` always; then, as the command has them: ``recipe`` (None: quickstart), ``run``, ``model``,
    ``paths``, ``studies``, ``action``, ``overrides`` (``key=value`` words in their order) and the options.

    Raises:
        MixdetError: a command line that means nothing, in one line with the fix.
        SystemExit: after --help and --version.
    """
    parser = build_parser()
    if not argv:
        return None
    first = next((word for word in argv if not word.startswith("-")), None)
    if first is not None and first not in (names := [c.name for c in COMMANDS]):
        raise MixdetError(f"command line: no command {first!r}{_closest(first, names)} ({', '.join(names)})")
    args, extra = parser.parse_known_args(argv)
    if unknown := next((word for word in extra if word.startswith("-")), None):
        raise MixdetError(f"command line: {args.command or 'mixdet'} {_unknown_option(unknown, args)}")
    if args.command is None:
        raise MixdetError(f"command line: which command? ({', '.join(c.name for c in COMMANDS)})")
    _arrange(args, [*vars(args).pop("words"), *extra])
    return args


def _add_command(commands: Any, command: Command) -> argparse.ArgumentParser:
    about = command.about.format(recipes=_names("recipes"), studies=_names("studies"))
    examples = "examples:\n" + "".join(f"  {example}\n" for example in command.examples)
    settings = f"{_OVERRIDES}\n\n" if "key=value" in command.usage else ""
    parser: argparse.ArgumentParser = commands.add_parser(
        command.name,
        prog=f"mixdet {command.name}",
        usage=f"mixdet {command.name} {command.usage}".replace("%", "%%"),
        help=command.summary,
        description=f"{command.summary.capitalize()}.\n\n{about}",
        epilog=settings + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="print the traceback of an error"
    )
    return parser


def _arrange(args: argparse.Namespace, words: list[str]) -> None:
    """Give the bare words of a command line their names."""
    if args.command in ("predict", "gradcam"):
        args.model = _required(args, words[:1], "the run, or a weights file")
        args.paths = words[1:]
        _required(args, args.paths, "the images, or a folder of them")
        return
    if args.command in ("split", "tiles"):
        args.data = _required(args, words, "the data: a COCO file, or VOC_FOLDER:SPLIT")
        if len(words) > 1:
            raise MixdetError(f"command line: {args.command} {words[1]!r}: one data set at a time")
        return
    args.overrides = [word for word in words if _is_override(word)]
    names = [word for word in words if not _is_override(word)]
    if args.command == "compare":
        args.studies = names
        _required(args, names, "a study, or recipes")
        return
    if args.command == "config":
        args.action = _required(args, names[:1], "what to do: show, explain or check")
        if args.action not in CONFIG_ACTIONS:
            hint = _closest(args.action, CONFIG_ACTIONS)
            raise MixdetError(f"command line: config {args.action!r}: write show, explain or check{hint}")
        names = names[1:]
    if len(names) > 1:
        raise MixdetError(f"command line: {args.command} {names[1]!r}: settings are key=value, without spaces")
    if args.command == "resume":
        args.run = _required(args, names, "the folder of a run")
    elif args.command == "eval":
        args.model = _required(args, names, "the run, or a weights file")
    else:
        args.recipe = names[0] if names else None


def _is_override(word: str) -> bool:
    """``a.b=c``, but not a path that has an ``=`` behind its first ``/``."""
    key, equals, _ = word.partition("=")
    return bool(equals) and "/" not in key and os.sep not in key


def _required(args: argparse.Namespace, words: list[str], what: str) -> str:
    if not words:
        raise MixdetError(f"command line: {args.command} needs {what}; see mixdet {args.command} --help")
    return words[0]


def _unknown_option(word: str, args: argparse.Namespace) -> str:
    name = word.partition("=")[0]
    if re.fullmatch(r"--\w+(\.\w+)+", name):
        return f"{name!r}: settings have no dashes; write {name[2:]}=VALUE"
    keys = [key.replace("_", "-") for key in vars(args) if key not in ("command", "words")]
    options = [f"--{key}" for key in (*keys, "help", "version")]
    hint = _closest(name, options)
    return f"{name!r}: no such option{hint or '; settings are key=value, without dashes'}"


def _closest(word: str, words: Sequence[str]) -> str:
    matches = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _names(folder: str) -> str:
    """Names of the YAML files that come with mixdet, found without loading the schema, in indented lines."""
    path = os.path.join(os.path.dirname(os.path.dirname(__file__)), folder)
    names = sorted(name.removesuffix(".yaml") for name in os.listdir(path) if name.endswith(".yaml"))
    return textwrap.fill(", ".join(names), 100, subsequent_indent="  ")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: list[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=options.get("help"))

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"mixdet {import_module('importlib.metadata').version('mixdet')}")
        parser.exit()
