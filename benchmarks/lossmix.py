"""A LossMix step against the same step without mixing."""

from __future__ import annotations

from benchmarks.harness import Row, Work, interleaved, milliseconds, operations
from benchmarks.setups import method_step, scene_batch, tiny_detector
from mixdet.detectors import PRESETS as DETECTORS
from mixdet.methods import Supervised
from mixdet.mixing import PRESETS as MIXES

SHAPES = {"equal sizes": True, "unequal sizes": False}


def sides(square: bool, count: int = 8) -> tuple[Work, Work]:
    """(LossMix step, plain step) of one detector on the same images."""
    detector = tiny_detector(DETECTORS["tiny"])
    batch = scene_batch(detector, count, square=square)
    mixed, plain = Supervised(detector, MIXES["lossmix"]), Supervised(detector)
    return method_step(mixed, batch), method_step(plain, batch)


def counts(square: bool) -> tuple[int, int]:
    """Dispatched operations of the LossMix and of the plain step."""
    mixed, plain = sides(square)
    return operations(mixed), operations(plain)


def rows(rounds: int | None) -> list[Row]:
    table = []
    for shape, square in SHAPES.items():
        mixed, plain = counts(square)
        note = f"{mixed} against {plain} operations"
        table.append(Row(f"LossMix / plain step, operations, {shape}", (mixed / plain,), 1.05, note=note))
    for shape, square in SHAPES.items():
        ratios, ours, theirs = interleaved(*sides(square), rounds or 15)
        table.append(Row(f"LossMix / plain step, {shape}", ratios, 1.10, note=milliseconds(ours, theirs)))
    return table
