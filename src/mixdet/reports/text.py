"""Names from annotation files, made safe to print and to draw."""

from __future__ import annotations

import unicodedata


def printable(text: str, limit: int = 40) -> str:
    """``text`` on one line, at most ``limit`` characters; control, direction and unassigned ones become "?"."""
    joined = " ".join(text.split())
    clean = "".join("?" if unicodedata.category(c).startswith("C") else c for c in joined)
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."
