"""Instant Teaching, line by line, with one student and with two."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import oracles.mixing as mixing_oracle
from mixdet.detectors import PRESETS, FasterRCNN, build_backbone
from mixdet.methods import InstantTeaching
from mixdet.methods.instant_teaching import MIXUP, SPLIT, halves, mixed_with_labeled
from mixdet.structures import Batch, Detections, Instances, Losses, Step, Views, keyed_generator, supervise
from oracles.instant_teaching import Found, co_rectified

TERMS = ("rpn_cls", "rpn_box", "roi_cls", "roi_box")


@pytest.fixture
def detector() -> FasterRCNN:
    torch.manual_seed(0)
    return FasterRCNN(3, build_backbone("tiny", 64), PRESETS["tiny"], mixed_terms=["roi_cls"])


def batch(seed: int, affines: Tensor, size: tuple[int, int] = (96, 128), labeled: bool = False) -> Batch:
    count = len(affines)
    boxes = torch.tensor([[5.0, 6.0, 60.0, 70.0], [50.0, 20.0, 90.0, 60.0]])
    return Batch(
        torch.rand(count, 3, 96, 128, generator=torch.Generator().manual_seed(seed)),
        torch.tensor([size] * count),
        [Instances(boxes + i, torch.tensor([0, 2])) for i in range(count)] if labeled else None,
        affines=affines,
        ids=tuple(frozenset({f"{seed}-{i}"}) for i in range(count)),
    )


PLAIN = torch.eye(3).repeat(4, 1, 1)
MIRRORED = torch.tensor([[-1.0, 0, 128], [0, 1, 0], [0, 0, 1]]).repeat(4, 1, 1)
HALVED = torch.diag(torch.tensor([0.5, 0.5, 1.0])).repeat(4, 1, 1)
LABELED = Views(weak=batch(1, PLAIN[:3], labeled=True))
UNLABELED = Views(weak=batch(2, PLAIN), strong=batch(3, MIRRORED), strong2=batch(4, HALVED, (48, 64)))


def at(index: int, seed: int = 0) -> Step:
    return Step(index, 100, keyed_generator(seed))


def losses_of(method: InstantTeaching, seed: int = 0, **streams: Views) -> Losses:
    torch.manual_seed(1)
    return method(step=at(0, seed), **({"labeled": LABELED, "unlabeled": UNLABELED} | streams))


def answer(monkeypatch: pytest.MonkeyPatch, network: nn.Module, scores: list[float]) -> None:
    """Let a network find one box a score in every image."""
    boxes = torch.tensor([[10.0 + 20 * i, 10.0, 40.0 + 20 * i, 50.0] for i in range(len(scores))]).reshape(-1, 4)
    found = Detections(boxes, torch.arange(len(scores)) % 3, torch.tensor(scores))
    monkeypatch.setattr(network, "predict", lambda features, batch: [found] * len(batch))


def seen_by(monkeypatch: pytest.MonkeyPatch, network: FasterRCNN) -> list[Batch]:
    """The batches that a network learns from, once it has."""
    seen: list[Batch] = []
    own = network.losses
    monkeypatch.setattr(network, "losses", lambda features, batch: seen.append(batch) or own(features, batch))
    return seen


def close(a: Losses, b: Losses) -> None:
    assert a.terms.keys() == b.terms.keys()
    for name in a.terms:
        torch.testing.assert_close(a.terms[name], b.terms[name], rtol=1e-6, atol=1e-7, msg=name)


def test_the_losses_line_by_line(detector: FasterRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    """All four terms on the labels of the weak view, which the strong one has mirrored; 0.9 itself is enough."""
    method = InstantTeaching(detector, unsup_weight=3.0, mix_p=0.0)
    assert [(s.name, s.labeled, s.views) for s in method.streams] == [
        ("labeled", True, ()),
        ("unlabeled", False, ("strong",)),
    ]
    answer(monkeypatch, detector, [0.95, 0.9, 0.89])
    found = losses_of(method)
    torch.manual_seed(1)
    sup = supervise(detector, LABELED.weak)
    boxes = torch.tensor([[88.0, 10.0, 118.0, 50.0], [68.0, 10.0, 98.0, 50.0]])
    unsup = supervise(detector, UNLABELED.strong.with_instances([Instances(boxes, torch.tensor([0, 1]))] * 4))
    close(found, sup.prefixed("sup") + (3 * unsup).prefixed("unsup"))
    assert all(found.terms[f"unsup/{term}"] > 0 for term in TERMS)
    assert float(found.notes["pseudo_boxes"]) == 2


def test_images_without_labels_are_background_or_left_out(
    detector: FasterRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, detector, [0.2])
    assert losses_of(InstantTeaching(detector, mix_p=0.0)).terms["unsup/roi_cls"] > 0
    skipped = losses_of(InstantTeaching(detector, mix_p=0.0, skip_empty=True))
    assert all(skipped.terms[f"unsup/{term}"] == 0 for term in TERMS)


def test_skipped_images_are_not_mixed() -> None:
    taught = UNLABELED.strong.with_instances([Instances.unknown()] * 4)
    some = [True, False, True, False]
    for seed in range(5):
        mixed = mixed_with_labeled(taught, LABELED.weak, keyed_generator(seed), 1.0, some)
        assert [len(ids) for ids in mixed.ids] == [2, 1, 2, 1]
        assert all(torch.equal(mixed.images[i], taught.images[i]) for i in (1, 3))


def test_half_of_the_images_are_mixed_half_of_them_blended_and_half_split() -> None:
    """With labelled images, pixel by pixel as the equations say; the rest stay as they are."""
    taught = UNLABELED.strong.with_instances([Instances(torch.tensor([[1.0, 2, 9, 9]]), torch.tensor([1]))] * 4)
    counts = {"alone": 0, "blended": 0, "split": 0}
    for seed in range(40):
        mixed = mixed_with_labeled(taught, LABELED.weak, keyed_generator(seed), 0.5)
        for i, ids in enumerate(mixed.ids):
            if ids == taught.ids[i]:
                counts["alone"] += 1
                assert torch.equal(mixed.images[i], taught.images[i])
                continue
            (partner,) = (j for j in range(3) if ids == taught.ids[i] | LABELED.weak.ids[j])
            own, other = taught.images[i], LABELED.weak.images[partner]
            share = float(mixed.labels[i].shares[0])
            if share < 1:
                counts["blended"] += 1
                torch.testing.assert_close(mixed.images[i], share * own + (1 - share) * other)
                rest = torch.full((2,), 1 - share)
                torch.testing.assert_close(mixed.labels[i].shares, torch.cat([torch.tensor([share]), rest]))
            else:
                counts["split"] += 1
                ours = (mixed.images[i] == own).all(0)
                assert torch.equal(mixed.images[i], torch.where(ours, own, other))
                height, width = ours.sum(0).amax(), ours.sum(1).amax()
                assert ours[:height, :width].all()
                assert int(ours.sum()) == height * width
                assert (height == 96) != (width == 128)
                assert 0.25 <= float(ours.float().mean()) <= 0.75
                assert (mixed.labels[i].shares == 1).all()
    assert 60 < counts["alone"] < 100
    assert 25 < counts["blended"] < 55
    assert 25 < counts["split"] < 55
    assert mixed_with_labeled(taught, LABELED.weak, keyed_generator(0), 0.5).affines is None


def test_the_boxes_of_a_split_are_cut_to_what_is_seen() -> None:
    """Against every pixel of two small images."""
    generator = torch.Generator().manual_seed(0)
    cuts = halves(30, generator)
    assert (cuts[:, 2:] == 1).all()
    assert ((cuts[:, :2] == 0) != ((cuts[:, :2] >= 0.25) & (cuts[:, :2] <= 0.75))).all()
    assert 5 < int((cuts[:, 0] > 0).sum()) < 25
    corners = (torch.rand(30, 4, 2, 2, generator=generator) * torch.tensor([24.0, 16.0])).sort(dim=2).values
    boxes = torch.stack([corners[:, :, 0].floor(), corners[:, :, 1].floor() + 1], 2).flatten(2)  # (30, 4, 4)
    sides = [
        Batch(
            torch.rand(30, 3, 16, 24, generator=generator),
            torch.tensor([[16, 24]] * 30),
            [Instances(b, torch.tensor([0, 1])) for b in part.unbind()],
        )
        for part in boxes.split(2, 1)
    ]
    mixture = replace(MIXUP.draw(*sides, generator), cuts=cuts)
    mixed = SPLIT.apply(*sides, mixture)
    for i in range(30):
        rectangle = tuple(round(v * s) for v, s in zip(cuts[i].tolist(), (24, 16, 24, 16), strict=True))
        pixels, owner = mixing_oracle.paste(*(side.images[i].numpy() for side in sides), rectangle)
        np.testing.assert_array_equal(mixed.images[i].numpy(), pixels.astype(np.float32))
        expected = []
        for k, box in enumerate(boxes[i].int().tolist()):
            whole = (box[2] - box[0]) * (box[3] - box[1])
            count, seen = mixing_oracle.seen_box(tuple(box), owner == k // 2)
            if count >= whole / 4 and seen is not None:
                expected.append(list(seen))
        assert mixed.labels[i].boxes.tolist() == expected


def test_a_blended_object_is_a_soft_label_of_its_share_and_nothing_else_is_weighed(detector: FasterRCNN) -> None:
    """Mixup as it is published: class targets one-hot times lam, boxes and RPN as if nothing were mixed."""
    partners = LABELED.weak.select([0, 1, 2, 0])
    own = UNLABELED.weak.with_instances([Instances(torch.tensor([[70.0, 40, 120, 90]]), torch.tensor([1]))] * 4)
    mixed = MIXUP.apply(own, partners, MIXUP.draw(own, partners, keyed_generator(3)))
    unweighted = mixed.with_instances([replace(i, shares=torch.ones_like(i.shares)) for i in mixed.labels])
    features = detector.features(mixed.images)
    results = []
    for some in (mixed, unweighted):
        torch.manual_seed(2)
        results.append(detector.losses(features, some))
    for term in ("rpn_cls", "rpn_box", "roi_box"):
        torch.testing.assert_close(results[0].terms[term], results[1].terms[term])
    torch.manual_seed(2)
    outputs = detector.rpn_outputs(features)
    detector.rpn_losses(outputs, mixed)  # draws before the head's sampler does
    regions = detector.sample(detector.propose(outputs, mixed), mixed)
    logits, _ = detector.region_outputs(detector.region_features(features, regions))
    loss, positives = 0.0, 0
    assert regions.matched_index is not None
    for image, matched, scores in zip(
        regions.image_index.tolist(), regions.matched_index.tolist(), logits, strict=True
    ):
        target = torch.zeros(4)
        if matched < 0:
            target[0] = 1
        else:
            positives += 1
            instances = mixed.labels[image]
            target[int(instances.labels[matched]) + 1] = instances.shares[matched]
        loss = loss - (target * scores.log_softmax(0)).sum()
    assert positives > 4
    torch.testing.assert_close(results[0].terms["roi_cls"], loss / len(logits))


def test_labels_of_unlabelled_images_are_never_read(detector: FasterRCNN) -> None:
    secret = [Instances(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([1]))] * 4
    known = Views(**{name: view.with_instances(secret) for name, view in UNLABELED.items()})
    method = InstantTeaching(detector, score_threshold=0.2, co_rectify=True)
    close(losses_of(method), losses_of(method, unlabeled=known))


@pytest.mark.parametrize("co_rectify", [False, True])
def test_every_parameter_learns_also_under_autocast(co_rectify: bool, detector: FasterRCNN) -> None:
    method = InstantTeaching(detector, score_threshold=0.2, co_rectify=co_rectify)
    with torch.autocast("cpu", torch.bfloat16):
        losses = losses_of(method)
    losses.total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters() if p.requires_grad)
    assert method.training
    assert all(m.training for m in method.student.modules())  # type: ignore[attr-defined]


def test_the_student_is_asked_in_eval_mode_and_what_it_says_has_no_gradient(
    detector: FasterRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = InstantTeaching(detector).train()
    modes: list[tuple[bool, bool]] = []
    own = detector.features
    monkeypatch.setattr(
        detector,
        "features",
        lambda images: modes.append((detector.training, torch.is_grad_enabled())) or own(images),
    )
    losses_of(method)
    assert sorted(modes) == [(False, False), (True, True), (True, True)]


def test_state_round_trip(detector: FasterRCNN) -> None:
    method = InstantTeaching(detector, score_threshold=0.2, co_rectify=True)
    torch.manual_seed(9)
    fresh = FasterRCNN(3, build_backbone("tiny", 64), PRESETS["tiny"], mixed_terms=["roi_cls"])
    other = InstantTeaching(fresh, score_threshold=0.2, co_rectify=True)
    other.load_state_dict(method.state_dict())
    close(losses_of(method), losses_of(other))
    assert list(method.detectors()) == ["student", "student2"]
    assert list(InstantTeaching(detector).detectors()) == ["student"]
    pointers = [value.data_ptr() for value in method.state_dict().values() if value.numel()]
    assert len(set(pointers)) == len(pointers)  # nothing is registered, and saved, twice


# Instant Teaching*


def test_two_students_of_one_body_and_different_heads(detector: FasterRCNN) -> None:
    method = InstantTeaching(detector, co_rectify=True)
    other = method.student2
    assert isinstance(other, FasterRCNN)
    assert method.streams[1].views == ("strong", "strong2")
    mine, theirs = dict(detector.named_parameters()), dict(other.named_parameters())
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert theirs[name] is not value
        assert torch.equal(theirs[name], value) == (name.startswith("backbone.") or not value.any()), name
    assert other.preset is detector.preset
    assert other.roi_heads.mixed_terms == {"roi_cls"}
    with pytest.raises(TypeError, match="co_rectify draws new heads: it needs a FasterRCNN, not Identity"):
        InstantTeaching(nn.Identity(), co_rectify=True)  # type: ignore[arg-type]


def fake_head(kind: int) -> Any:
    """A region head that knows a box by its corners: logits and deltas that two kinds see differently."""

    def head(box: Any) -> tuple[list[float], list[list[float]]]:
        x1, y1, x2, y2 = box
        logits = [0.0, 4 + kind + math.sin(x1 + kind), 1 + 5 * math.cos(y1 / 30) - kind, 3 * math.sin(x2 / 40)]
        deltas = [
            [math.sin(x1 + c + kind), math.cos(y2 + c), 0.3 * math.sin(x2 * c), 0.2 * kind - 0.1] for c in range(4)
        ]
        return logits, deltas

    return head


def pretend(monkeypatch: pytest.MonkeyPatch, network: FasterRCNN, head: Any, found: list[Detections]) -> None:
    monkeypatch.setattr(network, "predict", lambda features, batch: found)
    monkeypatch.setattr(network, "region_features", lambda features, regions: regions.boxes)

    def outputs(x: Tensor) -> tuple[Tensor, Tensor]:
        rows = [head(box) for box in x.double().tolist()]
        return (
            torch.tensor([logits for logits, _ in rows]).reshape(-1, 4),
            torch.tensor([deltas for _, deltas in rows]).reshape(-1, 16),
        )

    monkeypatch.setattr(network, "region_outputs", outputs)


@pytest.mark.parametrize("tau", [0.7, 0.9])
def test_co_rectify_is_what_the_four_steps_say(
    tau: float, detector: FasterRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = InstantTeaching(detector, score_threshold=tau, co_rectify=True)
    generator = torch.Generator().manual_seed(5)
    heads = fake_head(0), fake_head(1)
    sides: list[list[Detections]] = []
    for network, head in zip((method.student, method.student2), heads, strict=True):
        found = []
        for count in (0, 3, 6, 1):
            corners = (torch.rand(count, 2, 2, generator=generator) * torch.tensor([128, 96])).sort(dim=1).values
            corners[:, 1] += 12
            scores = 0.6 + 0.4 * torch.rand(count, generator=generator)
            found.append(Detections(corners.flatten(1), torch.randint(2, (count,), generator=generator), scores))
        sides.append(found)
        pretend(monkeypatch, network, head, found)  # type: ignore[arg-type]
    labels = method._labels(UNLABELED.weak)
    some = 0
    for i in range(4):
        rows: Any = tuple(
            list(zip(*(column.double().tolist() for column in vars(side[i]).values()), strict=True)) for side in sides
        )
        rows = tuple([(tuple(box), int(label), score) for box, label, score in side] for side in rows)
        expected: tuple[list[Found], list[Found]] = co_rectified(rows, heads, (96, 128), tau)
        for pseudo, kept in zip(labels, expected, strict=True):
            assert pseudo.instances[i].labels.tolist() == [label for _, label, _ in kept]
            boxes = torch.tensor([box for box, _, _ in kept]).reshape(-1, 4)
            torch.testing.assert_close(pseudo.instances[i].boxes, boxes, atol=1e-3, rtol=0)
            some += len(kept)
    assert some > 4
    assert [len(i) for i in labels[0].instances] != [0, 3, 6, 1]


def test_each_learns_from_its_own_view_what_the_other_says(
    detector: FasterRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one confirms and the other denies, the first is the one who learns nothing."""
    method = InstantTeaching(detector, co_rectify=True, mix_p=0.0)
    assert isinstance(method.student2, FasterRCNN)
    answer(monkeypatch, method.student2, [0.95])
    answer(monkeypatch, detector, [])
    for network, logits in ((detector, [0.0, 9.0, 0, 0]), (method.student2, [0.0, 0, 0, 0])):
        own = network.region_outputs
        monkeypatch.setattr(
            network,
            "region_outputs",
            lambda x, own=own, logits=logits: (
                own(x)
                if torch.is_grad_enabled()
                else (torch.tensor([logits]).repeat(len(x), 1), torch.zeros(len(x), 16))
            ),
        )
    seen, seen2 = seen_by(monkeypatch, detector), seen_by(monkeypatch, method.student2)
    losses = losses_of(method)
    assert [len(i) for i in seen[1].labels] == [0] * 4  # the second student, of whom it learns, is not sure any more
    assert torch.equal(seen[1].images, UNLABELED.strong.images)
    assert torch.equal(seen2[1].images, UNLABELED.strong2.images)
    for found in seen2[1].labels:
        torch.testing.assert_close(found.boxes, torch.tensor([[5.0, 5.0, 20.0, 25.0]]))  # of half the size
    assert torch.equal(seen[0].images, LABELED.weak.images)
    assert torch.equal(seen2[0].images, LABELED.weak.images)
    assert list(losses.terms) == [f"{part}/{term}" for part in ("sup", "unsup", "sup2", "unsup2") for term in TERMS]
    assert (float(losses.notes["pseudo_boxes"]), float(losses.notes["pseudo_boxes2"])) == (0, 1)


def test_labels_of_both_are_made_in_eval_mode_without_gradient(
    detector: FasterRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = InstantTeaching(detector, co_rectify=True).train()
    assert isinstance(method.student2, FasterRCNN)
    modes: list[tuple[bool, bool]] = []
    for network in (detector, method.student2):

        def outputs(x: Tensor, network: FasterRCNN = network, own: Any = network.region_outputs) -> Any:
            modes.append((network.training, torch.is_grad_enabled()))
            return own(x)

        monkeypatch.setattr(network, "region_outputs", outputs)
    method._labels(UNLABELED.weak)
    assert modes == [(False, False)] * 6
    assert detector.training
    assert method.student2.training
