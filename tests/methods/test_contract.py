"""What every method keeps to, whatever its paper."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from mixdet.detectors import PRESETS, FasterRCNN, TwoHeadRCNN, build_backbone
from mixdet.detectors.weighting import focal_loss
from mixdet.methods import ISMT, METHODS, Method
from mixdet.structures import Batch, Instances, Step, Views, as_module, keyed_generator
from mixdet.teaching import Decay

DECAY = 0.75
AFTER = Step(50, 100, keyed_generator(0))


def method_of(name: str, burn_in_steps: int = 0) -> Method:
    torch.manual_seed(0)
    backbone = build_backbone("tiny", 64)
    detector: FasterRCNN = (TwoHeadRCNN if METHODS[name] is ISMT else FasterRCNN)(
        3, backbone, PRESETS["tiny"], roi_cls_loss=focal_loss
    )
    keywords: dict[str, Any] = {}
    if name in ("unbiased_teacher", "mum", "ismt"):
        keywords = {"decay": Decay(DECAY, burn_in_steps), "score_threshold": 0.01}
    elif name in ("supervised", "stac"):
        keywords = {"ema_decay": DECAY}
    elif name == "instant_teaching":
        keywords = {"score_threshold": 0.01}
    return METHODS[name](detector, **keywords)


def views(method: Method, seed: int = 1) -> dict[str, Views]:
    """Random images for each stream, with the views it asks for; labels only where it asks for them."""
    found = {}
    for number, stream in enumerate(method.streams):
        generator = torch.Generator().manual_seed(seed + number)
        boxes = torch.tensor([[5.0, 6.0, 60.0, 70.0], [50.0, 20.0, 90.0, 60.0]])
        instances = [Instances(boxes + i, torch.tensor([0, 2])) for i in range(4)] if stream.labeled else None
        affines = torch.eye(3).repeat(4, 1, 1)
        found[stream.name] = Views(
            **{
                view: Batch(
                    torch.rand(4, 3, 96, 128, generator=generator),
                    torch.tensor([[96, 128]] * 4),
                    instances,
                    None,  # type: ignore[arg-type]
                    affines,
                    tuple(frozenset({f"{stream.name}-{i}"}) for i in range(4)),
                )
                for view in ("weak", *stream.views)
            }
        )
    return found


def total(method: Method, step: Step, streams: dict[str, Views]) -> Tensor:
    torch.manual_seed(3)
    return method(step=Step(step.index, step.total, keyed_generator(5)), **streams).total


@pytest.fixture(params=METHODS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("index", [0, 50])
def test_every_parameter_learns_in_every_phase(name: str, index: int) -> None:
    method = method_of(name, burn_in_steps=10).train()
    loss = total(method, Step(index, 100, keyed_generator(0)), views(method))
    assert torch.isfinite(loss)
    loss.backward()
    idle = [key for key, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []  # DDP would wait for them


def test_the_student_moves_and_an_average_follows_in_closed_form(name: str) -> None:
    method = method_of(name).train()
    networks = {key: as_module(detector) for key, detector in method.detectors().items()}
    before = {key: copy.deepcopy(network.state_dict()) for key, network in networks.items()}
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    total(method, AFTER, views(method)).backward()
    optimizer.step()
    method.after_step(AFTER)
    after = {key: network.state_dict() for key, network in networks.items()}
    moved = [k for k in before["student"] if not torch.equal(before["student"][k], after["student"][k])]
    assert moved
    if "teacher" in networks:
        assert not networks["teacher"].training
        for key in moved:
            wanted = DECAY * before["teacher"][key] + (1 - DECAY) * after["student"][key]
            torch.testing.assert_close(after["teacher"][key], wanted)


def test_the_state_dict_is_the_checkpoint(name: str) -> None:
    method, streams = method_of(name).train(), views(method_of(name))
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))
    total(method, AFTER, streams)
    method.after_step(AFTER)  # what a store keeps
    other = method_of(name).train()
    other.load_state_dict(method.state_dict())
    assert torch.equal(total(method, AFTER, streams), total(other, AFTER, streams))


def test_the_first_detector_predicts(name: str) -> None:
    method = method_of(name).eval()
    detector = next(iter(method.detectors().values()))
    batch = next(iter(views(method).values())).weak.with_instances(None)
    with torch.no_grad():
        found = detector.predict(detector.features(batch.images), batch)
    assert len(found) == len(batch)
    assert "student" in method.detectors()


def test_streams_are_named_once_and_unlabelled_ones_carry_no_labels(name: str) -> None:
    streams = method_of(name).streams
    names = [stream.name for stream in streams]
    assert len(set(names)) == len(names)
    assert streams[0].name == "labeled"
    assert streams[0].labeled
    assert "weak" not in {view for stream in streams for view in stream.views}  # always there
