"""``mixdet predict``."""

from __future__ import annotations

import argparse

from rich.console import Console

from mixdet.runs import commands


def run(args: argparse.Namespace) -> int:
    """Detect objects in images and say where the results are."""
    found = commands.predict(args.model, args.paths, args.out, args.score, args.device)
    boxes = sum(len(d) for d in found.detections)
    Console().print(
        f"{boxes} objects with score {args.score:g} or more in {len(found.files)} images; "
        f"pictures and detections.json in {args.out}",
        highlight=False,
        soft_wrap=True,
    )
    return 0
