"""The focal loss of Lin et al. 2017, eq. 4, over a softmax as in Unbiased Teacher: one row at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence


def focal(logits: Sequence[float], target: int, gamma: float) -> float:
    """-(1 - p_t)^gamma log p_t."""
    p = math.exp(logits[target]) / sum(math.exp(z) for z in logits)
    return -((1 - p) ** gamma) * math.log(p)
