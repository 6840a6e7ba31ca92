"""The exponential moving average."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mixdet.detectors import BODIES
from mixdet.teaching import EMATeacher
from oracles.ema import average_of_everything


class Counting(nn.Module):
    """A student with a parameter, a float buffer and an integer buffer that truncation would ruin."""

    stride = 1
    num_classes = 1
    pad_colour = torch.zeros(3)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.register_buffer("mean", torch.tensor([4.0]))
        self.register_buffer("index", torch.arange(2401))
        self.drop = nn.Dropout(0.5)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        return {"p2": self.drop(images)}

    losses = predict = features


def test_floats_are_averaged_and_integers_copied() -> None:
    student = Counting()
    teacher = EMATeacher(student)  # type: ignore[arg-type]
    weight, mean = teacher.network.weight.clone(), teacher.network.mean.clone()  # type: ignore[attr-defined]
    for step in range(200):
        with torch.no_grad():
            student.weight += 0.1
            student.mean.mul_(1.01)
            student.index.add_(1)
        teacher.update(student, 0.9996)  # type: ignore[arg-type]
        weight = 0.9996 * weight + (1 - 0.9996) * student.weight.detach()
        mean = 0.9996 * mean + (1 - 0.9996) * student.mean
        assert torch.equal(teacher.network.index, student.index), step  # type: ignore[attr-defined]
    torch.testing.assert_close(teacher.network.weight, weight, rtol=1e-5, atol=0)  # type: ignore[attr-defined]
    torch.testing.assert_close(teacher.network.mean, mean, rtol=1e-5, atol=0)  # type: ignore[attr-defined]


def test_the_teacher_is_frozen_a_copy_and_always_in_eval_mode() -> None:
    student = Counting()
    teacher = EMATeacher(student)  # type: ignore[arg-type]
    assert teacher.network is not student
    assert not any(p.requires_grad for p in teacher.parameters())
    teacher.train()
    nn.Sequential(teacher).train()
    assert not any(m.training for m in teacher.modules())
    images = torch.ones(1, 3, 8, 8)
    assert torch.equal(teacher.network.features(images)["p2"], images)  # dropout is off


def test_decay_0_copies() -> None:
    student = Counting()
    teacher = EMATeacher(student)  # type: ignore[arg-type]
    with torch.no_grad():
        student.weight.fill_(7.0)
    teacher.update(student, 0.0)  # type: ignore[arg-type]
    assert torch.equal(teacher.network.weight, student.weight)  # type: ignore[attr-defined]


class Window(nn.Module):
    """What attention in windows of 7 x 7 cells keeps in released code: biases, and which of them a pair has."""

    def __init__(self) -> None:
        super().__init__()
        y, x = torch.arange(49) // 7, torch.arange(49) % 7
        dy, dx = (side[:, None] - side + 6 for side in (y, x))  # (49, 49), 0 to 12
        self.table = nn.Parameter(torch.zeros(169))
        self.register_buffer("relative_position_index", 13 * dy + dx)


@pytest.mark.parametrize(("decay", "ruined"), [(0.9996, 290), (0.999, 0)])
def test_a_position_index_survives_a_thousand_updates(decay: float, ruined: int) -> None:
    """Averaged like the rest, 290 of its 2401 entries are one too small after the first step, and stay so."""
    student = Window()
    teacher = EMATeacher(student)  # type: ignore[arg-type]
    index = student.relative_position_index.clone()  # type: ignore[operator]
    averaged = index
    for _ in range(1000):
        with torch.no_grad():
            student.table += 0.01
        teacher.update(student, decay)  # type: ignore[arg-type]
        averaged = average_of_everything(averaged, index, decay)
    assert "relative_position_index" in teacher.network.state_dict()  # type: ignore[attr-defined]
    assert torch.equal(teacher.network.relative_position_index, index)  # type: ignore[attr-defined]
    assert float(teacher.network.table[0]) > 0  # type: ignore[attr-defined]
    lost = index - averaged
    assert (lost.numel(), int(lost.sum()), int(lost.min())) == (2401, ruined, 0)
    assert int(lost.max()) == (ruined > 0)


def test_swins_integer_buffers_are_untouched_after_a_thousand_updates() -> None:
    """Of all four stages; of each parameter one row, for time."""
    student = BODIES["swin_tiny"]()
    for module in student.modules():
        for name, parameter in [*module.named_parameters(recurse=False)]:
            setattr(module, name, nn.Parameter(parameter.detach()[:1].clone()))
    before = {name: buffer.clone() for name, buffer in student.named_buffers() if not buffer.is_floating_point()}
    teacher = EMATeacher(student)  # type: ignore[arg-type]
    weights = [parameter.detach().clone() for parameter in student.parameters()]
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 1
    for _ in range(1000):
        teacher.update(student, 0.9996)  # type: ignore[arg-type]
    assert len(before) == 12
    for name, buffer in before.items():
        assert torch.equal(teacher.network.get_buffer(name), buffer), name  # type: ignore[attr-defined]
    for parameter, weight in zip(teacher.network.parameters(), weights, strict=True):
        moved = parameter - weight
        torch.testing.assert_close(moved, torch.full_like(moved, 1 - 0.9996**1000), rtol=1e-3, atol=1e-4)
