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
    val_fraction, val_count = args.val or (None, None)
    splits = split(
        args.data,
        args.out,
        images=args.images,
        fraction=fraction,
        count=count,
        val_fraction=val_fraction,
        val_count=val_count,
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
    words = ["mixdet", "train", "mum_small", f"data.labeled={_section(first, 'labeled.json')}"]
    words += [f"data.unlabeled={first.folder / 'unlabeled.txt' if first.unlabeled else 'FOLDER'}"]
    words += [f"data.val={_section(first, 'val.json') if first.val else 'VAL.json'}"]
    console.print(f"next: {shlex.join(words)}", highlight=False, soft_wrap=True, markup=False)
    console.print(
        "      (mum in place of mum_small is for large photographs on a GPU)", highlight=False, soft_wrap=True
    )
    return 0


def _section(made: Split, name: str) -> str:
    return dump_value({"path": str(made.folder / name), "images": str(made.images)})


def _summary(made: Split) -> str:
    counts = np.bincount(made.labeled.labels, minlength=len(made.labeled.classes)).tolist()
    boxes = ", ".join(f"{name} {count}" for name, count in zip(made.labeled.classes, counts, strict=True))
    val = f"{made.val} to validate on, " if made.val else ""
    return f"{made.folder}: {len(made.labeled)} labelled images ({boxes}), {val}{made.unlabeled} unlabelled"
