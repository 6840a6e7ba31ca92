"""Training methods: one paper, one short file."""

from mixdet.methods.method import Method
from mixdet.methods.supervised import Supervised

METHODS: dict[str, type[Method]] = {"supervised": Supervised}

__all__ = ["METHODS", "Method", "Supervised"]
