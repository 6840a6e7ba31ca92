"""Whether a teacher teaches: what its labels look like beside the real ones, and a sentence when something goes wrong.

The rules are those that the authors of such systems give in their issue threads, again and again: count the pseudo
boxes, compare them with the labelled ones, begin with a small weight, train the teacher first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

EXPLOSION = 3.0  # pseudo boxes an image, in labelled boxes an image
FEW = 0.25  # likewise
FEW_PATIENCE = 4  # times as long as other states last: a teacher that has just begun is sure of little
EXPECTED = 5  # boxes of a class that should have been found before its absence means anything
LEAST = 3  # classes named in the progress line
LEARN = "raise method.decay.burn_in_steps so that it learns from labels first"
HEIGHTS = " ▁▂▃▄▅▆▇█"
WORSE = 0.01  # AP by which a student may be ahead of its teacher
LEARNERS = {"": "", "2": "student2"}  # suffix of the numbers of a student's labels -> its name, if it is not alone

Values = Mapping[str, float | list[float]]


class Health:
    """Watches the numbers that teachers log.

    Each alarm is one sentence with cause and remedy; it is raised once, and again only after it was over.

    Args:
        classes: K names.
        labeled_boxes: (K,) boxes an image, of each class, in the labelled images.
        begins: step at which the teacher begins; before it there is nothing to watch.
        patience: steps that a state must last before it is an alarm.
        images: unlabelled images a step.
        decay: of the teacher, for the remedy; None if it has none.
        matched: whether thresholds follow the teacher, for the remedy; None if they cannot.
    """

    def __init__(
        self,
        classes: Sequence[str],
        labeled_boxes: Sequence[float],
        begins: int,
        patience: int,
        images: int,
        decay: float | None = None,
        matched: bool | None = None,
    ) -> None:
        self.classes = tuple(classes)
        self.labeled = tuple(labeled_boxes)
        self.begins = begins
        self.patience = patience
        self.images = images
        self.decay = decay
        self.matched = matched
        self._ap: dict[str, float] = {}  # of each detector, at the last evaluation
        self._since: dict[str, int] = {}  # state -> step it began at, or is watched from
        self._boxes: dict[str, list[tuple[int, float]]] = {}  # suffix -> step, pseudo boxes an image up to it
        self._raised: set[str] = set()
        self._held: dict[str, int] = {}  # state that was said -> step it held at last

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on has to know, so that nothing is said twice."""
        states = {"since": self._since, "held": self._held, "raised": sorted(self._raised)}
        return {**states, "boxes": self._boxes, "ap": self._ap}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self._since, self._raised, self._ap = dict(state["since"]), set(state["raised"]), dict(state.get("ap", {}))
        self._held, rows = dict(state.get("held", {})), state.get("boxes", {})
        self._boxes = {which: [(step, boxes) for step, boxes in history] for which, history in rows.items()}

    def line(self, step: int, values: Values) -> str:
        """What the progress line says of the teacher after ``step`` steps; "" if nothing was logged."""
        if "pseudo_boxes" not in values:
            return f"burn-in: the teacher begins at step {self.begins}" if step < self.begins else ""
        parts = [self._said(which, values) for which in LEARNERS if f"pseudo_boxes{which}" in values]
        if self._ap:
            parts.append("AP " + " ".join(f"{name} {100 * value:.1f}" for name, value in self._ap.items()))
        return ", ".join(parts)

    def record(self, values: Values) -> dict[str, float | list[float]]:
        """What is written beside the numbers of pseudo-labels: the labelled boxes an image, and the share kept."""
        if "pseudo_boxes" not in values:
            return {}
        kept = {f"pseudo_kept{w}": round(_kept(values, w), 6) for w in LEARNERS if f"pseudo_boxes{w}" in values}
        return {"labeled_boxes": sum(self.labeled), "labeled_boxes_of_class": list(self.labeled), **kept}

    def alarms(self, step: int, values: Values) -> list[str]:
        """New alarms after ``step`` steps, from averages since the last call."""
        return [
            f"{name}: {alarm}" if name else alarm
            for which, name in LEARNERS.items()
            if f"pseudo_boxes{which}" in values
            for alarm in self._alarms(which, step, values)
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

    def _said(self, which: str, values: Values) -> str:
        """Boxes, the classes that are found least, scores and the share kept, of a student's labels."""
        found, name = _number(values[f"pseudo_boxes{which}"]), f"{LEARNERS[which]}: " if which else ""
        line = f"{name}pseudo boxes {found:.1f} an image (labelled {sum(self.labeled):.1f}{self._least(which, values)})"
        scores = values.get(f"pseudo_scores{which}")
        if isinstance(scores, list):
            line += f", scores 0 {bars(scores)} 1"
        return f"{line}, {_kept(values, which):.0%} of detections kept"

    def _least(self, which: str, values: Values) -> str:
        """The classes with the fewest pseudo boxes for their labelled ones."""
        of_class = values.get(f"pseudo_boxes_of_class{which}")
        if not isinstance(of_class, list):
            return ""
        rows = [row for row in zip(self.classes, of_class, self.labeled, strict=True) if row[2] > 0]
        least = sorted(rows, key=lambda row: row[1] / row[2])[:LEAST]
        return (
            "; least " + ", ".join(f"{name} {found:.2f} of {real:.2f}" for name, found, real in least) if rows else ""
        )

    def _alarms(self, which: str, step: int, values: Values) -> list[str]:
        """Of a student's labels. Few and many are averages over a span, so that no single step ends them."""
        boxes, labeled = _number(values[f"pseudo_boxes{which}"]), sum(self.labeled)
        history, span = self._boxes.setdefault(which, []), FEW_PATIENCE * self.patience
        history.append((step, boxes))
        history[:] = [row for row in history if row[0] > step - span]
        few, many = _mean(history, step - span), _mean(history, step - self.patience)
        whoever = "the student" if self.decay is None else "the teacher"
        more, less = self._remedies()
        first = "" if self.decay is None or more == LEARN else f", or {LEARN}"
        said = [
            self._lasting(
                f"none{which}",
                step,
                boxes == 0,
                self.patience,
                f"no pseudo boxes for {{steps}} steps: {whoever} is sure of nothing{_best(which, values)}; "
                f"{more}{first}",
            ),
            self._average(
                f"few{which}",
                step,
                0 < few < FEW * labeled,
                boxes < FEW * labeled and f"none{which}" not in self._raised,
                span,
                f"{few:.2f} pseudo boxes an image against {labeled:.2f} labelled ones, for {span} steps: what "
                f"is not found is taught as background; {more}",
            ),
            self._average(
                f"explosion{which}",
                step,
                many > EXPLOSION * max(labeled, 0.1),
                boxes > EXPLOSION * max(labeled, 0.1),
                self.patience,
                f"{many:.1f} pseudo boxes an image against {labeled:.1f} labelled ones: {whoever} finds too much; "
                f"{less}, or lower method.unsup_weight",
            ),
        ]
        of_class = values.get(f"pseudo_boxes_of_class{which}")
        if isinstance(of_class, list) and boxes > 0:
            known = [row for row in zip(self.classes, of_class, self.labeled, strict=True) if row[2] > 0]
            for name, found, real in known:
                patience = max(self.patience, math.ceil(EXPECTED / (real * self.images)))
                said.append(
                    self._lasting(
                        f"class{which} {name}",
                        step,
                        found == 0,
                        patience,
                        f"class {name} got no pseudo box for {{steps}} steps ({real:.2g} labelled ones an image): "
                        f"unlabelled images teach that it is background; {more}, or label more of it",
                    )
                )
        return [text for text in said if text]

    def _lasting(self, name: str, step: int, holds: bool, patience: int, sentence: str) -> str:
        """The sentence, once a state has held for so long without a break; "" before, and after it was said."""
        if self._still(name, step, holds, patience):
            return ""
        if not holds:
            self._since.pop(name, None)
            return ""
        began = self._since.setdefault(name, step)
        if step - began < patience:
            return ""
        self._raised.add(name)
        return sentence.replace("{steps}", str(step - began))  # a class may have braces in its name

    def _average(self, name: str, step: int, holds: bool, now: bool, span: int, sentence: str) -> str:
        """The sentence, once an average over a whole span holds and so does what is there now."""
        if self._still(name, step, holds, span):
            return ""
        if not (holds and now) or step - self._since.setdefault(name, step) < span:
            return ""
        self._raised.add(name)
        return sentence

    def _still(self, name: str, step: int, holds: bool, span: int) -> bool:
        """Whether what was said of a state is not over: it is when the state has not held for a whole span."""
        if name not in self._raised:
            return False
        if holds:
            self._held[name] = step
        elif step - self._held.setdefault(name, step) >= span:
            self._raised.discard(name)
            del self._held[name]
            self._since[name] = step
            return False
        return True


def bars(values: Sequence[float]) -> str:
    """A histogram in one line, each value one of eight heights; 0 is a space."""
    most = max(values, default=0.0)
    return "".join(HEIGHTS[math.ceil(8 * value / most)] if value > 0 else HEIGHTS[0] for value in values)


def _mean(history: Sequence[tuple[int, float]], after: int) -> float:
    return mean(boxes for step, boxes in history if step > after)


def _kept(values: Values, which: str) -> float:
    """The share of detections that passed the threshold: a ratio of averages, not an average of ratios."""
    found = _number(values.get(f"pseudo_scores{which}", 0.0))
    return _number(values[f"pseudo_passed{which}"]) / found if found else 0.0


def _best(which: str, values: Values) -> str:
    """How sure of its best detection."""
    scores = values.get(f"pseudo_scores{which}")
    if not isinstance(scores, list):
        return ""
    filled = [place for place, count in enumerate(scores, start=1) if count > 0]
    return f", its best score below {filled[-1] / len(scores):.1f}" if filled else ", and finds nothing at all"


def _number(value: float | list[float]) -> float:
    return value if isinstance(value, float | int) else math.fsum(value)
