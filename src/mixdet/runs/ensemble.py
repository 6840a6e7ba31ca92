"""Several weights files as one that fuses what their detectors find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mixdet.errors import MixdetError
from mixdet.recipes.ensemble import EnsembleSection
from mixdet.runs.build import build_ensemble
from mixdet.runs.infer import weights_file
from mixdet.training.weights import WeightsCard, read_weights, save_weights

AGREED = ("classes", "category_ids", "short_side", "long_side")


def write_ensemble(paths: Sequence[Path], weights: Sequence[float], out: Path) -> None:
    """Write an ensemble, which ``mixdet eval`` and ``mixdet predict`` take as they take any weights file.

    Its card says ``which="ensemble"``, no scores, and the steps of the member that was trained longest.

    Args:
        paths: weights files, or run folders for their shipped weights.
        weights: how much each one's scores count (Multi Phase Learning: 0.9, 1.0, 1.4 on VOC, 0.7, 1.0, 1.7 on COCO).
        out: the file to write.

    Raises:
        MixdetError: one of them damaged or an ensemble itself; classes or preprocessing that differ; weights that are
            not one positive number each.
    """
    if len(paths) != len(weights) or not paths or min(weights) <= 0:
        raise MixdetError(f"{out}: {len(paths)} detectors and weights {list(weights)}; give each a number above 0")
    files = [weights_file(path) for path in paths]
    contents = [read_weights(file) for file in files]
    cards = [card for _, card in contents]
    for file, card in zip(files, cards, strict=True):
        _check(file, card, files[0], cards[0])
    section = EnsembleSection.model_validate({"members": [card.detector for card in cards], "weights": tuple(weights)})
    try:
        ensemble = build_ensemble(section, len(cards[0].classes))
    except ValueError as fault:
        bodies = ", ".join(member.body for member in section.members)
        raise MixdetError(f"{out}: {fault} (their bodies: {bodies}); use bodies with the same normalisation") from None
    ensemble.load_state_dict({f"{n}.{key}": t for n, (tensors, _) in enumerate(contents) for key, t in tensors.items()})
    described, step = section.model_dump(mode="json"), max(card.step for card in cards)
    save_weights(out, ensemble, replace(cards[0], detector=described, step=step, which="ensemble", scores={}))


def _check(file: Path, card: WeightsCard, first: Path, other: WeightsCard) -> None:
    """What the members' cards have to agree on."""
    if card.detector.get("name") == "ensemble":
        raise MixdetError(f"{file}: is an ensemble itself; give the files that it was made of")
    for key in AGREED:
        if (mine := getattr(card, key)) != (theirs := getattr(other, key)):
            raise MixdetError(
                f"{file}: {key}={mine}, not {theirs} as in {first}; an ensemble's detectors share {', '.join(AGREED)}"
            )
