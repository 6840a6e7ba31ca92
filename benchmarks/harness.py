"""Clocks and counters: CPU time on one thread, candidates interleaved in one process, ratios a round."""

from __future__ import annotations

import gc
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mixdet.cli.process import prepare_process

OURS = ("lossmix", "tiny_speed", "semi_supervised")  # our steps among themselves: in a process like the command's
Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what is measured.
        values: one a round; a count has a single one.
        goal: bound on their median; None for a figure that only explains another.
        at_least: whether the goal is a lower bound.
        note: what else there is to say.
    """

    name: str
    values: tuple[float, ...]
    goal: float | None
    at_least: bool = False
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        if len(self.values) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    @property
    def passed(self) -> bool:
        if self.goal is None:
            return True
        return self.median >= self.goal if self.at_least else self.median <= self.goal

    def __str__(self) -> str:
        low, high = self.quartiles
        goal = "" if self.goal is None else f"{'>=' if self.at_least else '<='} {self.goal:.2f}"
        spread = f"{low:.3f} to {high:.3f}" if len(self.values) > 1 else "a count"
        verdict = "" if self.goal is None else "pass" if self.passed else "FAIL"
        return f"| {self.name} | {goal} | {self.median:.3f} | {spread} | {len(self.values)} | {verdict} | {self.note} |"


HEADER = "| what | goal | median | quartiles | rounds | verdict | note |\n| --- | --- | --- | --- | --- | --- | --- |"


def cpu_seconds(work: Work) -> float:
    """CPU time of this process for one call; waiting for other processes does not count."""
    began = time.process_time()
    work()
    return time.process_time() - began


def interleaved(ours: Work, theirs: Work, rounds: int, warmup: int = 2) -> tuple[tuple[float, ...], float, float]:
    """Ratios ours / theirs, one a round of theirs, ours, ours, theirs.

    Returns:
        The ratios, and the median CPU seconds of one call of each.
    """
    for _ in range(warmup):
        theirs()
        ours()
    own, other = [], []
    gc.disable()
    try:
        for _ in range(rounds):
            gc.collect()
            first, a, b, last = (cpu_seconds(work) for work in (theirs, ours, ours, theirs))
            own.append((a + b) / 2)
            other.append((first + last) / 2)
    finally:
        gc.enable()
    ratios = tuple(a / b for a, b in zip(own, other, strict=True))
    return ratios, statistics.median(own), statistics.median(other)


def milliseconds(ours: float, theirs: float) -> str:
    return f"{1000 * ours:.1f} against {1000 * theirs:.1f} ms"


def repeated(work: Work, calls: int) -> Work:
    """``work`` so many times: short work is timed in one piece."""

    def run() -> None:
        for _ in range(calls):
            work()

    return run


class Operations(TorchDispatchMode):
    """Counts what is dispatched, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def operations(work: Work) -> int:
    """Dispatched operations of one call, after one that is not counted (lazy state)."""
    work()
    with Operations() as counter:
        work()
    return counter.count


def measure(name: str, rounds: int | None) -> None:
    """Print the rows of one benchmark and end this process: code 1 if a goal is missed."""
    if name in OURS:
        prepare_process()
    torch.set_num_threads(1)
    missed = 0
    for row in importlib.import_module(f"benchmarks.{name}").rows(rounds):
        print(row, flush=True)
        missed += not row.passed
    sys.exit(int(missed > 0))
