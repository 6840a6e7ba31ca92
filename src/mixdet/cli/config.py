"""``mixdet config show|check``: a recipe as it would run, without running it."""

from __future__ import annotations

import argparse

from mixdet.recipes.load import QUICKSTART, Layer, resolve
from mixdet.recipes.overrides import COMMAND_LINE
from mixdet.recipes.remarks import remarks


def run(args: argparse.Namespace) -> int:
    """Print the recipe (``args.action`` show) or that it is valid (check)."""
    resolved = resolve(args.recipe, [Layer(COMMAND_LINE, args.overrides)])
    if args.action == "show":
        print(resolved.annotated(), end="")
        return 0
    for note in remarks(resolved.recipe):
        print(f"note: {note}")
    print(f"{args.recipe or QUICKSTART}: valid")
    return 0
