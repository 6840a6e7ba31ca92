"""A recipe, trained: data checked, loop run, detectors evaluated, checkpoints and weights written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mixdet.data.packing import PackedBatch
from mixdet.errors import MixdetError, NotFinite
from mixdet.evaluation import Evaluation
from mixdet.methods import Method
from mixdet.recipes.recipe import Recipe
from mixdet.runs.baseline import Baseline, Gain
from mixdet.runs.build import build_detector, build_method, build_schedule
from mixdet.runs.data import Data
from mixdet.runs.folder import RunFolder
from mixdet.runs.introduction import NOTE, introduction
from mixdet.runs.journal import Journal
from mixdet.runs.outputs import Outputs
from mixdet.runs.signals import StopRequest
from mixdet.runs.streams import open_stream
from mixdet.structures import as_module, keyed_seed
from mixdet.training.checkpoint import latest_checkpoint, previous_checkpoint, save_checkpoint
from mixdet.training.distributed import World
from mixdet.training.loop import AfterStep, StepReport, train
from mixdet.training.optim import build_optimizer, scaled_lr
from mixdet.training.weights import read_weights

SLOWER = 0.5
"""Part of the learning rate that is left after a rollback."""


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
        gain: what the unlabelled images came to, or None without ``run.baseline``.
        lost: why there is no ``gain`` although it was asked for; else empty.
        signalled: exit code of a signal that came in the last step, too late to end anything; 0 for none.
    """

    folder: Path | None
    step: int
    exit_code: int = 0
    val: dict[str, Evaluation] = field(default_factory=dict)
    test: Evaluation | None = None
    shipped: Path | None = None
    gain: Gain | None = None
    lost: str = ""
    signalled: int = 0


def fit(recipe: Recipe, name: str, *, world: World, console: Console, resume: RunFolder | None = None) -> FitResult:
    """Train a recipe from its beginning, or from where ``resume`` stopped.

    Args:
        recipe: validated.
        name: of a new run folder under ``runs/``, where the recipe names none.
        world: the processes; all call this with the same recipe.
        console: for progress; only the first process writes to it.
        resume: the folder of an interrupted run; one that had no checkpoint yet begins again.

    Raises:
        MixdetError: any defect of data or recipe, before step 1; a loss that is not finite.
    """
    _needs_one_process(recipe, world)
    data = Data.open(recipe)
    begun = resume if resume is not None and world.holds(resume.begun()) else None
    torch.manual_seed(keyed_seed(recipe.seed, "init"))
    detector = build_detector(recipe.detector, len(data.labeled.classes), weights=begun is None)
    method = build_method(recipe.method, detector)
    folder = None
    if world.is_first:
        folder = resume or RunFolder.create(recipe, name)
        folder.write_environment(world)
    return Run(recipe, data, method.to(world.device), world, console, folder, begun).go()


