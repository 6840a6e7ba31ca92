"""Teachers: networks that follow the student, and the labels they give."""

from mixdet.teaching.class_thresholds import class_thresholds
from mixdet.teaching.decay import Decay
from mixdet.teaching.ema import EMATeacher
from mixdet.teaching.labelling import agreed, easiest, suppress
from mixdet.teaching.matched import MatchedThresholds
from mixdet.teaching.pseudo_labels import (
    ClassThresholds,
    FallbackThreshold,
    FixedThreshold,
    LeastThreshold,
    PseudoLabels,
    Threshold,
    asking,
    kept,
    pseudo_label,
)
from mixdet.teaching.rectify import second_opinion
from mixdet.teaching.reproject import from_original, reproject
from mixdet.teaching.store import LabelStore, merge

__all__ = [
    "ClassThresholds",
    "Decay",
    "EMATeacher",
    "FallbackThreshold",
    "FixedThreshold",
    "LabelStore",
    "LeastThreshold",
    "MatchedThresholds",
    "PseudoLabels",
    "Threshold",
    "agreed",
    "asking",
    "class_thresholds",
    "easiest",
    "from_original",
    "kept",
    "merge",
    "pseudo_label",
    "reproject",
    "second_opinion",
    "suppress",
]
