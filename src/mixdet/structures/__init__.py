"""Frozen value types that every layer shares; nothing in them is changed in place."""

from mixdet.structures.batch import Batch, Views
from mixdet.structures.detections import Detections
from mixdet.structures.detector import Detector, Features, Staged, TwoStage, TwoStageDetector, as_module, supervise
from mixdet.structures.instances import Instances
from mixdet.structures.losses import Losses
from mixdet.structures.randomness import keyed_generator, keyed_seed
from mixdet.structures.regions import Regions
from mixdet.structures.step import Step
from mixdet.structures.stream import Stream

__all__ = [
    "Batch",
    "Detections",
    "Detector",
    "Features",
    "Instances",
    "Losses",
    "Regions",
    "Staged",
    "Step",
    "Stream",
    "TwoStage",
    "TwoStageDetector",
    "Views",
    "as_module",
    "keyed_generator",
    "keyed_seed",
    "supervise",
]
