"""What a run writes down and says while it runs: metrics.jsonl, the display, alarms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

from mixdet.data.dataset import DetectionDataset
from mixdet.evaluation import Evaluation
from mixdet.recipes.recipe import Recipe
from mixdet.training.distributed import World
from mixdet.training.health import Health
from mixdet.training.log import Display, MetricsFile, Window, folded
from mixdet.training.loop import StepReport

LONGEST_PATIENCE = 500  # steps after which a long run, too, says that something is wrong


class Journal:
    """The log of one run; in all processes, though only the first says and writes anything.

    Args:
        recipe: of the run.
        labeled: what is trained on, which pseudo-labels are compared with.
        world: the processes.
        console: where to.
        start: steps done before.
        metrics: path of metrics.jsonl; None in all processes but the first.
        state: ``state_dict`` of the journal that this one goes on from; None for a new run.
    """

    def __init__(
        self,
        recipe: Recipe,
        labeled: DetectionDataset,
        world: World,
        console: Console,
        start: int,
        metrics: Path | None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.every = recipe.run.log_every
        self.total = recipe.schedule.steps
        self.world = world
        self.console = console if world.is_first else Console(quiet=True)
        self.metrics = None if metrics is None else MetricsFile(metrics, start)
        self.display = Display(self.total, start, self.console)
        self.health = build_health(recipe, labeled)
        self._load(state or {})
        self.window = Window()

    def back_to(self, step: int, state: Mapping[str, Any]) -> None:
        """Forget the steps after ``step``, which are done again; ``state`` is the journal's of then."""
        if self.metrics is not None:
            self.metrics = MetricsFile(self.metrics.path, step)
        self._load(state)
        self.window = Window()

    def _load(self, state: Mapping[str, Any]) -> None:
        if self.health is not None and "health" in state:
            self.health.load_state_dict(state["health"])

    def state_dict(self) -> dict[str, Any]:
        """What the journal of a resumed run has to know."""
        return {} if self.health is None else {"health": self.health.state_dict()}

    def __enter__(self) -> Journal:
        self.display.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.display.__exit__(kind, fault, trace)

    def say(self, text: str, style: str = "") -> None:
        """One line."""
        self.console.print(Text(text, style), soft_wrap=True)

    def step(self, report: StepReport) -> None:
        """Take a step down; every so many, write their averages and look at the run's health."""
        self.window.add(report)
        if report.step % self.every and report.step != self.total:
            return
        values = self.window.values
        means = self.world.mean(torch.tensor(list(values.values()), device=self.world.device))
        averages = folded(dict(zip(values, (round(v, 6) for v in means.tolist()), strict=True)))
        if self.metrics is not None:
            compared = self.health.record(averages) if self.health else {}
            self.metrics.write(self.window.record() | averages | compared)
            self.display.update(self.window, self.health.line(report.step, averages) if self.health else "")
            for alarm in self.health.alarms(report.step, averages) if self.health else ():
                self.alarm(report.step, alarm)
        self.window = Window()

    def evaluated(self, step: int, results: Mapping[str, Evaluation], *, known: bool = False) -> None:
        """Say what each detector reached, and take it down unless it is ``known`` from before an interruption."""
        for name, result in results.items():
            self.say(f"step {step}: {name} {result.metric} {percent(result.headline)}")
            if self.metrics is not None and not known:
                self.metrics.write({"step": step, **{f"val/{name}/{key}": v for key, v in result.numbers.items()}})
        if self.health is not None and not known:
            for alarm in self.health.evaluated(step, {name: r.numbers["AP"] for name, r in results.items()}):
                self.alarm(step, alarm)

    def alarm(self, step: int, sentence: str) -> None:
        """Say, and take down, that something is wrong."""
        self.say(f"step {step}: {sentence}", "bold red")
        if self.metrics is not None:
            self.metrics.write({"step": step, "alarm": sentence})


def build_health(recipe: Recipe, labeled: DetectionDataset) -> Health | None:
    """The watch over a method that labels images as it trains; None for others."""
    method, decay = recipe.method, recipe.method.teacher_decay()
    if not method.labels:
        return None
    patience = min(max(recipe.schedule.steps // 20, 1), LONGEST_PATIENCE)
    begins, value = (0, None) if decay is None else (decay.burn_in_steps, decay.value)
    images = recipe.data.unlabeled_batch_size or recipe.data.batch_size
    return Health(labeled.classes, labeled.boxes_an_image().tolist(), begins, patience, images, value, method.matched())


def percent(value: float | None) -> str:
    """A share as it is said."""
    return "undefined (no ground truth)" if value is None else f"{100 * value:.2f}"
