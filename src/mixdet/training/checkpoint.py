"""Checkpoints: one safetensors file each, written atomically, the last two kept.

Randomness is a function of (seed, step, shard) and the data order one of the step, so a checkpoint holds parameters,
optimizer moments and numbers, and no random state.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mixdet.errors import MixdetError
from mixdet.methods import Method
from mixdet.training.files import write_atomically

KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands.

    Attributes:
        step: optimizer steps done.
        method: the method's state dict.
        optimizer: the optimizer's state dict.
        notes: numbers the run wants back (best score of each detector).
    """

    step: int
    method: dict[str, Tensor]
    optimizer: dict[str, Any]
    notes: dict[str, Any]

    def restore(self, method: Method, optimizer: torch.optim.Optimizer) -> None:
        """Lay the state onto a method and an optimizer built from the same recipe."""
        method.load_state_dict(self.method)
        optimizer.load_state_dict(self.optimizer)


def save_checkpoint(
    folder: Path, step: int, method: nn.Module, optimizer: torch.optim.Optimizer, notes: dict[str, Any]
) -> Path:
    """Write ``folder/step-NNNNNNNN.safetensors``; remove all but the last two, and what a killed process left."""
    tensors = {f"method.{name}": value for name, value in method.state_dict().items()}
    state = optimizer.state_dict()
    moments: dict[str, dict[str, Any]] = {}
    for index, entry in state["state"].items():
        for name, value in entry.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                moments.setdefault(str(index), {})[name] = value
    header = {"step": step, "notes": notes, "groups": state["param_groups"], "moments": moments}
    path = folder / f"{_stem(step)}.safetensors"
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, lambda file: save_file(plain, file, {"mixdet": json.dumps(header)}))
    for old in [*_newest_first(folder)[KEPT:], *folder.glob(".step-*.tmp")]:
        old.unlink()
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        MixdetError: the file is damaged or is not a checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        header = json.loads(metadata["mixdet"])
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as fault:
        raise MixdetError(f"{path}: damaged checkpoint ({fault})") from None
    state: dict[int, dict[str, Any]] = {int(index): dict(entry) for index, entry in header["moments"].items()}
    method: dict[str, Tensor] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "method":
            method[rest] = value
        else:
            index, _, moment = rest.partition(".")
            state.setdefault(int(index), {})[moment] = value
    groups = [
        {k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in group.items()}  # JSON has no tuples
        for group in header["groups"]
    ]
    optimizer = {"state": state, "param_groups": groups}
    return Checkpoint(header["step"], method, optimizer, header["notes"])


def latest_checkpoint(folder: Path) -> tuple[Checkpoint, list[str]]:
    """The newest whole checkpoint of a run, and a line for each damaged one that was passed over.

    Raises:
        MixdetError: there is none.
    """
    complaints: list[str] = []
    for path in _newest_first(folder):
        try:
            return load_checkpoint(path), complaints
        except MixdetError as fault:
            complaints.append(str(fault))
    reason = f" ({complaints[0]})" if complaints else ""
    raise MixdetError(f"{folder}: no checkpoint to resume from{reason}; start again with mixdet train")


def previous_checkpoint(folder: Path, last: Checkpoint, least: int = 0) -> Checkpoint:
    """The newest whole checkpoint before ``last``, all after it removed; ``last`` itself where there is none.

    Args:
        folder: of the checkpoints.
        last: of these.
        least: step before which none is taken.
    """
    for path in _newest_first(folder):
        if _stem(least) <= path.stem < _stem(last.step):
            with contextlib.suppress(MixdetError):
                found = load_checkpoint(path)
                for newer in _newest_first(folder):
                    if newer.stem > path.stem:
                        newer.unlink()
                return found
    return last


def _stem(step: int) -> str:
    return f"step-{step:08d}"


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"), reverse=True)
