"""The exponential moving average."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mixdet.teaching import EMATeacher


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
