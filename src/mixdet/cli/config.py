"""``mixdet config show|explain|check``: a recipe as it would run, without running it."""

from __future__ import annotations

import argparse
from contextlib import suppress

from mixdet.recipes.explain import explained
from mixdet.recipes.load import QUICKSTART, Layer, resolve
from mixdet.recipes.overrides import COMMAND_LINE
from mixdet.recipes.remarks import remarks


def run(args: argparse.Namespace) -> int:
    """Print what ``args.action`` says: the recipe, the recipe with what its settings mean, or that it is valid."""
    resolved = resolve(args.recipe, [Layer(COMMAND_LINE, args.overrides)])
    if args.action == "show":
        text = resolved.annotated()
    elif args.action == "explain":
        text = "".join(f"{line}\n" for line in explained(resolved.recipe))
    else:
        text = "".join(f"note: {line}\n" for line in remarks(resolved.recipe))
        text += f"{args.recipe or QUICKSTART}: valid\n"
    with suppress(BrokenPipeError):  # the reader, such as `head`, has seen enough
        print(text, end="")
    return 0
