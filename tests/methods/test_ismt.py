"""ISMT: what each line of its algorithm does."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mixdet.detectors import PRESETS, FasterRCNN, TwoHeadRCNN, build_backbone
from mixdet.methods import ISMT, METHODS, Method, Supervised
from mixdet.mixing import PRESETS as MIXES
from mixdet.structures import Batch, Detections, Instances, Losses, Step, Views, keyed_generator, supervise
from mixdet.teaching import Decay

TERMS = ("rpn_cls", "rpn_box", "roi_cls", "roi_box")
NOW = Decay(0.9)
PLAIN = torch.diag(torch.tensor([0.5, 0.5, 1.0])).repeat(4, 1, 1)  # the originals are 192 x 256
FLIPPED = torch.tensor([[-0.5, 0.0, 128.0], [0.0, 0.5, 0.0], [0.0, 0.0, 1.0]]).repeat(4, 1, 1)
Boxes = Sequence[tuple[float, float, float]]  # left edge in a view, label, score; 40 x 40 pixels, top edge at 10


@pytest.fixture
def detector() -> TwoHeadRCNN:
    torch.manual_seed(0)
    return TwoHeadRCNN(3, build_backbone("tiny", 64), PRESETS["tiny"])


def views(seed: int, labeled: bool, affines: Tensor = PLAIN) -> Views:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.tensor([[5.0, 6.0, 60.0, 70.0], [50.0, 20.0, 90.0, 60.0]])
    instances = [Instances(boxes + i, torch.tensor([0, 2])) for i in range(4)] if labeled else None
    ids = tuple(frozenset({f"{seed}-{i}"}) for i in range(4))
    weak, strong = (
        Batch(
            torch.rand(4, 3, 96, 128, generator=generator),
            torch.tensor([[96, 128]] * 4),
            instances,
            affines=affines,
            ids=ids,
        )
        for _ in range(2)
    )
    return Views(weak=weak, strong=strong)


LABELED, UNLABELED = views(1, labeled=True), views(2, labeled=False)


def at(index: int, seed: int = 0) -> Step:
    return Step(index, 100, keyed_generator(seed))


def losses_of(method: Method, step: Step, **streams: Views) -> Losses:
    torch.manual_seed(1)
    return method(step=step, **({"labeled": LABELED, "unlabeled": UNLABELED} | streams))


def close(a: Losses, b: Losses) -> None:
    assert a.terms.keys() == b.terms.keys()
    for name in a.terms:
        torch.testing.assert_close(a.terms[name], b.terms[name], rtol=1e-5, atol=1e-7, msg=name)


def found(boxes: Boxes) -> Detections:
    corners = torch.tensor([[x, 10.0, x + 40, 50.0] for x, _, _ in boxes]).reshape(-1, 4)
    labels = torch.tensor([label for _, label, _ in boxes], dtype=torch.int64)
    return Detections(corners, labels, torch.tensor([score for _, _, score in boxes]))


def answers(monkeypatch: pytest.MonkeyPatch, method: ISMT, first: Boxes, second: Boxes) -> None:
    """Let the teacher's heads find the same in every image."""
    network = method.teacher.network
    pair = [found(first), found(second)]
    monkeypatch.setattr(network, "head_detections", lambda features, batch: [[d] * len(batch) for d in pair])


def expected(method: ISMT, unlabeled: Views, rpn: Boxes, first: Boxes, second: Boxes) -> Losses:
    """The unlabelled loss with these labels for the RPN and for either head."""
    student = method.student
    torch.manual_seed(1)
    supervise(student, Batch.concat([LABELED.weak, LABELED.strong]))
    batches = [
        unlabeled.strong.with_instances([Instances(labels.boxes, labels.labels)] * 4)
        for labels in map(found, (rpn, first, second))
    ]
    return student.head_losses(student.features(unlabeled.strong.images), batches[0], batches[1:])


def compare(losses: Losses, unsup: Losses, weight: float = 1.0) -> None:
    for term in TERMS:
        assert unsup.terms[term] > 0
        torch.testing.assert_close(losses.terms[f"unsup/{term}"], weight * unsup.terms[term], rtol=1e-5, atol=1e-7)


