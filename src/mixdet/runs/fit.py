"""A recipe, trained: data checked, loop run, detectors evaluated, checkpoints and weights written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

from mixdet.data.dataset import DetectionDataset
from mixdet.data.streams import PackedBatch
from mixdet.errors import MixdetError
from mixdet.evaluation import Evaluation, evaluate
from mixdet.methods import Method
from mixdet.recipes import notes as recipe_notes
from mixdet.recipes.recipe import Recipe
from mixdet.runs.build import Data, build_detector, build_method, build_schedule, input_sizes
from mixdet.runs.folder import RunFolder
from mixdet.runs.pictures import draw_found, draw_inputs, mixed_inputs, save_picture
from mixdet.runs.signals import StopRequest
from mixdet.runs.streams import open_stream
from mixdet.structures import Detections, Detector, as_module, keyed_seed
from mixdet.training.checkpoint import latest_checkpoint, save_checkpoint
from mixdet.training.distributed import World
from mixdet.training.inference import detect
from mixdet.training.log import Display, MetricsFile, Window
from mixdet.training.loop import StepReport, train
from mixdet.training.optim import build_optimizer, scaled_lr
from mixdet.training.weights import WeightsCard, read_weights, save_weights


@dataclass(frozen=True)
class FitResult:
    """What a run came to.

    Attributes:
        folder: where its files are; None in all processes but the first.
        step: steps done.
        exit_code: 0, or that of the signal that ended it early.
        val: evaluation of each detector on ``data.val`` at the last step, by name.
        test: evaluation of the selected weights on ``data.test``, or None.
        shipped: the weights to use, or None where a signal came before there were any.
    """

    folder: Path | None
    step: int
    exit_code: int = 0
    val: dict[str, Evaluation] = field(default_factory=dict)
    test: Evaluation | None = None
    shipped: Path | None = None


def fit(recipe: Recipe, name: str, *, world: World, console: Console, resume: RunFolder | None = None) -> FitResult:
    """Train a recipe from its beginning, or from where ``resume`` stopped.

    Args:
        recipe: validated.
        name: of a new run folder under ``runs/``, where the recipe names none.
        world: the processes; all call this with the same recipe.
        console: for progress; only the first process writes to it.
        resume: the folder of an interrupted run.

    Raises:
        MixdetError: any defect of data or recipe, before step 1; a loss that is not finite.
    """
    data = Data.open(recipe)
    torch.manual_seed(keyed_seed(recipe.seed, "init"))
    detector = build_detector(recipe.detector, len(data.labeled.classes), weights=resume is None)
    method = build_method(recipe.method, detector)
    folder = None
    if world.is_first:
        folder = resume or RunFolder.create(recipe, name)
        folder.write_environment(world)
    return Run(recipe, data, method.to(world.device), world, console, folder).go(resume)


class Run:
    """One run in progress: the callbacks of the loop and the state they share."""

    def __init__(
        self,
        recipe: Recipe,
        data: Data,
        method: Method,
        world: World,
        console: Console,
        folder: RunFolder | None,
    ) -> None:
        self.recipe = recipe
        self.data = data
        self.method = method
        self.world = world
        self.console = console
        self.folder = folder  # None in all processes but the first
        self.schedule = build_schedule(recipe)
        lr = scaled_lr(recipe.optim.lr, recipe.data.batch_size, recipe.optim.reference_batch_size)
        optim = recipe.optim
        self.optimizer = build_optimizer(
            method, optim.name, lr=lr, momentum=optim.momentum, weight_decay=optim.weight_decay
        )
        self.lr = lr
        self.window = Window()
        self.best: dict[str, dict[str, Any]] = {}
        self.evaluated: tuple[int, dict[str, Evaluation]] = (-1, {})

    def go(self, resume: RunFolder | None) -> FitResult:
        """Train to the end, or to a signal; from where the run in ``resume`` stopped."""
        start = 0 if resume is None else self._restore(resume)
        self._introduce(start)
        with StopRequest(self.world) as stop, Display(self.schedule.steps, start, self._console()) as display:
            metrics = None if self.folder is None else MetricsFile(self.folder.metrics, start)

            def after_step(report: StepReport) -> None:
                self._log(report, metrics, display)
                last = report.step == self.schedule.steps
                every = self.recipe.evaluation.every
                if last or (every is not None and report.step % every == 0):
                    self._evaluate(report.step, metrics)
                if last or report.step % self.recipe.run.checkpoint_every == 0:
                    self._checkpoint(report.step)

            done = train(
                self.method,
                self._streams(start),
                self.optimizer,
                self.schedule,
                seed=self.recipe.seed,
                shards=self.recipe.data.shards,
                start=start,
                clip_norm=self.recipe.optim.clip_norm,
                bf16=self.recipe.run.precision == "bf16",
                world=self.world,
                after_step=after_step,
                should_stop=stop.came,
            )
        if done < self.schedule.steps:
            self._checkpoint(done)
            return FitResult(None if self.folder is None else self.folder.root, done, stop.exit_code)
        return self._finish()

    def _restore(self, resume: RunFolder) -> int:
        """Lay the newest whole checkpoint onto the run; the steps it had done."""
        checkpoint, complaints = latest_checkpoint(resume.checkpoints)
        checkpoint.restore(self.method, self.optimizer)
        for name, fingerprint in self.data.fingerprints().items():
            if checkpoint.notes["data"][name] != fingerprint:
                raise MixdetError(
                    f"data.{name}={self.data.of_stream(name).name}: its images or boxes are not those the run began "
                    "with; put the data back as it was, or start a new run"
                )
        self.best = checkpoint.notes["best"]
        for line in complaints:
            self._say(f"{line}; going on from step {checkpoint.step}", "yellow")
        return checkpoint.step

    def _introduce(self, start: int) -> None:
        recipe, data = self.recipe, self.data
        for note in (*data.notes, *recipe_notes(recipe)):
            self._say(note, "yellow")
        self._say(
            f"{data.labeled.name}: {len(data.labeled)} images, {len(data.labeled.labels)} boxes, "
            f"{len(data.labeled.classes)} classes; {recipe.detector.body}, preset {recipe.detector.preset}, "
            f"weights {recipe.detector.weights}; {self.world.size} x {self.world.device}"
        )
        if data.unlabeled is not None:
            self._say(f"{data.unlabeled.name}: {len(data.unlabeled)} unlabelled images, none of them a labelled one")
        self._say(input_sizes(data.labeled, recipe.data))
        reference = recipe.optim.reference_batch_size
        rule = f" ({recipe.optim.lr:g} for a batch of {reference}, linear rule)" if reference else ""
        self._say(f"learning rate {self.lr:g} for a batch of {recipe.data.batch_size}{rule}")
        if self.folder is not None:
            self._say(f"run folder {self.folder.root}" + (f", going on from step {start}" if start else ""))

    def _streams(self, start: int) -> dict[str, Iterator[PackedBatch]]:
        """This process's shards of each stream."""
        stride = next(iter(self.method.detectors().values())).stride
        own = self.world.shards(self.recipe.data.shards)
        return {
            stream.name: open_stream(self.recipe, self.data, stream, own_shards=own, start=start, stride=stride)
            for stream in self.method.streams
        }

    def _log(self, report: StepReport, metrics: MetricsFile | None, display: Display) -> None:
        self.window.add(report)
        if report.step % self.recipe.run.log_every and report.step != self.schedule.steps:
            return
        values = self.window.values
        means = self.world.mean(torch.tensor(list(values.values()), device=self.world.device))
        record = self.window.record() | dict(zip(values, (round(v, 6) for v in means.tolist()), strict=True))
        if metrics is not None:
            metrics.write(record)
            display.update(self.window)
        self.window = Window()

    def _evaluate(self, step: int, metrics: MetricsFile | None) -> None:
        """Evaluate each detector on val, and keep the weights of the best; the first process alone."""
        results: dict[str, Evaluation] = {}
        if self.folder is not None and self.data.val is not None:
            for name, detector in self.method.detectors().items():
                result = self._measure(detector, self.data.val)
                results[name] = result
                score = result.numbers.get(self.recipe.evaluation.select_by.upper(), result.headline)
                self._say(f"step {step}: {name} {result.metric} {_percent(result.headline)}")
                if metrics is not None:
                    numbers = {f"val/{name}/{key}": value for key, value in result.numbers.items()}
                    metrics.write({"step": step, **numbers})
                if score is not None and score > self.best.get(name, {}).get("score", -1.0):
                    self.best[name] = {"score": score, "step": step}
                    self._save_weights(name, detector, "best", step, result)
        self.evaluated = (step, results)
        self.world.barrier()

    def _measure(self, detector: Detector, dataset: DetectionDataset) -> Evaluation:
        found = self._detections(detector, dataset)
        return evaluate(found, dataset, self.recipe.evaluation.metric, classes=self.data.labeled.classes)

    def _detections(self, detector: Detector, dataset: DetectionDataset) -> list[Detections]:
        data = self.recipe.data
        found = detect(
            detector,
            dataset,
            short_side=data.test_short_side,
            long_side=data.test_long_side,
            device=self.world.device,
            batch_size=self.recipe.evaluation.batch_size,
            workers=data.workers,
        )
        return list(found)

    def _checkpoint(self, step: int) -> None:
        if self.folder is not None:
            notes = {"best": self.best, "data": self.data.fingerprints()}
            save_checkpoint(self.folder.checkpoints, step, self.method, self.optimizer, notes)
        self.world.barrier()

    def _save_weights(self, name: str, detector: Detector, which: str, step: int, result: Evaluation | None) -> None:
        if self.folder is None:
            return
        data, labeled = self.recipe.data, self.data.labeled
        numbers = {} if result is None else {k: v for k, v in result.numbers.items() if v is not None}
        card = WeightsCard(
            labeled.classes,
            tuple(int(i) for i in labeled.category_ids),
            self.recipe.detector.model_dump(mode="json"),
            data.test_short_side,
            data.test_long_side,
            step,
            name,
            numbers,
        )
        save_weights(self.folder.weights(name, which), detector, card)

    def _finish(self) -> FitResult:
        """Last weights; the test split, once, and pictures with the weights that are shipped."""
        step = self.schedule.steps
        if self.evaluated[0] != step:  # resumed after the last step
            self._evaluate(step, None)
        if self.folder is None:
            return FitResult(None, step)
        results = self.evaluated[1]
        for name, detector in self.method.detectors().items():
            self._save_weights(name, detector, "last", step, results.get(name))
        shipped = self.folder.shipped()
        tensors, card = read_weights(shipped)
        detector = self.method.detectors()[card.which]
        as_module(detector).load_state_dict(tensors)
        test = None if self.data.test is None else self._measure(detector, self.data.test)
        self._draw(detector)
        return FitResult(self.folder.root, step, 0, results, test, shipped)

    def _draw(self, detector: Detector) -> None:
        """Pictures of what was trained on and of what is found."""
        shown = self.data.val or self.data.test or self.data.labeled
        count = min(self.recipe.evaluation.visualize, len(shown))
        if self.folder is None or count == 0:
            return
        classes, some = self.data.labeled.classes, shown.subset(range(count))
        found = draw_found(some, self._detections(detector, some), classes)
        save_picture(found, self.folder.images / "detections.png")
        inputs = mixed_inputs(self.recipe, self.data, count, detector.stride)
        save_picture(draw_inputs(inputs, classes), self.folder.images / "inputs.png")

    def _say(self, text: str, style: str = "") -> None:
        if self.world.is_first:
            self.console.print(Text(text, style), soft_wrap=True)

    def _console(self) -> Console:
        return self.console if self.world.is_first else Console(quiet=True)


def _percent(value: float | None) -> str:
    return "undefined (no ground truth)" if value is None else f"{100 * value:.2f}"
