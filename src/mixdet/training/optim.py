"""The optimizer of a method's trainable parameters."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from mixdet.methods import Method

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def scaled_lr(lr: float, batch_size: int, reference_batch_size: int | None) -> float:
    """The linear rule: a rate stated for one global batch size, at another (Goyal et al. 2017)."""
    return lr if reference_batch_size is None else lr * batch_size / reference_batch_size


def build_optimizer(
    method: Method,
    name: Literal["sgd", "adamw"],
    *,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
) -> torch.optim.Optimizer:
    """SGD or AdamW over the method's trainable parameters.

    One group for each (learning-rate factor, decayed or not): norm layers are not decayed, as in detectron2. A group
    keeps its rate at factor 1 as ``base_lr``; the loop sets ``lr`` from it at every step.

    Args:
        method: its ``lr_scale`` gives each parameter's factor.
        name: "sgd" or "adamw".
        lr: for the batch that is used (``scaled_lr`` applied already).
        momentum: of SGD.
        weight_decay: of all but norm layers.
    """
    of_norms = {id(p) for m in method.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter_name, parameter in method.named_parameters():
        if parameter.requires_grad:
            key = (method.lr_scale(parameter_name), id(parameter) not in of_norms)
            groups.setdefault(key, []).append(parameter)
    sections: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": lr * scale,
            "base_lr": lr * scale,
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for (scale, decayed), parameters in groups.items()
    ]
    if name == "sgd":
        return torch.optim.SGD(sections, momentum=momentum, foreach=True)
    return torch.optim.AdamW(sections, foreach=True)
