"""Where training stands, and the randomness that belongs to this place."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Step:
    """One shard of one optimizer step.

    Attributes:
        index: optimizer steps done before this one (0 in the first).
        total: optimizer steps of the whole run.
        generator: CPU generator keyed by (seed, index, shard), never by rank: the same draws for any number of
            processes, and a resumed run needs no saved random state.
    """

    index: int
    total: int
    generator: torch.Generator
