"""What a run leaves of its detectors: numbers, weights, pictures."""

from __future__ import annotations

import torch

from mixdet.data.dataset import DetectionDataset
from mixdet.evaluation import Evaluation, evaluate
from mixdet.recipes.recipe import Recipe
from mixdet.runs.build import build_workers
from mixdet.runs.data import Data
from mixdet.runs.destinations import save_picture
from mixdet.runs.folder import RunFolder
from mixdet.runs.pictures import draw_fed, draw_found
from mixdet.structures import Detections, Detector
from mixdet.training.inference import detect
from mixdet.training.weights import WeightsCard, save_weights


class Outputs:
    """Measures a run's detectors and writes them down, as its recipe says; the first process's affair.

    Args:
        recipe: of the run.
        data: opened.
        folder: to write to.
        device: where the detectors are.
    """

    def __init__(self, recipe: Recipe, data: Data, folder: RunFolder, device: torch.device) -> None:
        self.recipe = recipe
        self.data = data
        self.folder = folder
        self.device = device

    def measure(self, detector: Detector, dataset: DetectionDataset) -> Evaluation:
        """Under the recipe's metric."""
        found = self.detections(detector, dataset)
        return evaluate(found, dataset, self.recipe.evaluation.metric, classes=self.data.labeled.classes)

    def detections(self, detector: Detector, dataset: DetectionDataset) -> list[Detections]:
        """Of every image of ``dataset``, at the size of evaluation."""
        data = self.recipe.data
        found = detect(
            detector,
            dataset,
            short_side=data.test_short_side,
            long_side=data.test_long_side,
            device=self.device,
            batch_size=self.recipe.evaluation.batch_size,
            workers=build_workers(data),
            score_threshold=self.recipe.evaluation.score_threshold,
        )
        return list(found)

    def save(self, name: str, detector: Detector, which: str, step: int, result: Evaluation | None) -> None:
        """Write weights with all that is needed to use them; ``which`` is "best" or "last"."""
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

    def draw(self, detector: Detector) -> None:
        """Pictures of what was trained on and of what is found."""
        shown = self.data.val or self.data.test or self.data.labeled
        count = min(self.recipe.evaluation.visualize, len(shown))
        if count == 0:
            return
        classes, some = self.data.labeled.classes, shown.subset(range(count))
        found = draw_found(some, self.detections(detector, some), classes)
        save_picture(found, self.folder.images / "detections.png")
        save_picture(draw_fed(self.recipe, self.data, count, detector.stride), self.folder.images / "inputs.png")
