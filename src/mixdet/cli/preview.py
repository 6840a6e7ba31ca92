"""``mixdet preview``."""

from __future__ import annotations

import argparse

from rich.console import Console

from mixdet.runs import commands


def run(args: argparse.Namespace) -> int:
    """Draw the images a recipe trains on."""
    path = commands.preview(args.recipe, args.overrides, args.out, args.count)
    Console().print(f"{args.count} training inputs drawn in {path}", highlight=False, soft_wrap=True)
    return 0
