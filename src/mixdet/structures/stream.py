"""What a method reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stream:
    """An endless supply of images that a method asks for.

    Attributes:
        name: keyword under which the method's ``losses`` receives its views ("labeled", "unlabeled", "source", ...).
        labeled: whether annotations are read. They are never opened for an unlabelled stream.
        views: views beside "weak", in order ("strong", ...).
        paired_with: name of the stream whose batch size this one follows, or None.
    """

    name: str
    labeled: bool
    views: tuple[str, ...] = ()
    paired_with: str | None = None
