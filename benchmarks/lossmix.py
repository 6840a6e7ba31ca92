"""A LossMix step against the same step without mixing."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.harness import Row, Work, interleaved, milliseconds, operations
from benchmarks.setups import method_step, scene_batch, tiny_detector
from mixdet.detectors import PRESETS, FasterRCNN
from mixdet.methods import Supervised
from mixdet.mixing import PRESETS as MIXES

SHAPES = {
    "equal sizes": {"square": True},
    "unequal sizes": {},
    "unequal sizes, 2 of 8 images empty": {"empty": 2},
}
OPERATIONS_GOAL = {"equal sizes": 1.05, "unequal sizes": 1.05}  # an empty image is not matched at all in a plain step
DRAWS = 5  # of pairs and lam: the operations depend on who meets whom


def sides(detector: FasterRCNN, shape: str) -> tuple[Work, Work]:
    """(LossMix step, plain step) of one detector on the same 8 images."""
    batch = scene_batch(detector, 8, **SHAPES[shape])
    return method_step(Supervised(detector, MIXES["lossmix"]), batch), method_step(Supervised(detector), batch)


def counted(detector: FasterRCNN, shape: str, draws: int = DRAWS) -> Row:
    """Dispatched operations of a LossMix step over those of a plain one."""
    batch = scene_batch(detector, 8, **SHAPES[shape])
    plain = operations(method_step(Supervised(detector), batch))
    method = Supervised(detector, MIXES["lossmix"])
    mixed = [operations(method_step(method, batch, draw)) for draw in range(draws)]
    note = f"{min(mixed)} to {max(mixed)} against {plain}; {draws} draws"
    return Row(
        f"LossMix / plain step, operations, {shape}",
        tuple(m / plain for m in mixed),
        OPERATIONS_GOAL.get(shape),
        note=note,
    )


def rows(rounds: int | None) -> Iterator[Row]:
    detector = tiny_detector(PRESETS["tiny"])
    for shape in SHAPES:
        yield counted(detector, shape)
    for shape in SHAPES:
        ratios, ours, theirs = interleaved(*sides(detector, shape), rounds or 15)
        yield Row(f"LossMix / plain step, {shape}", ratios, 1.10, note=milliseconds(ours, theirs))
