"""The moving average against a loop over state dicts (the way of Unbiased Teacher's code), R50-FPN."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import torch

from benchmarks.harness import Row, interleaved, milliseconds
from mixdet.detectors import PRESETS, FasterRCNN, build_backbone
from mixdet.teaching import EMATeacher

DECAY = 0.9996


def rows(rounds: int | None) -> Iterator[Row]:
    torch.manual_seed(0)
    student = FasterRCNN(20, build_backbone("resnet50", 256), PRESETS["torchvision"])
    teacher, other = EMATeacher(student), EMATeacher(student).network

    def ours() -> None:
        teacher.update(student, DECAY)

    @torch.no_grad()
    def theirs() -> None:
        new, mine = OrderedDict(), student.state_dict()
        for key, value in other.state_dict().items():
            new[key] = mine[key] * (1 - DECAY) + value * DECAY
        other.load_state_dict(new)

    mine, source = list(other.parameters()), list(student.parameters())

    @torch.no_grad()
    def copied() -> None:
        torch._foreach_copy_(mine, source)

    ratios, a, b = interleaved(ours, theirs, rounds or 31)
    yield Row("EMA update / state-dict loop, R50-FPN", ratios, 0.15, note=milliseconds(a, b))
    ratios, a, b = interleaved(ours, copied, rounds or 31)
    yield Row("EMA update / plain copy of the parameters", ratios, None, note=milliseconds(a, b))
