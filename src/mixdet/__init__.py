"""mixdet: train object detectors by mixing images, when labels are few.

Everything here is loaded when it is first used: ``import mixdet`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixdet.data import DetectionDataset, open_dataset
    from mixdet.detectors import FasterRCNN, build_backbone
    from mixdet.errors import EnvironmentFault, MixdetError
    from mixdet.evaluation import Evaluation
    from mixdet.methods import Method, Supervised
    from mixdet.mixing import (
        Mix,
        blend_images,
        draw_tiles,
        from_torchvision,
        interpolate_losses,
        mix_tiles,
        to_torchvision,
        unmix_tiles,
    )
    from mixdet.recipes import Recipe, load_recipe
    from mixdet.runs.commands import evaluate, predict, preview, resume, train
    from mixdet.runs.compare import compare
    from mixdet.runs.fit import FitResult
    from mixdet.structures import Batch, Detections, Detector, Instances, Losses, Step, Stream, Views, supervise

_HOMES = {
    "Batch": "mixdet.structures",
    "DetectionDataset": "mixdet.data",
    "Detections": "mixdet.structures",
    "Detector": "mixdet.structures",
    "EnvironmentFault": "mixdet.errors",
    "Evaluation": "mixdet.evaluation",
    "FasterRCNN": "mixdet.detectors",
    "FitResult": "mixdet.runs.fit",
    "Instances": "mixdet.structures",
    "Losses": "mixdet.structures",
    "Method": "mixdet.methods",
    "Mix": "mixdet.mixing",
    "MixdetError": "mixdet.errors",
    "Recipe": "mixdet.recipes",
    "Step": "mixdet.structures",
    "Stream": "mixdet.structures",
    "Supervised": "mixdet.methods",
    "Views": "mixdet.structures",
    "blend_images": "mixdet.mixing",
    "build_backbone": "mixdet.detectors",
    "compare": "mixdet.runs.compare",
    "draw_tiles": "mixdet.mixing",
    "evaluate": "mixdet.runs.commands",
    "from_torchvision": "mixdet.mixing",
    "interpolate_losses": "mixdet.mixing",
    "load_recipe": "mixdet.recipes",
    "mix_tiles": "mixdet.mixing",
    "open_dataset": "mixdet.data",
    "predict": "mixdet.runs.commands",
    "preview": "mixdet.runs.commands",
    "resume": "mixdet.runs.commands",
    "supervise": "mixdet.structures",
    "to_torchvision": "mixdet.mixing",
    "train": "mixdet.runs.commands",
    "unmix_tiles": "mixdet.mixing",
}

__all__ = [
    "Batch",
    "DetectionDataset",
    "Detections",
    "Detector",
    "EnvironmentFault",
    "Evaluation",
    "FasterRCNN",
    "FitResult",
    "Instances",
    "Losses",
    "Method",
    "Mix",
    "MixdetError",
    "Recipe",
    "Step",
    "Stream",
    "Supervised",
    "Views",
    "blend_images",
    "build_backbone",
    "compare",
    "draw_tiles",
    "evaluate",
    "from_torchvision",
    "interpolate_losses",
    "load_recipe",
    "mix_tiles",
    "open_dataset",
    "predict",
    "preview",
    "resume",
    "supervise",
    "to_torchvision",
    "train",
    "unmix_tiles",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("mixdet")
    if name not in _HOMES:
        raise AttributeError(f"module 'mixdet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
