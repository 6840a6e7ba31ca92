"""Trained weights, used: loaded, evaluated, run on images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mixdet.data.dataset import DetectionDataset
from mixdet.data.streams import HERE, Workers
from mixdet.evaluation import detections_to_coco
from mixdet.recipes.detector import DetectorSection
from mixdet.recipes.ensemble import EnsembleSection
from mixdet.runs.build import build_detector, build_ensemble
from mixdet.runs.folder import RunFolder
from mixdet.structures import Detections, Detector, as_module
from mixdet.training.files import write_text_atomically
from mixdet.training.inference import detect
from mixdet.training.weights import WeightsCard, read_weights


@dataclass(frozen=True, eq=False)
class Trained:
    """A detector with its weights and what is known of them.

    Attributes:
        detector: on ``device``, in eval mode.
        card: class names, preprocessing, scores.
        path: the weights file.
        device: where the detector is.
    """

    detector: Detector
    card: WeightsCard
    path: Path
    device: torch.device

    def detect(
        self, dataset: DetectionDataset, batch_size: int = 8, score_threshold: float | None = None
    ) -> list[Detections]:
        """Detections of every image of ``dataset``, in its pixels; labels index ``card.classes``.

        Args:
            dataset: the images.
            batch_size: images at a time.
            score_threshold: only detections above it; None for what comes with the detector.
        """
        return list(self.stream(dataset, batch_size, score_threshold=score_threshold))

    def stream(
        self,
        dataset: DetectionDataset,
        batch_size: int = 8,
        workers: Workers = HERE,
        score_threshold: float | None = None,
    ) -> Iterator[Detections]:
        """``detect``, image by image."""
        return detect(
            self.detector,
            dataset,
            short_side=self.card.short_side,
            long_side=self.card.long_side,
            device=self.device,
            batch_size=batch_size,
            workers=workers,
            score_threshold=score_threshold,
        )


def load_trained(path: Path, device: torch.device) -> Trained:
    """Load a run folder's shipped weights, or a weights file.

    Raises:
        MixdetError: neither, or damaged.
    """
    file = weights_file(path)
    tensors, card = read_weights(file)
    detector = described(card)
    as_module(detector).load_state_dict(tensors)
    as_module(detector).to(device).eval()
    return Trained(detector, card, file, device)


def weights_file(path: Path) -> Path:
    """The weights that a run folder ships, or the file that ``path`` is.

    Raises:
        MixdetError: a folder that is no run's, or has no weights yet.
    """
    return RunFolder.open(path)[0].shipped() if path.is_dir() else path


def described(card: WeightsCard) -> Detector:
    """The detector that a card describes, or the ensemble, as yet without its tensors."""
    if card.detector.get("name") == "ensemble":
        return build_ensemble(EnsembleSection.model_validate(card.detector), len(card.classes))
    return build_detector(DetectorSection.model_validate(card.detector), len(card.classes), weights=False)


def write_detections(
    path: Path, dataset: DetectionDataset, detections: Sequence[Detections], card: WeightsCard
) -> None:
    """Write detections as a COCO file: images, categories (the training file's ids) and annotations with scores."""
    content: dict[str, Any] = {
        "images": [
            {"id": int(i), "file_name": dataset.images.name(n), "height": int(h), "width": int(w)}
            for n, (i, (h, w)) in enumerate(zip(dataset.image_ids, dataset.sizes, strict=True))
        ],
        "categories": [{"id": i, "name": n} for i, n in zip(card.category_ids, card.classes, strict=True)],
        "annotations": [
            {"id": n, "iscrowd": 0, "area": round(result["bbox"][2] * result["bbox"][3], 2), **result}
            for n, result in enumerate(detections_to_coco(detections, dataset), start=1)
        ],
    }
    write_text_atomically(path, json.dumps(content))
