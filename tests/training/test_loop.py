"""The loop: accumulation, clipping, losses that are not finite, autocast."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mixdet.data.packing import PackedBatch, PackedImages
from mixdet.errors import MixdetError
from mixdet.methods import Method
from mixdet.structures import Detector, Losses, Step, Stream, Views
from mixdet.training.log import folded
from mixdet.training.loop import StepReport, flattened, train
from mixdet.training.optim import build_optimizer
from mixdet.training.schedules import Schedule


class Grey(nn.Module):
    """Half a detector: the loop asks it for its pad colour only."""

    pad_colour = torch.zeros(3)


class MeanColour(Method):
    """(weight - mean of the images)^2 as "fit", and a term that an image can blow up as "other"."""

    def __init__(self) -> None:
        super().__init__()
        self.streams = (Stream("labeled", labeled=False),)
        self.network = Grey()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, int, float]] = []
        self.precision = torch.float32
        self.done: list[int] = []

    def losses(self, *, step: Step, labeled: Views) -> Losses:  # type: ignore[override]
        images = labeled.weak.images
        self.precision = (images[0, 0] @ images[0, 0].T).dtype
        draw = int(torch.randint(1 << 30, (1,), generator=step.generator))
        self.seen.append((step.index, draw, torch.rand(1).item()))
        fit = (self.weight - images.mean()) ** 2
        other = torch.where(images.amax() >= 1, torch.inf, 0.0) * self.weight.abs().exp()
        return Losses({"fit": fit, "other": other}).noted(brightness=images.mean())

    def after_step(self, step: Step) -> None:
        self.done.append(step.index)

    def detectors(self) -> dict[str, Detector]:
        return {"student": self.network}  # type: ignore[dict-item]


def stream(values: list[int]) -> Iterator[PackedBatch]:
    empty = torch.zeros(0)
    for value in values:
        images = torch.full((2, 32, 32, 3), value, dtype=torch.uint8)
        names = [f"bright{value}.png", f"also{value}.png"]
        affines = torch.eye(3).repeat(2, 1, 1)
        weak = PackedImages(images, torch.full((2, 2), 32), affines, names, None, empty, empty, empty)
        yield PackedBatch(weak, {}, {})


def run(values: list[int], steps: int, **settings: object) -> tuple[MeanColour, list[StepReport]]:
    method, reports = MeanColour(), []
    optimizer = build_optimizer(method, "sgd", lr=0.25, momentum=0.0, weight_decay=0.0)
    train(
        method,
        {"labeled": stream(values)},
        optimizer,
        Schedule("constant", steps),
        seed=3,
        after_step=reports.append,
        **settings,  # type: ignore[arg-type]
    )
    return method, reports


def test_shards_are_averaged_into_one_step() -> None:
    method, reports = run([0, 102], steps=1, shards=2)
    assert method.weight.item() == pytest.approx(0.25 * 2 * 0.2)  # the gradient of the mean over both shards
    assert reports[0].values["brightness"] == pytest.approx(0.2)
    assert reports[0].values["loss"] == reports[0].values["fit"] + reports[0].values["other"]
    assert (reports[0].images, reports[0].step) == (4, 1)
    assert method.done == [0]


def test_gradients_are_clipped_and_their_norm_reported() -> None:
    method, reports = run([204], steps=1, clip_norm=0.1)
    assert method.weight.item() == pytest.approx(0.25 * 0.1, rel=1e-4)
    assert reports[0].gradient_norm == pytest.approx(1.6)


def test_randomness_is_keyed_by_step_and_shard() -> None:
    whole, _ = run([1] * 6, steps=3, shards=2)
    later, _ = run([1] * 2, steps=3, shards=2, start=2)
    assert whole.seen[4:] == later.seen
    assert len(set(whole.seen)) == 6


@pytest.mark.parametrize("shards", [1, 2])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_term_and_images(shards: int) -> None:
    with pytest.raises(MixdetError) as fault:
        run([10, 20, 30, 255], steps=4 // shards, shards=shards)
    message = str(fault.value)
    assert f"step {4 // shards}: loss other is inf" in message
    assert "also255.png, bright255.png" in message
    assert "bright30" not in message
    assert "\n" not in message


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_parameters_are_spoiled() -> None:
    class Steep(MeanColour):
        def losses(self, *, step: Step, labeled: Views) -> Losses:  # type: ignore[override]
            return Losses({"root": self.weight.sqrt()})  # 0, with an infinite slope

    method = Steep()
    optimizer = build_optimizer(method, "sgd", lr=0.1)
    with pytest.raises(MixdetError, match="step 1: gradient norm is inf although the losses are finite"):
        train(method, {"labeled": stream([1])}, optimizer, Schedule("constant", 1), seed=0, clip_norm=1.0)
    assert method.weight.item() == 0


def test_bf16_is_autocast_and_parameters_stay_float32() -> None:
    method, _ = run([100], steps=1, bf16=True)
    assert method.precision == torch.bfloat16
    assert method.weight.dtype == torch.float32


def test_a_run_stops_where_it_is_told_to() -> None:
    answers = iter([False, True])
    method, reports = run([1] * 5, steps=5, should_stop=lambda: next(answers))
    assert len(reports) == 2
    assert method.done == [0, 1]


def test_a_note_may_be_a_vector() -> None:
    class Noting(MeanColour):
        def losses(self, *, step: Step, labeled: Views) -> Losses:  # type: ignore[override]
            return super().losses(step=step, labeled=labeled).noted(of_class=torch.tensor([1.0, float(step.index)]))

    method, reports = Noting(), []
    optimizer = build_optimizer(method, "sgd", lr=0.25, momentum=0.0, weight_decay=0.0)
    train(method, {"labeled": stream([1, 2])}, optimizer, Schedule("constant", 2), seed=0, after_step=reports.append)
    assert [(r.values["of_class[0]"], r.values["of_class[1]"]) for r in reports] == [(1.0, 0.0), (1.0, 1.0)]
    assert folded(reports[1].values)["of_class"] == [1.0, 1.0]
    assert "brightness" in folded(reports[1].values)


def test_notes_of_the_host_and_terms_of_a_gpu_are_collected_together() -> None:
    """With fake tensors, so that no GPU is needed."""
    with FakeTensorMode():
        term, note = (torch.zeros((), device=device) for device in ("cuda", "cpu"))
        names, numbers = flattened(Losses({"fit": term}).noted(lam=note, of_class=torch.zeros(2)))
    assert names == ["fit", "lam", "of_class[0]", "of_class[1]"]
    assert numbers.device.type == "cuda"
