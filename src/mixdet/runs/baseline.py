"""The same run without its unlabelled images, beside it: whether they helped.

Until its teacher begins, a method with a burn-in is supervised training, so a baseline needs no beginning of its own:
it starts from the run's state at that step, sees the same labelled images in the same order for as many steps, and has
a moving average like the teacher's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mixdet.errors import MixdetError
from mixdet.methods import Method
from mixdet.recipes.method import SupervisedSection, TeacherSection
from mixdet.recipes.recipe import Recipe
from mixdet.runs.folder import RunFolder
from mixdet.training.checkpoint import save_checkpoint
from mixdet.training.distributed import World
from mixdet.training.weights import WeightsCard, read_card


@dataclass(frozen=True)
class Gain:
    """What the unlabelled images came to, by the number that selects weights.

    Attributes:
        key: its name, such as "AP50".
        with_them: of the weights to use, in [0, 1], on the validation split.
        without: of the baseline's.
        unsup_weight: of the run.
    """

    key: str
    with_them: float
    without: float
    unsup_weight: float

    @property
    def advice(self) -> str:
        """What is worth a try where they did harm (docs/evidence/semi_supervised.md); else empty."""
        if round(100 * (self.with_them - self.without), 1) >= 0:
            return ""
        return (
            f"the labels alone did better; worth a try: method.unsup_weight={self.unsup_weight / 4:g} "
            f"in place of {self.unsup_weight:g}, and what the alarms say, if there were any"
        )

    def __str__(self) -> str:
        gain = round(100 * (self.with_them - self.without), 1) + 0.0  # no "-0.0"
        return (
            f"with the unlabelled images: {self.key} {100 * self.with_them:.1f} ({gain:+.1f}); "
            f"without: {self.key} {100 * self.without:.1f}"
        )


class Baseline:
    """A supervised run in ``baseline/`` of a run's folder, in a process of its own.

    Args:
        recipe: of the run.
        folder: of the run.
    """

    def __init__(self, recipe: Recipe, folder: RunFolder) -> None:
        if not isinstance(recipe.method, TeacherSection):
            raise TypeError(f"{recipe.method.name} reads no unlabelled images")
        self.begins = recipe.method.decay.burn_in_steps
        self.unsup_weight = recipe.method.unsup_weight
        self.run = folder
        self.root = folder.root / "baseline"
        self.folder = RunFolder(self.root)
        self.recipe = without_unlabeled(recipe, recipe.method, self.root)
        self.process: subprocess.Popen[bytes] | None = None
        self.threads = torch.get_num_threads()  # the run's own before and after
        self.lost = ""  # why there is nothing to compare with

    def reached(
        self,
        step: int,
        method: Method,
        optimizer: torch.optim.Optimizer,
        fingerprints: dict[str, str],
        best: dict[str, dict[str, Any]],
        rollbacks: int,
    ) -> None:
        """Called with every step of the run that ends: begins, once the burn-in is over, what has not been begun.

        Args:
            step: steps done.
            method, optimizer: of the run.
            fingerprints: of its data.
            best: score and step of its best weights, which until now are the baseline's too.
            rollbacks: how often it went back, and halved its learning rate.
        """
        if step < self.begins or self.process is not None:
            return
        if not any(self.folder.checkpoints.glob("step-*.safetensors")):
            if step > self.begins:
                raise MixdetError(
                    f"{self.root}: no baseline was begun at step {self.begins}, where it begins; resume with "
                    "run.baseline=false, or start a new run"
                )
            if not self.folder.recipe.exists():
                RunFolder.create(self.recipe, "baseline").write_environment(World())
            self.folder.weights("student", "best").parent.mkdir(exist_ok=True)
            for name in best:
                shutil.copyfile(self.run.weights(name, "best"), self.folder.weights(name, "best"))
            notes = {"best": best, "rollbacks": rollbacks, "data": {"labeled": fingerprints["labeled"]}, "journal": {}}
            networks = nn.ModuleDict({n: part for n, part in method.named_children() if n in ("student", "teacher")})
            save_checkpoint(self.folder.checkpoints, step, networks, optimizer, notes)
        if next(method.parameters()).device.type == "cpu":
            torch.set_num_threads(max(1, self.threads - 1))  # one is the baseline's from here on
        paths = os.pathsep.join(filter(None, sys.path))
        with (self.root / "log.txt").open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mixdet.runs.baseline_process", str(self.root)],
                stdin=subprocess.PIPE,  # its end is that of this process, however that comes
                stdout=log,
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
                start_new_session=True,  # Ctrl-C is the run's, which tells it once
            )

    def stop(self) -> None:
        """Let it write a checkpoint and end, as the run does."""
        if self.process is not None:
            self.process.terminate()
            self._ended(self.process)

    def _ended(self, process: subprocess.Popen[bytes]) -> int:
        """Its exit code."""
        code = process.wait()
        torch.set_num_threads(self.threads)
        if process.stdin is not None:
            process.stdin.close()
        return code

    def died(self) -> str:
        """That it has ended badly, and what to do, the first time it is asked then; else empty."""
        code = None if self.process is None or self.lost else self.process.poll()
        if not code:
            return ""
        self.lost = (
            f"{self.root}: the baseline ended with code {code}; its words are in {self.root / 'log.txt'}; to go on "
            f"with it: mixdet resume {self.run.root}, once this run is over"
        )
        return self.lost

    def finish(self, run: WeightsCard, key: str) -> Gain | None:
        """Wait for its end, and compare; None if it ended badly (``lost``).

        Args:
            run: card of the run's weights.
            key: number to compare.
        """
        if self.process is not None and self._ended(self.process):
            self.died()
            return None
        own = read_card(self.folder.shipped())
        return Gain(key, run.scores.get(key, 0.0), own.scores.get(key, 0.0), self.unsup_weight)


def without_unlabeled(recipe: Recipe, method: TeacherSection, root: Path) -> Recipe:
    """The recipe of the baseline: labelled images alone, and a moving average with the teacher's decay."""
    supervised = SupervisedSection(
        mix=method.mix_labeled, labeled_views=method.labeled_views, ema_decay=method.decay.value
    )
    values = recipe.model_dump(mode="json") | {"method": supervised.model_dump(mode="json")}
    values["data"] |= {"unlabeled": None, "unlabeled_batch_size": None}
    values["run"] |= {"out": str(root), "baseline": False}
    return Recipe.model_validate(values)
