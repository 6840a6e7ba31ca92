"""How strongly images are mixed (samplers of lam) and with whom (pairings)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Sampler(Protocol):
    """Draws lam, the share of the *first* image of a pair."""

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) float32 in [0, 1]."""
        ...


@dataclass(frozen=True)
class Beta:
    """lam ~ Beta(alpha, alpha): the paper's choice, alpha 1 by default (LossMix, supplement A).

    Attributes:
        alpha: > 0; 1 is uniform, smaller prefers nearly unmixed images, larger prefers halves.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not (self.alpha > 0 and math.isfinite(self.alpha)):
            raise ValueError(f"Beta: alpha must be a finite number above 0, got {self.alpha}")

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) float32; torch's own gamma sampler takes no generator, so numpy draws from a seed drawn here."""
        seed = int(torch.randint(2**63 - 1, (1,), generator=generator))
        return torch.from_numpy(np.random.default_rng(seed).beta(self.alpha, self.alpha, count).astype(np.float32))


@dataclass(frozen=True)
class Uniform:
    """lam ~ U(low, high); Noise mixing is U(0.8, 1): at most a fifth of the second image (supplement B)."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"Uniform: 0 <= low <= high <= 1 is needed, got low {self.low} and high {self.high}")

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) float32 in [low, high)."""
        return self.low + (self.high - self.low) * torch.rand(count, generator=generator)


@dataclass(frozen=True)
class Fixed:
    """Always the same lam."""

    value: float

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 1:
            raise ValueError(f"Fixed: lam must be in [0, 1], got {self.value}")

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) float32, all ``value``; the generator is left alone."""
        return torch.full((count,), self.value)


Pairing = Callable[[int, torch.Generator], Tensor]


def shuffle(count: int, generator: torch.Generator) -> Tensor:
    """A random permutation, (count,) int64: the paper's default. One image in a batch is expected to meet itself."""
    return torch.randperm(count, generator=generator)


def roll(count: int, generator: torch.Generator) -> Tensor:
    """Everyone with the next, the last with the first (count,): no image meets itself from two images on."""
    return (torch.arange(count) + 1) % max(count, 1)


def reverse(count: int, generator: torch.Generator) -> Tensor:
    """First with last (count,), as FixMatch does; the middle one of an odd number meets itself."""
    return torch.arange(count).flip(0)


def derangement(count: int, generator: torch.Generator) -> Tensor:
    """A permutation without fixed points (count,), all equally likely.

    Raises:
        ValueError: for one image: it has nobody else.
    """
    if count == 1:
        raise ValueError("derangement: one image cannot be mixed: it needs a batch of two or more")
    here = torch.arange(count)
    partner = torch.randperm(count, generator=generator)
    while bool((partner == here).any()):  # succeeds with probability 1/e or more
        partner = torch.randperm(count, generator=generator)
    return partner


def aligned(count: int, generator: torch.Generator) -> Tensor:
    """The r-th of one batch with the r-th of another (count,): for pairs of two different batches."""
    return torch.arange(count)


PAIRINGS: dict[str, Pairing] = {
    "shuffle": shuffle,
    "roll": roll,
    "reverse": reverse,
    "derangement": derangement,
    "aligned": aligned,
}