def _needs_one_process(recipe: Recipe, world: World) -> None:
    """Refuse in several processes, however they were started, what only one can do."""
    for key, value in (("run.baseline", recipe.run.baseline), ("run.rollbacks", recipe.run.rollbacks)):
        if value and world.size > 1:
            off = str(type(value)()).lower()
            raise MixdetError(f"{key}={str(value).lower()}: needs one process, and there are {world.size}; use {off}")


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
        resume: RunFolder | None,
    ) -> None:
        self.recipe = recipe
        self.data = data
        self.method = method
        self.world = world
        self.folder = folder  # None in all processes but the first
        self.outputs = None if folder is None else Outputs(recipe, data, folder, world.device)
        self.schedule = build_schedule(recipe)
        lr = scaled_lr(recipe.optim.lr, recipe.data.batch_size, recipe.optim.reference_batch_size)
        optim = recipe.optim
        self.optimizer = build_optimizer(
            method, optim.name, lr=lr, momentum=optim.momentum, weight_decay=optim.weight_decay
        )
        self.best: dict[str, dict[str, Any]] = {}
        self.rollbacks, self.returned = 0, -1
        self.evaluated: tuple[int, dict[str, Evaluation]] = (-1, {})
        self.start, complaints, state = (0, [], None) if resume is None else self._restore(resume)
        metrics = None if folder is None else folder.metrics
        self.baseline = Baseline(recipe, folder) if recipe.run.baseline and folder is not None else None
        self.journal = Journal(recipe, data.labeled, world, console, self.start, metrics, state)
        for line in complaints:
            self.journal.say(line, NOTE)

    def go(self) -> FitResult:
        """Train to the end, or to a signal; whatever ends it early ends the baseline too."""
        try:
            return self._go()
        except BaseException:
            if self.baseline is not None:
                self.baseline.stop()
            raise

    def _go(self) -> FitResult:
        root = None if self.folder is None else self.folder.root
        for line, style in introduction(self.recipe, self.data, self.world, root, self.start):
            self.journal.say(line, style)
        with StopRequest(self.world) as stop, self.journal:
            if self.start == 0 and self.recipe.run.rollbacks:
                self._checkpoint(0)  # somewhere to go back to within the first steps
            self._reached(self.start)

            def after_step(report: StepReport) -> None:
                self.journal.step(report)
                last = report.step == self.schedule.steps
                every = self.recipe.evaluation.every
                if last or (every is not None and report.step % every == 0):
                    self._evaluate(report.step)
                if last or report.step % self.recipe.run.checkpoint_every == 0:
                    self._checkpoint(report.step)
                self._reached(report.step)

            done = self._train(after_step, stop.came)
        if done < self.schedule.steps:
            self._checkpoint(done)
            if self.baseline is not None:
                self.baseline.stop()
            return FitResult(None if self.folder is None else self.folder.root, done, stop.exit_code)
        return replace(self._finish(), signalled=stop.exit_code if stop.came() else 0)

    def _train(self, after_step: AfterStep, should_stop: Callable[[], bool]) -> int:
        """The loop, begun again from the last checkpoint as often as ``run.rollbacks`` allows; steps done."""
        while True:
            try:
                return train(
                    self.method,
                    self._streams(),
                    self.optimizer,
                    self.schedule,
                    seed=self.recipe.seed,
                    shards=self.recipe.data.shards,
                    start=self.start,
                    clip_norm=self.recipe.optim.clip_norm,
                    bf16=self.recipe.run.precision == "bf16",
                    world=self.world,
                    after_step=after_step,
                    should_stop=should_stop,
                )
            except NotFinite as fault:
                self._roll_back(fault)

    def _roll_back(self, fault: NotFinite) -> None:
        """Lay the last checkpoint onto the run and go slower, or give up.

        The one before it, where the run came from the last one and failed again before another: what is wrong may be
        in it. The checkpoint is written again with the halved rate and the count, which a run that goes on keeps.
        """
        folder = self.folder
        if folder is None or self.rollbacks >= self.recipe.run.rollbacks or not any(folder.checkpoints.glob("step-*")):
            raise fault
        checkpoint, _ = latest_checkpoint(folder.checkpoints)
        if checkpoint.step == self.returned:
            alive = self.baseline is not None and self.baseline.process is not None
            least = self.baseline.begins if self.baseline is not None and alive else 0
            checkpoint = previous_checkpoint(folder.checkpoints, checkpoint, least)
        checkpoint.restore(self.method, self.optimizer)
        self.rollbacks += 1
        for group in self.optimizer.param_groups:
            group["base_lr"] *= SLOWER ** (self.rollbacks - checkpoint.notes["rollbacks"])
        self.start = self.returned = checkpoint.step  # best weights stay: they are on disk, and as good as they were
        self.journal.back_to(self.start, checkpoint.notes["journal"])
        self._checkpoint(self.start)
        self.journal.alarm(
            self.start,
            f"{fault}: back at step {self.start}, from here on at {SLOWER**self.rollbacks:g} of the learning rate",
        )

    def _restore(self, resume: RunFolder) -> tuple[int, list[str], dict[str, Any]]:
        """Lay the newest whole checkpoint onto the run; the steps it had done, complaints, and the journal's state."""
        checkpoint, complaints = latest_checkpoint(resume.checkpoints)
        checkpoint.restore(self.method, self.optimizer)
        for name, fingerprint in self.data.fingerprints().items():
            if checkpoint.notes["data"][name] != fingerprint:
                raise MixdetError(
                    f"data.{name}={self.data.of_stream(name).name}: its images or boxes are not those the run began "
                    "with; put the data back as it was, or start a new run"
                )
        self.best, self.rollbacks = checkpoint.notes["best"], checkpoint.notes["rollbacks"]
        self.returned = checkpoint.notes.get("returned", -1)
        complaints = [f"{line}; going on from step {checkpoint.step}" for line in complaints]
        return checkpoint.step, complaints, checkpoint.notes["journal"]

    def _streams(self) -> dict[str, Iterator[PackedBatch]]:
        """This process's shards of each stream."""
        stride = next(iter(self.method.detectors().values())).stride
        own = self.world.shards(self.recipe.data.shards)
        return {
            stream.name: open_stream(self.recipe, self.data, stream, own_shards=own, start=self.start, stride=stride)
            for stream in self.method.streams
        }

    def _evaluate(self, step: int, *, known: bool = False) -> None:
        """Evaluate each detector on val, and keep the weights of the best; the first process alone."""
        results: dict[str, Evaluation] = {}
        if self.outputs is not None and self.data.val is not None:
            results = {n: self.outputs.measure(d, self.data.val) for n, d in self.method.detectors().items()}
            self.journal.evaluated(step, results, known=known)
            for name, result in results.items():
                score = result.numbers.get(self.recipe.evaluation.select_by.upper(), result.headline)
                if score is not None and score > self.best.get(name, {}).get("score", -1.0):
                    self.best[name] = {"score": score, "step": step}
                    self.outputs.save(name, self.method.detectors()[name], "best", step, result)
        self.evaluated = (step, results)
        self.world.barrier()

    def _reached(self, step: int) -> None:
        """Let the baseline begin where it is time, from a state that a killed run would come back to."""
        if self.baseline is None:
            return
        if step == self.baseline.begins and step > self.start:
            self._checkpoint(step)
        self.baseline.reached(step, self.method, self.optimizer, self.data.fingerprints(), self.best, self.rollbacks)
        if line := self.baseline.died():
            self.journal.alarm(step, line)

    def _checkpoint(self, step: int) -> None:
        if spoiled := next((name for name, p in self.method.named_parameters() if not p.isfinite().all()), None):
            raise NotFinite(f"step {step}: parameter {spoiled} is not finite; lower optim.lr")
        if self.folder is not None:
            notes = {
                "best": self.best,
                "rollbacks": self.rollbacks,
                "returned": self.returned,
                "data": self.data.fingerprints(),
                "journal": self.journal.state_dict(),
            }
            save_checkpoint(self.folder.checkpoints, step, self.method, self.optimizer, notes)
        self.world.barrier()

    def _finish(self) -> FitResult:
        """Last weights; the test split, once, and pictures with the weights that are shipped."""
        step = self.schedule.steps
        if self.evaluated[0] != step:  # resumed after the last step
            self._evaluate(step, known=True)
        if self.folder is None or self.outputs is None:
            return FitResult(None, step)
        results = self.evaluated[1]
        for name, detector in self.method.detectors().items():
            self.outputs.save(name, detector, "last", step, results.get(name))
        shipped = self.folder.shipped()
        tensors, card = read_weights(shipped)
        detector = self.method.detectors()[card.which]
        as_module(detector).load_state_dict(tensors)
        test = None if self.data.test is None else self.outputs.measure(detector, self.data.test)
        self.outputs.draw(detector)
        gain = None
        if self.baseline is not None:
            self.journal.say(f"waiting for the baseline in {self.baseline.root}")
            gain = self.baseline.finish(card, self.recipe.evaluation.select_by.upper())
        lost = "" if self.baseline is None else self.baseline.lost
        return FitResult(self.folder.root, step, 0, results, test, shipped, gain, lost)
