"""A disagreement between keys of a recipe."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """A disagreement.

    Attributes:
        keys: dotted keys that disagree; the first is the one to look at.
        problem: the rest of the sentence, with the fix.
    """

    keys: tuple[str, ...]
    problem: str
