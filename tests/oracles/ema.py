"""The moving average that released code takes: of every entry of a state dict, whatever its type."""

from __future__ import annotations

import torch
from torch import Tensor


def average_of_everything(teacher: Tensor, student: Tensor, decay: float) -> Tensor:
    """One step, in float32; an integer entry gets the result with its fraction cut off."""
    mean = student.to(torch.float32) * (1 - decay) + teacher.to(torch.float32) * decay
    return mean.to(teacher.dtype)
