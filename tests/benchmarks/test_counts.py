"""What can be counted without noise: mixing adds at most a twentieth of a step's dispatched operations."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from mixdet.detectors import PRESETS


def test_a_lossmix_step_dispatches_at_most_a_twentieth_more_than_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    lossmix = importlib.import_module("benchmarks.lossmix")
    detector = importlib.import_module("benchmarks.setups").tiny_detector(PRESETS["tiny"])
    for shape in ("equal sizes", "unequal sizes"):
        row = lossmix.counted(detector, shape, draws=1)
        assert row.passed, str(row)
