"""Images a CPU-second that `tiny` trains on."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.harness import Row, cpu_seconds
from benchmarks.setups import method_step, scene_batch, tiny_detector
from mixdet.detectors import PRESETS
from mixdet.methods import Supervised

IMAGES = 8


def rows(rounds: int | None) -> Iterator[Row]:
    for body in ("efficientnet_lite0", "resnet18"):
        detector = tiny_detector(PRESETS["tiny"], body)
        step = method_step(Supervised(detector), scene_batch(detector, IMAGES))
        step()
        speeds = tuple(IMAGES / cpu_seconds(step) for _ in range(rounds or 15))
        yield Row(f"tiny, images a CPU-second, {body}", speeds, 5, at_least=True)
