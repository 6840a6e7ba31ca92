"""Supervised: Baseline, mixed, Reg, Partial, two targets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mixdet.data.scenes import scenes
from mixdet.detectors import PRESETS, FasterRCNN, build_backbone
from mixdet.methods import METHODS, Method, Supervised
from mixdet.mixing import PRESETS as MIXES
from mixdet.mixing import Fixed, Mix, TileMix
from mixdet.structures import Batch, Instances, Losses, Step, Views, keyed_generator, supervise

TERMS = ("rpn_cls", "rpn_box", "roi_cls", "roi_box")


@pytest.fixture(scope="module")
def detector() -> FasterRCNN:
    torch.manual_seed(0)
    # more samples than there are anchors or proposals, so that nothing depends on random sampling
    numbers = replace(PRESETS["tiny"], rpn_samples=4096, rpn_positive_fraction=1.0, roi_samples=4096)
    return FasterRCNN(8, build_backbone("tiny", 64), replace(numbers, roi_positive_fraction=1.0))


def cropped(instances: Instances, side: int) -> Instances:
    boxes = instances.boxes.clamp(max=side)
    return replace(instances, boxes=boxes).select((boxes[:, 2:] - boxes[:, :2]).amin(1) > 8)


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Four drawn images cut to 70 x 70, on a canvas of 96 x 96."""
    data = scenes("photo", count=20, size=96)
    instances = [cropped(data.instances(i), 70) for i in range(20)]
    wanted = [i for i, found in enumerate(instances) if len(found)][:4]
    images = torch.full((4, 3, 96, 96), 0.5)
    for canvas, index in zip(images, wanted, strict=True):
        canvas[:, :70, :70] = data.image(index)[:, :70, :70] / 255
    ids = tuple(frozenset({f"photo{i}"}) for i in wanted)
    labels = [instances[i] for i in wanted]
    return Batch(images, torch.full((4, 2), 70), labels, ids=ids, pad_colour=torch.full((3,), 0.5))


def at(index: int, seed: int = 0) -> Step:
    return Step(index, 10, keyed_generator(seed))


def losses_of(method: Method, batch: Batch, step: Step) -> Losses:
    torch.manual_seed(1)
    return method(step=step, labeled=Views(weak=batch))


def close(a: Losses, b: Losses, rtol: float = 1e-5) -> None:
    assert a.terms.keys() == b.terms.keys()
    for name in a.terms:
        torch.testing.assert_close(a.terms[name], b.terms[name], rtol=rtol, atol=1e-7, msg=name)


def test_the_baseline_is_the_detectors_own_loss(detector: FasterRCNN, batch: Batch) -> None:
    close(losses_of(Supervised(detector), batch, at(0)), supervise(detector, batch))
    assert METHODS["supervised"] is Supervised


def test_lam_1_equals_the_plain_loss(detector: FasterRCNN, batch: Batch) -> None:
    plain = losses_of(Supervised(detector), batch, at(0))
    for pull in (0.0, 1.0):
        detector.rpn.background_pull = detector.roi_heads.background_pull = pull
        for supervision in ("interpolate", "dominant"):
            mixed = Supervised(detector, Mix(supervision=supervision, lam=Fixed(1.0), pairing="roll"))
            close(losses_of(mixed, batch, at(0)), plain)
    detector.rpn.background_pull = detector.roi_heads.background_pull = 0.0


def test_swapping_the_pair_and_lam_changes_nothing(detector: FasterRCNN, batch: Batch) -> None:
    two = batch.select([0, 1])
    ordered = [Mix(lam=Fixed(lam), pairing="roll") for lam in (0.3, 0.7)]
    a = ordered[0](two, two, keyed_generator(0))
    b = ordered[1](two, two, keyed_generator(0)).select([1, 0])
    torch.testing.assert_close(a.images, b.images)
    close(supervise(detector, a), supervise(detector, b))


