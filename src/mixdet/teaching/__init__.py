"""Teachers: networks that follow the student, and the labels they give."""

from mixdet.teaching.class_thresholds import class_thresholds
from mixdet.teaching.decay import Decay
from mixdet.teaching.ema import EMATeacher
from mixdet.teaching.labelling import agreed, easiest
from mixdet.teaching.pseudo_labels import (
    ClassThresholds,
    FallbackThreshold,
    FixedThreshold,
    PseudoLabels,
    Threshold,
    kept,
    pseudo_label,
)

__all__ = [
    "ClassThresholds",
    "Decay",
    "EMATeacher",
    "FallbackThreshold",
    "FixedThreshold",
    "PseudoLabels",
    "Threshold",
    "agreed",
    "class_thresholds",
    "easiest",
    "kept",
    "pseudo_label",
]
