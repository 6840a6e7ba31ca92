"""Named losses that can be added, weighted and prefixed like the terms of an equation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Losses:
    """Ordered loss terms, and notes that go to the log beside them.

    ``0.5 * a + b.prefixed("unsup")`` reads like the paper's line. A dataclass over plain dicts, so that
    DistributedDataParallel finds the tensors in it.

    Attributes:
        terms: name -> scalar with gradient.
        notes: name -> detached number or vector (lam, boxes of each class); weights never touch them.
    """

    terms: dict[str, Tensor]
    notes: dict[str, Tensor] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        """The sum of the terms: what is minimised."""
        return torch.stack(list(self.terms.values())).sum()

    def __add__(self, other: Losses) -> Losses:
        """Both sets of terms; a name in both is an error (``merge`` adds name by name)."""
        return Losses(_disjoint(self.terms, other.terms), _disjoint(self.notes, other.notes))

    def merge(self, other: Losses) -> Losses:
        """Terms added name by name, missing ones as zero; of notes with one name the other's wins."""
        terms = dict(self.terms)
        for name, value in other.terms.items():
            terms[name] = terms[name] + value if name in terms else value
        return Losses(terms, {**self.notes, **other.notes})

    def __mul__(self, weight: float | Tensor) -> Losses:
        """Every term times ``weight``; a number 0 leaves the terms out of the graph, since 0 times infinity is NaN."""
        if isinstance(weight, float | int) and weight == 0:
            return Losses({name: torch.zeros_like(value) for name, value in self.terms.items()}, self.notes)
        return Losses({name: weight * value for name, value in self.terms.items()}, self.notes)

    __rmul__ = __mul__

    def prefixed(self, prefix: str) -> Losses:
        """Names become ``prefix/name``."""
        return Losses(
            {f"{prefix}/{name}": value for name, value in self.terms.items()},
            {f"{prefix}/{name}": value for name, value in self.notes.items()},
        )

    def noted(self, **notes: Tensor) -> Losses:
        """With further notes (detached here)."""
        return Losses(self.terms, {**self.notes, **{name: value.detach() for name, value in notes.items()}})


def _disjoint(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if shared := a.keys() & b.keys():
        raise ValueError(f"Losses: {sorted(shared)} on both sides of +; use merge, or prefixed names")
    return {**a, **b}
