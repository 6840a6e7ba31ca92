"""``mixdet resume``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from mixdet.cli.train import report
from mixdet.runs import commands
from mixdet.runs.folder import RunFolder
from mixdet.training.distributed import is_spawned, spawn


def run(args: argparse.Namespace) -> int:
    """Go on with a run where it stopped; in as many processes as it had."""
    devices = RunFolder.open(Path(args.run))[1].run.devices
    if devices > 1 and not is_spawned():
        return spawn(["resume", args.run, *args.overrides], devices)
    console = Console()
    return report(commands.resume(args.run, args.overrides, console), console)
