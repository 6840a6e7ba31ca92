"""``mixdet train`` and ``mixdet resume``."""

from __future__ import annotations

import argparse

from rich.console import Console

from mixdet.errors import EnvironmentFault
from mixdet.recipes.load import QUICKSTART, load_recipe
from mixdet.reports.tables import ap_table
from mixdet.runs import commands
from mixdet.runs.dry_run import dry_runs
from mixdet.runs.fit import FitResult
from mixdet.training.distributed import is_spawned
from mixdet.training.spawn import spawn
from mixdet.training.weights import read_card


def run(args: argparse.Namespace) -> int:
    """Train a recipe; in several processes where it says so."""
    recipe = load_recipe(args.recipe, args.overrides)
    if args.dry_run:
        dry_runs([(args.recipe or QUICKSTART, recipe)], Console())
        return 0
    if recipe.run.devices > 1 and not is_spawned():
        words = [
            "train",
            *([args.recipe] if args.recipe else []),
            *args.overrides,
            *(["--debug"] if args.debug else []),
        ]
        return spawn(words, recipe.run.devices)
    console = Console()
    return report(commands.train(args.recipe, args.overrides, console), console)


def report(result: FitResult, console: Console) -> int:
    """Say what a run came to and where its files are; its exit code.

    Raises:
        EnvironmentFault: all is there but the baseline that was asked for.
    """
    if result.folder is None:
        return result.exit_code
    if result.exit_code:
        _say(console, f"stopped at step {result.step}; go on with: mixdet resume {result.folder}")
        return result.exit_code
    for name, evaluation in result.val.items():
        console.print(f"\n[bold]{name}[/], validation")
        console.print(ap_table(evaluation))
    if result.test is not None:
        console.print("\n[bold]test[/], with the weights selected on validation")
        console.print(ap_table(result.test))
    if result.shipped is not None:
        card = read_card(result.shipped)
        _say(console, f"\nweights   {result.shipped} ({card.which}, step {card.step})")
    _say(console, f"pictures  {result.folder / 'images'}")
    _say(console, f"metrics   {result.folder / 'metrics.jsonl'}")
    _say(console, f"next      mixdet predict {result.folder} PHOTOS --out found")
    if result.gain is not None:
        if result.gain.advice:
            _say(console, f"\n{result.gain.advice}")
        console.print(f"\n[bold]{result.gain}[/]", highlight=False, soft_wrap=True)
    if result.lost:
        raise EnvironmentFault(result.lost)
    return 0


def _say(console: Console, line: str) -> None:
    """A line that may hold a path, as it is, to be copied."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
