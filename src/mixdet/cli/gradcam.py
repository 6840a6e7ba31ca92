"""``mixdet gradcam``."""

from __future__ import annotations

import argparse

from rich.console import Console

from mixdet.runs import commands


def run(args: argparse.Namespace) -> int:
    """Draw where detectors look."""
    models, out = [args.model, *args.beside], args.out
    path = commands.gradcam(models, args.paths, out, args.class_name, args.rank, args.layer, args.count, args.device)
    Console().print(f"drawn in {path}", highlight=False, soft_wrap=True)
    return 0
