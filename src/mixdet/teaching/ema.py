"""The exponential moving average of a student."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from mixdet.structures import Detector, as_module


class EMATeacher(nn.Module):
    """A frozen copy of a student that follows it: theta_t <- decay * theta_t + (1 - decay) * theta_s.

    Floating-point parameters and buffers are averaged; integer buffers are copied (averaging truncates them, which
    corrupted Swin's position index in released code). Always in eval mode, whatever ``train()`` says.

    Args:
        student: the network to copy; it is not kept.

    Attributes:
        network: the copy, a detector.
    """

    def __init__(self, student: Detector) -> None:
        super().__init__()
        copied = copy.deepcopy(as_module(student)).requires_grad_(False).eval()
        self.network: Detector = cast(Detector, copied)

    def train(self, mode: bool = True) -> EMATeacher:
        """Stays in eval mode."""
        super().train(False)
        return self

    @torch.no_grad()
    def update(self, student: Detector, decay: float) -> None:
        """One step towards ``student``; ``decay`` 0 copies it."""
        mine, theirs = _tensors(as_module(self.network)), _tensors(as_module(student))
        own_floats, other_floats = ([t for t in side if t.is_floating_point()] for side in (mine, theirs))
        # one kernel for all with a number; on the CPU, where it is a loop, a tensor is a tenth faster
        weight = [torch.tensor(1 - decay)] * len(own_floats) if own_floats[0].device.type == "cpu" else 1 - decay
        torch._foreach_lerp_(own_floats, other_floats, weight)
        for own, other in zip(mine, theirs, strict=True):
            if not own.is_floating_point():
                own.copy_(other)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
