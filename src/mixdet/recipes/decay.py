"""How a teacher follows its student, as recipes say it."""

from __future__ import annotations

from typing import Literal

from mixdet.recipes.section import DecayValue, Section, Whole


class DecaySection(Section):
    """The EMA teacher's decay."""

    value: DecayValue = 0.9996
    """Decay in the end; its half-life should be a small part of schedule.steps."""
    burn_in_steps: Whole = 0
    """Steps on labelled images alone (unlabelled ones are read all the same), before the teacher begins."""
    ramp: Literal["none", "linear", "harmonic"] = "none"
    """Way to value: none, linear from 0.5 (MUM), or harmonic, the mean of all students so far."""
    ramp_steps: Whole = 0
    """Steps of the linear ramp."""

    @property
    def ramped(self) -> int:
        """Steps until the decay is constant, after the burn-in."""
        return self.ramp_steps if self.ramp == "linear" else 0


class UnbiasedTeacherDecay(DecaySection):
    """The EMA teacher's decay; Unbiased Teacher's on COCO."""

    burn_in_steps: Whole = 2000
    """Steps on labelled images alone (unlabelled ones are read all the same), before the teacher begins."""


class MUMDecay(DecaySection):
    """The EMA teacher's decay; MUM's on COCO."""

    ramp: Literal["none", "linear", "harmonic"] = "linear"
    """Way to value: none, linear from 0.5 (MUM), or harmonic, the mean of all students so far."""
    ramp_steps: Whole = 2000
    """Steps of the linear ramp."""


class ISMTDecay(DecaySection):
    """The EMA teacher's decay in ISMT."""

    value: DecayValue = 0.999
    """Decay in the end; its half-life should be a small part of schedule.steps."""
    burn_in_steps: Whole = 2000
    """Steps on labelled images alone (unlabelled ones are read all the same), before the teacher begins."""