def test_the_burn_in_is_the_labelled_loss_of_both_heads(detector: TwoHeadRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    method = ISMT(detector, decay=Decay(0.9, burn_in_steps=3))
    answers(monkeypatch, method, [(10, 0, 0.9)], [(10, 0, 0.9)])
    losses = losses_of(method, at(2))
    torch.manual_seed(1)
    close(losses, supervise(detector, Batch.concat([LABELED.weak, LABELED.strong])).prefixed("sup"))
    with torch.no_grad():
        for p in detector.parameters():
            p.add_(0.01)
    method.after_step(at(2))
    assert len(method.store) == 0
    baseline = Supervised(copy.deepcopy(detector), ema_decay=0.9)  # begins from this state
    baseline.load_state_dict(method.state_dict())
    trained = [[name for name, p in m.named_parameters() if p.requires_grad] for m in (method, baseline)]
    assert trained[0] == trained[1]
    for mine, theirs in zip(method.teacher.network.parameters(), detector.parameters(), strict=True):  # type: ignore[attr-defined]
        assert torch.equal(mine, theirs)
    losses_of(method, at(3))
    method.after_step(at(3))
    assert len(method.store) == 4


def test_each_head_learns_what_the_other_heads_teacher_has_found(
    detector: TwoHeadRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = ISMT(detector, unsup_weight=3.0, decay=NOW)
    first = [(10, 0, 0.95), (60, 1, 0.7), (60, 2, 0.1)]  # the second box is not above the threshold
    second = [(12, 0, 0.9), (80, 1, 0.8)]
    answers(monkeypatch, method, first, second)
    losses = losses_of(method, at(0))
    either = [(10, 0, 0.95), (80, 1, 0.8)]  # the first boxes are one
    compare(losses, expected(method, UNLABELED, either, second, first[:1]), 3.0)
    assert float(losses.notes["pseudo_boxes"]) == 1.5  # an image and head
    assert float(losses.notes["pseudo_passed"]) == 1.5
    assert losses.notes["pseudo_boxes_of_class"].tolist() == [1, 0.5, 0]
    assert losses.notes["pseudo_scores"].tolist() == [0, 0.5, 0, 0, 0, 0, 0, 0.5, 0.5, 1]


def test_labels_are_those_of_all_visits_in_the_pixels_of_the_view(
    detector: TwoHeadRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second visit sees the image from the other side, and one head finds only a new box."""
    method = ISMT(detector, decay=NOW)
    answers(monkeypatch, method, [(10, 0, 0.9)], [(70, 1, 0.705)])
    losses_of(method, at(0))
    method.after_step(at(0))
    torch.testing.assert_close(method.store.of("2-0")[0].boxes, torch.tensor([[20.0, 20.0, 100.0, 100.0]]))
    other = views(2, labeled=False, affines=FLIPPED)
    answers(monkeypatch, method, [(5, 2, 0.8)], [])
    mirrored = (78, 0, 0.891)  # 128 - 10 - 40; the box of the second head has faded to 0.69795
    losses = losses_of(method, at(1), unlabeled=other)
    known = [mirrored, (5, 2, 0.8)]
    compare(losses, expected(method, other, known, [], known))
    method.after_step(at(1))
    torch.testing.assert_close(method.store.of("2-3")[0].scores, torch.tensor([0.891, 0.8]))
    assert len(method.store.of("2-3")[1]) == 0


def test_classes_only_and_images_without_a_label(detector: TwoHeadRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    method = ISMT(detector, decay=NOW, unsup_box_loss=False)
    answers(monkeypatch, method, [(10, 0, 0.9)], [(10, 0, 0.9)])
    losses = losses_of(method, at(0))
    assert losses.terms["unsup/rpn_box"] == losses.terms["unsup/roi_box"] == 0
    method.skip_empty = True
    answers(monkeypatch, method, [], [])
    skipped = losses_of(method, at(0))
    assert all(skipped.terms[f"unsup/{term}"] == 0 for term in TERMS)


def test_lossmix_on_labelled_and_on_pseudo_labelled_images(
    detector: TwoHeadRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three label sets of the unlabelled batch are mixed by one draw."""
    method = ISMT(detector, decay=NOW, mix_labeled=MIXES["lossmix"], mix_unlabeled=MIXES["lossmix"])
    answers(monkeypatch, method, [(10, 0, 0.9)], [(70, 1, 0.8)])
    seen: list[tuple[Batch, ...]] = []
    own = detector.head_losses

    def seeing(features: dict[str, Tensor], batch: Batch, batches: Sequence[Batch]) -> Losses:
        seen.append((batch, *batches))
        return own(features, batch, batches)

    monkeypatch.setattr(detector, "head_losses", seeing)
    assert losses_of(method, at(0)).total.isfinite()
    labelled, taught = seen
    assert any(len(ids) > 1 for ids in labelled[0].ids)
    assert all(torch.equal(batch.images, taught[0].images) for batch in taught)
    assert not torch.equal(taught[0].images, UNLABELED.strong.images)
    assert any((i.shares < 1).any() for i in taught[0].labels)
    assert {int(label) for i in taught[1].labels for label in i.labels} == {1}
    assert {int(label) for i in taught[2].labels for label in i.labels} == {0}


def test_labels_of_unlabelled_images_are_never_read(detector: TwoHeadRCNN) -> None:
    method = ISMT(detector, score_threshold=0.2, decay=NOW)
    secret = [Instances(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([1]))] * 4
    told = Views(**{name: batch.with_instances(secret) for name, batch in UNLABELED.items()})
    close(losses_of(method, at(0)), losses_of(method, at(0), unlabeled=told))


def test_no_gradient_reaches_the_teacher_and_all_of_the_student_learns(detector: TwoHeadRCNN) -> None:
    method = ISMT(detector, score_threshold=0.2, decay=NOW)
    losses_of(method, at(0)).total.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in detector.parameters() if p.requires_grad)
    assert list(method.detectors()) == ["teacher", "student"]
    assert METHODS["ismt"] is ISMT


def test_state_round_trip(detector: TwoHeadRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    method = ISMT(detector, score_threshold=0.2, decay=NOW)
    answers(monkeypatch, method, [(10, 0, 0.9)], [(70, 1, 0.8)])
    losses_of(method, at(0))
    method.after_step(at(0))
    torch.manual_seed(9)
    other = ISMT(TwoHeadRCNN(3, build_backbone("tiny", 64), PRESETS["tiny"]), score_threshold=0.2, decay=NOW)
    other.load_state_dict(method.state_dict())
    for each in (method, other):
        answers(monkeypatch, each, [], [])
    losses = [losses_of(each, at(1)) for each in (method, other)]
    assert float(losses[1].notes["pseudo_boxes"]) == 1  # out of the store
    close(*losses)


def test_what_it_needs(detector: TwoHeadRCNN) -> None:
    with pytest.raises(TypeError, match="needs a TwoHeadRCNN, not FasterRCNN"):
        ISMT(FasterRCNN(3, build_backbone("tiny", 64), PRESETS["tiny"]))
    nowhere = Views(**{name: replace(batch, affines=None) for name, batch in UNLABELED.items()})
    with pytest.raises(ValueError, match="this batch has no affines"):
        losses_of(ISMT(detector, decay=NOW), at(0), unlabeled=nowhere)
