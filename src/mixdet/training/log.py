"""What a run says while it runs: metrics.jsonl, and a live display with rates, ETA and losses."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mixdet.training.files import write_text_atomically
from mixdet.training.loop import StepReport

QUIET_INTERVAL = 10.0  # seconds between lines where no terminal shows a live display


class MetricsFile:
    """``metrics.jsonl``: one JSON object a line, each with its "step".

    Args:
        path: of the file; created when missing.
        start: lines of later steps are dropped, so that a resumed run does not tell its story twice.
    """

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        if path.exists():
            lines = [line for line in path.read_text("utf-8").splitlines() if _step_of(line) <= start]
            write_text_atomically(path, "".join(f"{line}\n" for line in lines))

    def write(self, record: Mapping[str, object]) -> None:
        """Append one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


class Display:
    """The live display of a training run.

    On a terminal a bar with step, ETA, images/s, share of time spent waiting for data, learning rate and losses; a
    line every ten seconds elsewhere.

    Args:
        total: steps of the run.
        start: steps done before.
        console: where to.
    """

    def __init__(self, total: int, start: int, console: Console) -> None:
        self.total = total
        self.console = console
        self.progress = Progress(
            TextColumn("[bold]train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}"),
            console=console,
        )
        self.task = self.progress.add_task("train", total=total, completed=start, rate="")
        self.live = Live(self.progress, console=console, refresh_per_second=4)
        self._said = 0.0

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live.is_started:
            self.live.stop()

    def update(self, window: Window, health: str = "") -> None:
        """Show where the run stands; ``health`` is said in place of the numbers it is made of."""
        shown = {name: value for name, value in window.values.items() if not (health and name.startswith("pseudo_"))}
        shown = {name: value for name, value in shown.items() if "[" not in name}
        step, rate, waiting = window.step, window.images_per_second, window.waiting_share
        text = f"{rate:.1f} images/s  {waiting:.0%} waiting for data"
        self.progress.update(self.task, completed=step, rate=text)
        if self.console.is_terminal:
            self.live.update(Group(self.progress, _losses(window.lr, shown), *([Text(health)] if health else [])))
        elif time.monotonic() - self._said > QUIET_INTERVAL or step == self.total:
            self._said = time.monotonic()
            left = timedelta(seconds=round((self.total - step) * window.seconds_per_step))
            losses = "  ".join(f"{name} {value:.3f}" for name, value in shown.items())
            line = f"step {step}/{self.total}  {left} left  {text}  lr {window.lr:.2e}  {losses}  {health}".rstrip()
            self.console.print(line, highlight=False, soft_wrap=True)


class Window:
    """Averages over the steps since the last line of metrics."""

    def __init__(self) -> None:
        self.reports: list[StepReport] = []

    def add(self, report: StepReport) -> None:
        self.reports.append(report)

    @property
    def step(self) -> int:
        return self.reports[-1].step

    @property
    def lr(self) -> float:
        return self.reports[-1].lr

    @property
    def values(self) -> dict[str, float]:
        """Mean of each value over the reports that have it."""
        sums: dict[str, list[float]] = {}
        for report in self.reports:
            for name, value in report.values.items():
                sums.setdefault(name, []).append(value)
        return {name: sum(values) / len(values) for name, values in sums.items()}

    @property
    def images_per_second(self) -> float:
        return sum(r.images for r in self.reports) / max(sum(r.seconds for r in self.reports), 1e-9)

    @property
    def seconds_per_step(self) -> float:
        return sum(r.seconds for r in self.reports) / len(self.reports)

    @property
    def waiting_share(self) -> float:
        return sum(r.waiting for r in self.reports) / max(sum(r.seconds for r in self.reports), 1e-9)

    def record(self) -> dict[str, object]:
        """The line of metrics.jsonl."""
        record: dict[str, object] = {"step": self.step, "lr": self.lr, **folded(self.values)}
        record["gradient_norm"] = sum(r.gradient_norm for r in self.reports) / len(self.reports)
        record["images_per_second"] = round(self.images_per_second, 3)
        record["waiting_share"] = round(self.waiting_share, 4)
        return record


def folded(values: Mapping[str, float]) -> dict[str, float | list[float]]:
    """``name[0]``, ``name[1]`` ... as one list again."""
    whole: dict[str, float | list[float]] = {}
    for name, value in values.items():
        stem, bracket, _ = name.partition("[")
        if not bracket:
            whole[name] = value
            continue
        parts = whole.setdefault(stem, [])
        if isinstance(parts, list):
            parts.append(value)
    return whole


def _losses(lr: float, values: Mapping[str, float]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row(f"lr {lr:.2e}", *(f"{name} [bold]{value:.3f}[/]" for name, value in values.items()))
    return table


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # the end of a line that a killed run was writing
        return 1 << 62
