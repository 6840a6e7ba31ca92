"""A run that takes a second: tiny body, drawn images of 96 pixels."""

from __future__ import annotations

from pathlib import Path

from mixdet.recipes import Recipe, load_recipe

QUICK = (
    "data.labeled=scenes:photo/train,count=12,size=96",
    "data.val=scenes:photo/val,count=4,size=96",
    "data.short_sides=[64, 96]",
    "data.long_side=96",
    "data.test_short_side=96",
    "data.test_long_side=96",
    "data.batch_size=4",
    "detector.body=tiny",
    "detector.weights=none",
    "detector.norm=live",
    "schedule.warmup_steps=2",
    "evaluation.every=null",
    "evaluation.visualize=2",
    "run.log_every=1",
    "run.device=cpu",
)


def quick_recipe(out: Path, *overrides: str) -> Recipe:
    return load_recipe("lossmix_small", [*QUICK, f"run.out={out}", *overrides])
