"""Entry of the command ``mixdet``: parse, load the one command that was chosen, turn errors into a line and a code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from importlib import import_module
from typing import NoReturn

from mixdet.cli.arguments import COMMANDS, build_parser, parse
from mixdet.cli.process import prepare_process
from mixdet.errors import MixdetError

DONE, FAULT, INPUT, MACHINE, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143


def main(argv: list[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: its words without the program's name; None for the process's own.

    Returns:
        0 done; 2 usage, recipe or data; 3 the machine; 130 Ctrl-C; 143 terminated; 1 a fault of mixdet. Errors are
        one line on stderr, with a traceback before it after ``--debug``.
    """
    words = sys.argv[1:] if argv is None else argv
    try:
        return _run(words)
    except SystemExit as stop:  # --help and --version, or a signal
        return stop.code if isinstance(stop.code, int) else DONE
    except KeyboardInterrupt:
        return _report("interrupted", INTERRUPTED, words)
    except MixdetError as error:
        return _report(str(error), error.exit_code, words)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _report(f"{place}{error.strerror or error}", MACHINE, words)
    except Exception as error:
        hint = "" if "--debug" in words else "; run again with --debug for the traceback"
        return _report(f"a fault of mixdet, {type(error).__name__}: {shortened(str(error))}{hint}", FAULT, words)


def shortened(text: str, longest: int = 300) -> str:
    """``text``, or its beginning."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def console() -> NoReturn:
    """The installed command."""
    prepare_process()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    sys.exit(main())


def _run(words: list[str]) -> int:
    args = parse(words)
    if args is None:
        build_parser().print_help()
        return INPUT
    module = next(command.module for command in COMMANDS if command.name == args.command)
    code: int = import_module(f"mixdet.cli.{module}").run(args)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _report(message: str, code: int, words: list[str]) -> int:
    if "--debug" in words:
        traceback.print_exc()
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(message.split()))
    print(f"mixdet: error: {line}", file=sys.stderr)
    return code
