"""The schema of an ensemble: what the card of its weights file says in place of a ``detector`` section."""

from __future__ import annotations

from typing import Literal

from mixdet.recipes.detector import DetectorSection
from mixdet.recipes.section import Positive, Section, Unit


class EnsembleSection(Section):
    """Several trained detectors as one, their boxes fused."""

    name: Literal["ensemble"] = "ensemble"
    """The detector."""
    members: tuple[DetectorSection, ...]
    """The detectors; their tensors are prefixed "0.", "1.", ..."""
    weights: tuple[Positive, ...]
    """How much each one's scores count."""
    iou: Unit = 0.6
    """Boxes of one class that overlap by more are one object."""
    skip: Unit = 1e-4
    """Detections with a lower score are left out."""
