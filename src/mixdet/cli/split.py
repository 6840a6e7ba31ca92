"""``mixdet split``."""

from __future__ import annotations

import argparse
import shlex

import numpy as np
from rich.console import Console

from mixdet.recipes.yaml_text import dump_value
from mixdet.runs.splitting import Split, split


def run(args: argparse.Namespace) -> int:
    """Choose the images that keep their labels, and say how to train with them."""
    fraction, count = args.labeled
    splits = split(
        args.data,
        args.out,
        images=args.images,
        fraction=fraction,
        count=count,
        seeds=args.seeds,
        folds=args.folds,
        rule=args.rule,
    )
    console = Console()
    for made in splits:
        console.print(_summary(made), highlight=False, soft_wrap=True, markup=False)
    first = splits[0]
    if flagged := int(first.labeled.difficult.sum()):
        console.print(
            f"{flagged} difficult boxes are ordinary ones in labeled.json: COCO files have no such flag",
            style="yellow",
            soft_wrap=True,
        )
    section = {"path": str(first.folder / "labeled.json"), "images": str(first.images)}
    labeled = f"data.labeled={dump_value(section)}"
    words = ["mixdet", "train", "mum", labeled, f"data.unlabeled={first.folder / 'unlabeled.txt'}"]
    words += ["data.val=VAL.json"]
    console.print(f"next: {shlex.join(words)}", highlight=False, soft_wrap=True, markup=False)
    return 0


def _summary(made: Split) -> str:
    counts = np.bincount(made.labeled.labels, minlength=len(made.labeled.classes)).tolist()
    boxes = ", ".join(f"{name} {count}" for name, count in zip(made.labeled.classes, counts, strict=True))
    return f"{made.folder}: {len(made.labeled)} labelled images ({boxes}), {made.unlabeled} unlabelled"
