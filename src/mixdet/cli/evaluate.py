"""``mixdet eval``."""

from __future__ import annotations

import argparse

from rich.console import Console

from mixdet.reports.tables import ap_table
from mixdet.runs import commands


def run(args: argparse.Namespace) -> int:
    """Measure a run's weights and print the table."""
    Console().print(ap_table(commands.evaluate(args.model, args.overrides, args.split)))
    return 0