def test_an_image_mixed_with_itself_gives_its_plain_loss(detector: FasterRCNN, batch: Batch) -> None:
    plain = supervise(detector, batch)
    for name in ("lossmix", "union", "half", "swapped", "cutmix"):
        twins = replace(MIXES[name], pairing="aligned")
        copy = replace(batch, images=batch.images.clone())
        close(supervise(detector, twins(batch, batch, keyed_generator(0))), plain)
        close(supervise(detector, twins(batch, copy, keyed_generator(0))), plain, rtol=1e-4)


def test_components_are_the_sum_of_two_plain_losses(detector: FasterRCNN, batch: Batch) -> None:
    lam = 0.3
    mix = Mix(lam=Fixed(lam), pairing="roll")
    mixture = mix.draw(batch, batch, keyed_generator(0))
    first, second = mix.components(batch, batch, mixture)
    features = detector.features(first.images)
    torch.manual_seed(1)
    found = detector.losses(features, first).merge(detector.losses(features, second))
    plain = [one.with_weights(torch.ones(4)) for one in (first, second)]
    torch.manual_seed(1)
    sides = [detector.losses(features, side) for side in plain]
    close(found, (lam * sides[0]).merge((1 - lam) * sides[1]))
    literal = losses_of(Supervised(detector, mix, two_targets=True), batch, at(0))
    close(literal, found)


def test_two_targets_equal_background_pull_where_boxes_are_apart(detector: FasterRCNN) -> None:
    """Full sampling, disjoint boxes: beta = 1 is eq. 6 to the letter, in the RPN as in the RoI classifier."""
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(3))
    # boxes of the anchors' own size in opposite corners; none in the dead band between positive and negative
    boxes = [torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.tensor([[80.0, 80.0, 96.0, 96.0]])]
    instances = [Instances(box, torch.tensor([k])) for k, box in enumerate(boxes)]
    batch = Batch(images, torch.full((2, 2), 96), instances, ids=(frozenset("a"), frozenset("b")))
    mix = Mix(lam=Fixed(0.3), pairing="roll")
    literal = losses_of(Supervised(detector, mix, two_targets=True), batch, at(0))
    detector.rpn.background_pull = detector.roi_heads.background_pull = 1.0
    shared = losses_of(Supervised(detector, mix), batch, at(0))
    detector.rpn.background_pull = detector.roi_heads.background_pull = 0.0
    weighted = losses_of(Supervised(detector, mix), batch, at(0))
    # not equal to the last digit: anchors in the dead band of one image count as background of the other,
    # and each run of the literal form appends its own ground truth to the proposals
    for name in ("rpn_cls", "roi_cls"):
        gap = abs(literal.terms[name] - shared.terms[name])
        assert gap < 0.25 * abs(literal.terms[name] - weighted.terms[name]), name


def test_reg_mixes_half_of_each_view(detector: FasterRCNN, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Batch] = []
    monkeypatch.setattr(
        FasterRCNN, "losses", lambda self, features, b: seen.append(b) or Losses({"x": b.weights.sum()})
    )
    strong = replace(batch, images=batch.images + 100)
    method = Supervised(detector, Mix(pairing="roll"), mixed_fraction=0.5, labeled_views="both")
    method.losses(step=at(0), labeled=Views(weak=batch, strong=strong))
    clean = seen[0].select(range(4, 8))
    assert torch.equal(clean.images[:2], batch.images[2:])
    assert torch.equal(clean.images[2:], strong.images[2:])
    assert {len(ids) for ids in clean.ids} == {1}


