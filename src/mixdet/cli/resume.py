"""``mixdet resume``."""

from __future__ import annotations

import argparse

from rich.console import Console

from mixdet.cli.train import report
from mixdet.runs import commands
from mixdet.training.distributed import is_spawned
from mixdet.training.spawn import spawn


def run(args: argparse.Namespace) -> int:
    """Go on with a run where it stopped; in as many processes as it had, or as ``run.devices`` now says."""
    _, recipe = commands.interrupted(args.run, args.overrides)
    if recipe.run.devices > 1 and not is_spawned():
        words = ["resume", args.run, *args.overrides, *(["--debug"] if args.debug else [])]
        return spawn(words, recipe.run.devices)
    console = Console()
    return report(commands.resume(args.run, args.overrides, console), console)
