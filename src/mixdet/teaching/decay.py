"""How fast a teacher follows: the decay of its moving average as a function of the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Ramp = Literal["none", "linear", "harmonic"]
FIRST = 0.5  # where the linear ramp begins (MUM, section 4)


@dataclass(frozen=True)
class Decay:
    """Decay of an EMA teacher: theta_t <- decay * theta_t + (1 - decay) * theta_s (MUM, eq. 1).

    Attributes:
        value: the decay in the end.
        burn_in_steps: the teacher is the student's copy for so many steps; then it begins.
        ramp: "none": constant; "linear": 0.5 + (value - 0.5) n / ramp_steps at the n-th update, as in MUM's code, which
            has it in place of a burn-in; "harmonic": min(value, 1 - 1 / n), the mean of all students so far until
            ``value`` is reached.
        ramp_steps: of the linear ramp.
    """

    value: float
    burn_in_steps: int = 0
    ramp: Ramp = "none"
    ramp_steps: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.value < 1:
            raise ValueError(f"Decay: value {self.value} is not in [0, 1)")
        if self.ramp not in get_args(Ramp):
            raise ValueError(f"Decay: ramp {self.ramp!r} is not one of {', '.join(get_args(Ramp))}")

    def at(self, step: int) -> float:
        """Decay of the update after step ``step`` (0, 1, ...); 0 copies the student."""
        if step < self.burn_in_steps:
            return 0.0
        update = step - self.burn_in_steps
        if self.ramp == "harmonic":
            return min(self.value, 1 - 1 / (update + 1))
        if self.ramp == "none" or update + 1 >= self.ramp_steps:
            return self.value
        first = min(FIRST, self.value)
        return first + (self.value - first) * (update + 1) / self.ramp_steps