def test_reg_mixes_half_of_the_batch_within_itself(
    detector: FasterRCNN, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Batch] = []
    monkeypatch.setattr(
        FasterRCNN, "losses", lambda self, features, b: seen.append(b) or Losses({"x": b.weights.sum()})
    )
    mix = Mix(lam=Fixed(0.5), pairing="roll")
    losses_of(Supervised(detector, mix, mixed_fraction=0.5), batch, at(0))
    assert [sorted(ids) for ids in seen[0].ids[:2]] == [sorted(batch.ids[0] | batch.ids[1])] * 2
    assert seen[0].ids[2:] == batch.ids[2:]
    for clean, original in zip(seen[0].labels[2:], batch.labels[2:], strict=True):
        assert torch.equal(clean.boxes, original.boxes)
        assert (clean.shares == 1).all()
    assert torch.equal(seen[0].images[2:, :, :96, :96], batch.images[2:])
    seen.clear()
    losses_of(Supervised(detector, mix, mixed_fraction=0.5, two_targets=True), batch, at(0))
    weights = torch.stack([b.weights for b in seen]).sum(0)
    torch.testing.assert_close(weights, torch.ones(4))  # clean images count once


def test_partial_stops_mixing_at_its_step(detector: FasterRCNN, batch: Batch) -> None:
    method = Supervised(detector, MIXES["lossmix"], mix_until_step=3)
    plain = losses_of(Supervised(detector), batch, at(3))
    assert "lam" in losses_of(method, batch, at(2)).notes
    assert "lam" not in losses_of(method, batch, at(3)).notes
    close(losses_of(method, batch, at(3)), plain)


def test_the_same_step_draws_the_same_mixture(detector: FasterRCNN, batch: Batch) -> None:
    method = Supervised(detector, MIXES["lossmix"])
    close(losses_of(method, batch, at(0, seed=4)), losses_of(method, batch, at(0, seed=4)))
    assert losses_of(method, batch, at(0, seed=4)).notes["lam"] != losses_of(method, batch, at(0, seed=5)).notes["lam"]


def test_state_round_trip_and_teacher(detector: FasterRCNN, batch: Batch) -> None:
    method = Supervised(detector, ema_decay=0.9)
    assert list(method.detectors()) == ["teacher", "student"]
    trainable = [name for name, p in method.named_parameters() if p.requires_grad]
    assert trainable
    assert all(name.startswith("student.") for name in trainable)
    other = Supervised(FasterRCNN(8, build_backbone("tiny", 64), detector.preset), ema_decay=0.9)
    other.load_state_dict(method.state_dict())
    close(losses_of(other, batch, at(0)), losses_of(method, batch, at(0)))
    with pytest.raises(ValueError, match="mixed_fraction"):
        Supervised(detector, mixed_fraction=0.0)


def test_strong_views_and_tiles(detector: FasterRCNN, batch: Batch) -> None:
    strong = replace(batch, images=1 - batch.images)
    views = Views(weak=batch, strong=strong)
    for which, seen in (("weak", batch), ("strong", strong), ("both", Batch.concat([batch, strong]))):
        method = Supervised(detector, labeled_views=which)  # type: ignore[arg-type]
        assert method.streams[0].views == (() if which == "weak" else ("strong",))
        torch.manual_seed(1)
        close(method(step=at(0), labeled=views), supervise(detector, seen))
    tiled = Supervised(detector, tiles=TileMix(group_size=4, num_tiles=3))
    generator = keyed_generator(0)
    features = TileMix(group_size=4, num_tiles=3).features(detector, batch.images, generator)
    close(losses_of(tiled, batch, at(0)), detector.losses(features, batch))
    assert float(losses_of(tiled, batch, at(0)).total.detach()) != float(supervise(detector, batch).total.detach())
    close(losses_of(Supervised(detector, tiles=TileMix(group_size=1)), batch, at(0)), supervise(detector, batch))


def test_one_drawn_scene_in_mixed_tiles_keeps_its_own_boxes(detector: FasterRCNN, batch: Batch) -> None:
    method = Supervised(detector, MIXES["lossmix"], tiles=TileMix())
    losses = losses_of(method, batch, at(0))
    assert torch.isfinite(losses.total)
    assert "lam" in losses.notes
