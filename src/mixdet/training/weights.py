"""A detector on disk: one safetensors file with class names, preprocessing and architecture inside."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mixdet.errors import MixdetError
from mixdet.structures import Detector, as_module
from mixdet.training.files import write_atomically

FORMAT = 1


@dataclass(frozen=True)
class WeightsCard:
    """What somebody needs to use the tensors.

    Attributes:
        classes: names, in label order.
        category_ids: the training file's id of each class, for export.
        detector: the recipe's ``detector`` section, or that of an ensemble (mixdet.recipes.ensemble).
        short_side, long_side: test-time resizing.
        step: optimizer steps done.
        which: name of the detector in its method ("student", "teacher"), or "ensemble".
        scores: validation numbers at this step, by name.
    """

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    detector: dict[str, Any]
    short_side: int
    long_side: int
    step: int
    which: str
    scores: dict[str, float]


def save_weights(path: Path, detector: Detector, card: WeightsCard) -> None:
    """Write ``path`` atomically."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in as_module(detector).state_dict().items()}
    metadata = {"mixdet": json.dumps({"format": FORMAT, **asdict(card)})}
    write_atomically(path, lambda file: save_file(tensors, file, metadata))


def read_weights(path: Path) -> tuple[dict[str, Tensor], WeightsCard]:
    """Tensors and card of a weights file.

    Raises:
        MixdetError: missing, damaged, or not written by mixdet.
    """
    card = read_card(path)
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, card  # noqa: SIM118  (not a dict)


def read_card(path: Path) -> WeightsCard:
    """The card of a weights file; its tensors are not read.

    Raises:
        MixdetError: missing, damaged, or not written by mixdet.
    """
    if not path.is_file():
        raise MixdetError(f"{path}: no such weights file; give a run folder or a .safetensors that mixdet wrote")
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {})["mixdet"])
        if card.pop("format") != FORMAT:
            raise MixdetError(f"{path}: written by another version of mixdet; install that version, or train again")
        card["classes"], card["category_ids"] = tuple(card["classes"]), tuple(card["category_ids"])
        return WeightsCard(**card)
    except (SafetensorError, OSError) as fault:
        raise MixdetError(
            f"{path}: not a weights file, or a damaged one ({fault}); give one from weights/, or copy it again"
        ) from None
    except (KeyError, TypeError, json.JSONDecodeError):
        raise MixdetError(
            f"{path}: not a weights file of mixdet (no class names inside); give one from weights/"
        ) from None
