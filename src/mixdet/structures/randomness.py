"""Randomness as a function of a key, so that no state has to be saved."""

from __future__ import annotations

import hashlib

import torch


def keyed_seed(*key: int | str) -> int:
    """A 63-bit seed from a key such as (seed, "weak", position): equal keys, equal seeds, on any machine."""
    digest = hashlib.blake2b("\x1f".join(str(part) for part in key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def keyed_generator(*key: int | str) -> torch.Generator:
    """A CPU generator seeded by ``keyed_seed``."""
    return torch.Generator().manual_seed(keyed_seed(*key))
