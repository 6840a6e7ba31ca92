"""STAC: what each line of its algorithm does."""

from __future__ import annotations

import pytest
import torch

from mixdet.detectors import PRESETS, FasterRCNN, build_backbone
from mixdet.methods import STAC
from mixdet.mixing import TileMix
from mixdet.structures import Batch, Instances, Step, Views, keyed_generator, supervise


def batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.tensor([[5.0, 6.0, 60.0, 70.0], [50.0, 20.0, 90.0, 60.0]])
    instances = [Instances(boxes + i, torch.tensor([0, 2])) for i in range(2)]
    return Batch(torch.rand(2, 3, 96, 128, generator=generator), torch.tensor([[96, 128]] * 2), instances)


@pytest.fixture
def detector() -> FasterRCNN:
    torch.manual_seed(0)
    return FasterRCNN(3, build_backbone("tiny", 64), PRESETS["tiny"])


def test_the_loss_is_half_the_weighted_sum_of_all_terms_of_both(detector: FasterRCNN) -> None:
    labeled, unlabeled = Views(weak=batch(1)), Views(weak=batch(2), strong=batch(3))
    torch.manual_seed(1)
    method = STAC(detector, unsup_weight=2.0)
    losses = method(step=Step(0, 10, keyed_generator(0)), labeled=labeled, unlabeled=unlabeled)
    torch.manual_seed(1)
    sup, unsup = supervise(detector, labeled.weak), supervise(detector, unlabeled.strong)
    assert all(value > 0 for value in unsup.terms.values())  # boxes too
    torch.testing.assert_close(losses.total, 0.5 * (sup.total + 2.0 * unsup.total))
    assert set(losses.terms) == {f"{side}/{name}" for side in ("sup", "unsup") for name in sup.terms}


def test_it_reads_labels_of_both_streams_and_views_only_what_it_needs(detector: FasterRCNN) -> None:
    streams = {stream.name: stream for stream in STAC(detector).streams}
    assert streams["labeled"].views == ()
    assert streams["unlabeled"].views == ("strong",)
    assert all(stream.labeled for stream in streams.values())


def test_the_student_finds_the_labels_of_unlabelled_images_in_mixed_tiles(detector: FasterRCNN) -> None:
    labeled, unlabeled = Views(weak=batch(1)), Views(weak=batch(2), strong=batch(3))
    tiles = TileMix(group_size=2, num_tiles=3)
    torch.manual_seed(1)
    step = Step(0, 10, keyed_generator(0))
    losses = STAC(detector, tiles=tiles)(step=step, labeled=labeled, unlabeled=unlabeled)
    torch.manual_seed(1)
    sup = supervise(detector, labeled.weak)
    features = tiles.features(detector, unlabeled.strong.images, keyed_generator(0))
    unsup = detector.losses(features, unlabeled.strong)  # boxes are those of the un-mixed features
    torch.testing.assert_close(losses.total, 0.5 * (sup.total + 2.0 * unsup.total))
    torch.manual_seed(1)
    plain = STAC(detector)(step=step, labeled=labeled, unlabeled=unlabeled)
    assert losses.terms["unsup/roi_cls"] != plain.terms["unsup/roi_cls"]
    assert losses.terms["sup/roi_cls"] == plain.terms["sup/roi_cls"]  # labelled images are not mixed


def test_a_moving_average_stands_beside_the_student(detector: FasterRCNN) -> None:
    method = STAC(detector, ema_decay=0.75)
    assert list(method.detectors()) == ["teacher", "student"]
    assert list(STAC(detector).detectors()) == ["student"]
    before = next(method.teacher.parameters()).clone()  # type: ignore[union-attr]
    with torch.no_grad():
        next(detector.parameters()).add_(1)
    method.after_step(Step(0, 10, keyed_generator(0)))
    torch.testing.assert_close(next(method.teacher.parameters()), before + 0.25)  # type: ignore[union-attr]
