"""The layout of a run folder."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from mixdet.data.opencv import decoder
from mixdet.errors import MixdetError
from mixdet.recipes.load import load_recipe
from mixdet.recipes.recipe import Recipe
from mixdet.runs.destinations import check_unused
from mixdet.training.distributed import World
from mixdet.training.files import write_text_atomically
from mixdet.training.weights import read_card

WRITTEN = ("env.json", "metrics.jsonl", "checkpoints", "images", "weights")  # besides recipe.yaml


@dataclass(frozen=True)
class RunFolder:
    """Where the files of a run are.

    Attributes:
        root: the folder.
    """

    root: Path

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def images(self) -> Path:
        return self.root / "images"

    def weights(self, detector: str, which: str) -> Path:
        """Weights of a detector by name; ``which`` is "best" or "last"."""
        return self.root / "weights" / f"{detector}-{which}.safetensors"

    def shipped(self) -> Path:
        """The weights to use: of the best of each detector the one that scored higher; else the first one's last.

        Raises:
            MixdetError: none are written yet.
        """
        key = load_recipe(self.recipe).evaluation.select_by.upper()
        best = sorted((self.root / "weights").glob("*-best.safetensors"), reverse=True)  # equal: teacher over student
        if best:
            return max(best, key=lambda path: read_card(path).scores.get(key, 0.0))
        return self.last()

    def last(self) -> Path:
        """The weights of the last step: of the ensemble or the teacher, if there is one.

        Raises:
            MixdetError: none are written yet.
        """
        for name in ("ensemble", "teacher", "student"):
            if (path := self.weights(name, "last")).is_file():
                return path
        raise MixdetError(f"{self.root}: no weights before the first evaluation; go on with mixdet resume {self.root}")

    def last_aps(self) -> dict[str, float]:
        """AP of each detector at the last step on ``data.val``, by the detector's name; empty without ``data.val``."""
        cards = [read_card(path) for path in sorted((self.root / "weights").glob("*-last.safetensors"))]
        return {card.which: card.scores["AP"] for card in cards if "AP" in card.scores}

    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from, or the run is done."""
        return any(self.checkpoints.glob("step-*")) or any((self.root / "weights").glob("*-last.safetensors"))

    @classmethod
    def create(cls, recipe: Recipe, name: str) -> RunFolder:
        """A new folder with recipe.yaml and env.json in it.

        Raises:
            MixdetError: ``run.out`` is a file, or a folder with a run in it or with files that a run would write over.
        """
        root = Path(recipe.run.out) if recipe.run.out else _unused(Path("runs"), name)
        folder = cls(root)
        if folder.recipe.exists():
            raise MixdetError(f"run.out: {root} holds a run already; use mixdet resume {root}, or name another folder")
        check_unused(root, WRITTEN, "name another folder with run.out")
        write_text_atomically(folder.recipe, recipe.to_yaml())
        return folder

    @classmethod
    def open(cls, root: Path) -> tuple[RunFolder, Recipe]:
        """The folder of an earlier run, and its recipe."""
        folder = cls(root)
        if not folder.recipe.is_file():
            raise MixdetError(f"{root}: not a run folder (no recipe.yaml in it); give a folder that mixdet train named")
        return folder, load_recipe(folder.recipe)

    def write_environment(self, world: World) -> None:
        """Versions, device and what decodes images, in env.json."""
        facts = {name: version(name) for name in ("mixdet", "torch", "torchvision", "timm")}
        facts |= {"python": platform.python_version(), "platform": platform.platform(), "device": str(world.device)}
        if world.device.type == "cuda":
            facts["gpu"] = torch.cuda.get_device_name(world.device)
        facts["decoder"] = decoder()
        record = {**facts, "processes": world.size, "threads": torch.get_num_threads()}
        write_text_atomically(self.root / "env.json", json.dumps(record, indent=1) + "\n")


def _unused(parent: Path, name: str) -> Path:
    number = 1
    while (path := parent / f"{name}-{number}").exists():
        number += 1
    return path
