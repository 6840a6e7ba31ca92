"""Learning-rate schedules: functions of the step, never counters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """Factor on the learning rate at each step.

    Attributes:
        name: after the warm-up constant, or times ``gamma`` at each of ``milestones`` ("step"), or a half cosine to 0.
        steps: length of the run.
        warmup_steps: linear rise from ``warmup_factor`` to 1 (detectron2's WarmupMultiStepLR).
        milestones: steps from which the next factor holds.
    """

    name: Literal["constant", "step", "cosine"]
    steps: int
    warmup_steps: int = 0
    warmup_factor: float = 0.001
    milestones: Sequence[int] = ()
    gamma: float = 0.1

    def factor(self, step: int) -> float:
        """Factor of step ``step`` (0 is the first)."""
        warm = 1.0
        if step < self.warmup_steps:
            progress = step / self.warmup_steps
            warm = self.warmup_factor * (1 - progress) + progress
        if self.name == "step":
            return float(warm * self.gamma ** sum(step >= m for m in self.milestones))
        if self.name == "cosine":
            return warm * 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1.0)))
        return warm
