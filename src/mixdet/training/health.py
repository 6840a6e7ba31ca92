"""Whether a teacher teaches: what its labels look like beside the real ones, and a sentence when something goes wrong.

The rules are those that the authors of such systems give in their issue threads, again and again: count the pseudo
boxes, compare them with the labelled ones, begin with a small weight, train the teacher first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

EXPLOSION = 3.0  # pseudo boxes an image, in labelled boxes an image
FEW = 0.25  # likewise
FEW_PATIENCE = 4  # times as long as other states last: a teacher that has just begun is sure of little
LEARN = "raise method.decay.burn_in_steps so that it learns from labels first"
HEIGHTS = " ▁▂▃▄▅▆▇█"
WORSE = 0.01  # AP by which a student may be ahead of its teacher


class Health:
    """Watches the numbers that teachers log.

    Each alarm is one sentence with cause and remedy; it is raised once, and again only after it was over.

    Args:
        classes: K names.
        labeled_boxes: (K,) boxes an image, of each class, in the labelled images.
        begins: step at which the teacher begins; before it there is nothing to watch.
        patience: steps that a state must last before it is an alarm.
        decay: of the teacher, for the remedy; None if it has none.
        matched: whether thresholds follow the teacher, for the remedy; None if they cannot.
    """

    def __init__(
        self,
        classes: Sequence[str],
        labeled_boxes: Sequence[float],
        begins: int,
        patience: int,
        decay: float | None = None,
        matched: bool | None = None,
    ) -> None:
        self.classes = tuple(classes)
        self.labeled = tuple(labeled_boxes)
        self.begins = begins
        self.patience = patience
        self.decay = decay
        self.matched = matched
        self._ap: dict[str, float] = {}  # of each detector, at the last evaluation
        self._since: dict[str, int] = {}  # state -> step it began at
        self._raised: set[str] = set()

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on has to know, so that nothing is said twice."""
        return {"since": self._since, "raised": sorted(self._raised), "ap": self._ap}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self._since, self._raised, self._ap = dict(state["since"]), set(state["raised"]), dict(state.get("ap", {}))

    def line(self, step: int, values: Mapping[str, float | list[float]]) -> str:
        """What the progress line says of the teacher after ``step`` steps; "" if nothing was logged."""
        if "pseudo_boxes" not in values:
            return f"burn-in: the teacher begins at step {self.begins}" if step < self.begins else ""
        boxes, kept = _number(values["pseudo_boxes"]), _number(values["pseudo_kept"])
        line = f"pseudo boxes {boxes:.1f} an image (labelled {sum(self.labeled):.1f}{self._rarest(values)})"
        scores = values.get("pseudo_scores")
        if isinstance(scores, list):
            line += f", scores 0 {bars(scores)} 1"
        ap = " ".join(f"{name} {100 * value:.1f}" for name, value in self._ap.items())
        return f"{line}, {kept:.0%} of detections kept" + (f", AP {ap}" if ap else "")

    def record(self, values: Mapping[str, float | list[float]]) -> dict[str, float | list[float]]:
        """What is written beside the numbers of pseudo-labels: the labelled boxes an image they compare with."""
        if "pseudo_boxes" not in values:
            return {}
        return {"labeled_boxes": sum(self.labeled), "labeled_boxes_of_class": list(self.labeled)}

    def alarms(self, step: int, values: Mapping[str, float | list[float]]) -> list[str]:
        """New alarms after ``step`` steps, from averages since the last call."""
        if "pseudo_boxes" not in values:
            return []
        boxes, labeled = _number(values["pseudo_boxes"]), sum(self.labeled)
        whoever = "the student" if self.decay is None else "the teacher"
        more, less = self._remedies()
        first = "" if self.decay is None or more == LEARN else f", or {LEARN}"
        states = {
            "none": (
                boxes == 0,
                f"no pseudo boxes for {{steps}} steps: {whoever} is sure of nothing; {more}{first}",
            ),
            "few": (
                0 < boxes < FEW * labeled,
                f"{boxes:.2f} pseudo boxes an image against {labeled:.2f} labelled ones, for {{steps}} steps: what "
                f"is not found is taught as background; {more}",
            ),
            "explosion": (
                boxes > EXPLOSION * max(labeled, 0.1),
                f"{boxes:.1f} pseudo boxes an image against {labeled:.1f} labelled ones: {whoever} finds too much; "
                f"{less}, or lower method.unsup_weight",
            ),
        }
        of_class = values.get("pseudo_boxes_of_class")
        if isinstance(of_class, list) and boxes > 0:
            for name, found, real in zip(self.classes, of_class, self.labeled, strict=True):
                states[f"class {name}"] = (
                    found == 0 and real > 0,
                    f"class {name} got no pseudo box for {{steps}} steps ({real:.2f} labelled ones an image): "
                    f"unlabelled images teach that it is background; {more}, or label more of it",
                )
        return [
            text for name, (holds, sentence) in states.items() if (text := self._raise(name, step, holds, sentence))
        ]

    def evaluated(self, step: int, ap: Mapping[str, float | None]) -> list[str]:
        """New alarms from an evaluation; ``ap`` of each detector in [0, 1]."""
        self._ap = {name: value for name, value in ap.items() if value is not None}
        teacher, student = ap.get("teacher"), ap.get("student")
        if teacher is None or student is None or step <= self.begins:
            return []
        holds = teacher < student - WORSE
        remedy = "lower method.decay.value"
        if self.decay:
            remedy += f" (at {self.decay:g} the teacher lags by some {1 / (1 - self.decay):.0f} steps)"
        sentence = f"the teacher (AP {100 * teacher:.1f}) is worse than its student ({100 * student:.1f}): {remedy}"
        if not holds:
            self._raised.discard("teacher")
            return []
        if "teacher" in self._raised:
            return []
        self._raised.add("teacher")
        return [sentence]

    def _remedies(self) -> tuple[str, str]:
        """What lets more detections become labels, and what fewer."""
        if self.matched:  # what a threshold can do is done
            return LEARN, "set method.matched_thresholds=false with a higher method.score_threshold"
        follow = " or set method.matched_thresholds=true" if self.matched is False else ""
        return f"lower method.score_threshold{follow}", f"raise method.score_threshold{follow}"

    def _rarest(self, values: Mapping[str, float | list[float]]) -> str:
        """The class with the fewest pseudo boxes for its labelled ones."""
        of_class = values.get("pseudo_boxes_of_class")
        if not isinstance(of_class, list):
            return ""
        rows = [row for row in zip(self.classes, of_class, self.labeled, strict=True) if row[2] > 0]
        if not rows:
            return ""
        name, found, real = min(rows, key=lambda row: row[1] / row[2])
        return f"; least {name}, {found:.2f} of {real:.2f}"

    def _raise(self, name: str, step: int, holds: bool, sentence: str) -> str:
        """The sentence, once a state has lasted; "" before, and after it was said."""
        if not holds:
            self._since.pop(name, None)
            self._raised.discard(name)
            return ""
        began = self._since.setdefault(name, step)
        patience = self.patience * (FEW_PATIENCE if name == "few" else 1)
        if name in self._raised or step - began < patience:
            return ""
        self._raised.add(name)
        return sentence.replace("{steps}", str(step - began))  # a class may have braces in its name


def bars(values: Sequence[float]) -> str:
    """A histogram in one line, each value one of eight heights; 0 is a space."""
    most = max(values, default=0.0)
    return "".join(HEIGHTS[math.ceil(8 * value / most)] if value > 0 else HEIGHTS[0] for value in values)


def _number(value: float | list[float]) -> float:
    return value if isinstance(value, float | int) else math.fsum(value)
