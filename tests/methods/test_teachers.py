"""Methods of a student and its moving average: what each line of their algorithms does."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mixdet.detectors import PRESETS, FasterRCNN, build_backbone
from mixdet.detectors.weighting import focal_loss
from mixdet.methods import METHODS, MUM, Method, UnbiasedTeacher
from mixdet.mixing import PRESETS as MIXES
from mixdet.mixing import TileMix, draw_tiles, mix_tiles, unmix_tiles
from mixdet.structures import Batch, Detections, Instances, Losses, Step, Views, keyed_generator, supervise
from mixdet.teaching import Decay

TEACHERS = {"unbiased_teacher": UnbiasedTeacher, "mum": MUM}
TERMS = {"rpn_cls", "rpn_box", "roi_cls", "roi_box"}
NOW = Decay(0.9)


@pytest.fixture
def detector() -> FasterRCNN:
    torch.manual_seed(0)
    return FasterRCNN(3, build_backbone("tiny", 64), PRESETS["tiny"], roi_cls_loss=focal_loss)


def views(seed: int, labeled: bool, count: int = 4, canvas: tuple[int, int] = (96, 128)) -> Views:
    """Random weak and strong images of one geometry, two objects each."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.tensor([[5.0, 6.0, 60.0, 70.0], [50.0, 20.0, 90.0, 60.0]])
    instances = [Instances(boxes + i, torch.tensor([0, 2])) for i in range(count)]
    ids = tuple(frozenset({f"{seed}-{i}"}) for i in range(count))
    affines = torch.eye(3).repeat(count, 1, 1)
    weak, strong = (
        Batch(
            torch.rand(count, 3, *canvas, generator=generator),
            torch.tensor([canvas] * count),
            instances if labeled else None,
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


def answers(monkeypatch: pytest.MonkeyPatch, method: Method, scores: list[float]) -> list[Detections]:
    """Let the teacher answer with one box a score in every image."""
    boxes = torch.tensor([[10.0 + 20 * i, 10.0, 40.0 + 20 * i, 50.0] for i in range(len(scores))])
    found = Detections(boxes, torch.arange(len(scores)) % 3, torch.tensor(scores))
    network = method.detectors()["teacher"]
    monkeypatch.setattr(network, "predict", lambda features, batch: [found] * len(batch))
    return [found] * 4


def close(a: Losses, b: Losses) -> None:
    assert a.terms.keys() == b.terms.keys()
    for name in a.terms:
        torch.testing.assert_close(a.terms[name], b.terms[name], rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("name", TEACHERS)
def test_the_burn_in_is_the_labelled_loss_and_the_teacher_the_students_copy(name: str, detector: FasterRCNN) -> None:
    method = TEACHERS[name](detector, decay=Decay(0.9, burn_in_steps=3))
    found = losses_of(method, at(2))
    torch.manual_seed(1)
    expected = supervise(detector, Batch.concat([LABELED.weak, LABELED.strong])).prefixed("sup")
    close(found, expected)
    with torch.no_grad():
        for p in method.student.parameters():  # type: ignore[attr-defined]
            p.add_(0.01)
    method.after_step(at(2))
    for mine, theirs in zip(method.teacher.network.parameters(), method.student.parameters(), strict=True):  # type: ignore[attr-defined]
        assert torch.equal(mine, theirs)
    assert {f"unsup/{term}" for term in TERMS} <= losses_of(method, at(3)).terms.keys()


@pytest.mark.parametrize("name", TEACHERS)
def test_the_teacher_follows_in_closed_form(name: str, detector: FasterRCNN) -> None:
    method = TEACHERS[name](detector, decay=Decay(0.9))
    before = [p.clone() for p in method.teacher.network.parameters()]  # type: ignore[attr-defined]
    with torch.no_grad():
        for p in method.student.parameters():  # type: ignore[attr-defined]
            p.add_(0.1)
    method.after_step(at(0))
    for mine, old in zip(method.teacher.network.parameters(), before, strict=True):  # type: ignore[attr-defined]
        torch.testing.assert_close(mine, old + 0.01, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("views_seen", "count"), [("weak", 4), ("strong", 4), ("both", 8)])
def test_labeled_views(views_seen: Any, count: int, detector: FasterRCNN) -> None:
    method = UnbiasedTeacher(detector, labeled_views=views_seen, decay=Decay(0.9, burn_in_steps=1))
    parts = [LABELED.weak, LABELED.strong] if views_seen == "both" else [LABELED[views_seen]]
    assert sum(len(p) for p in parts) == count
    found = losses_of(method, at(0))
    torch.manual_seed(1)
    close(found, supervise(detector, Batch.concat(parts)).prefixed("sup"))


def test_unbiased_teachers_losses_line_by_line(detector: FasterRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    method = UnbiasedTeacher(detector, unsup_weight=3.0, decay=NOW)
    answers(monkeypatch, method, [0.95, 0.75, 0.7, 0.35])
    found = losses_of(method, at(0))
    torch.manual_seed(1)
    sup = supervise(detector, Batch.concat([LABELED.weak, LABELED.strong]))
    boxes = torch.tensor([[10.0, 10.0, 40.0, 50.0], [30.0, 10.0, 60.0, 50.0]])
    taught = UNLABELED.strong.with_instances([Instances(boxes, torch.tensor([0, 1]))] * 4)
    unsup = supervise(detector, taught)
    for term in TERMS:
        torch.testing.assert_close(found.terms[f"sup/{term}"], sup.terms[term])
    for term in ("rpn_cls", "roi_cls"):
        torch.testing.assert_close(found.terms[f"unsup/{term}"], 3 * unsup.terms[term])
        assert found.terms[f"unsup/{term}"] > 0
    for term in ("rpn_box", "roi_box"):
        assert found.terms[f"unsup/{term}"] == 0
    assert float(found.notes["pseudo_boxes"]) == 2
    assert float(found.notes["pseudo_passed"]) == 2
    assert found.notes["pseudo_boxes_of_class"].tolist() == [1, 1, 0]
    assert found.notes["pseudo_scores"].tolist() == [0, 0, 0, 1, 0, 0, 0, 2, 0, 1]
    with_boxes = losses_of(UnbiasedTeacherWith(method, unsup_box_loss=True), at(0))
    for term in ("rpn_box", "roi_box"):
        torch.testing.assert_close(with_boxes.terms[f"unsup/{term}"], 3 * unsup.terms[term])
        assert with_boxes.terms[f"unsup/{term}"] > 0


def UnbiasedTeacherWith(method: UnbiasedTeacher, **settings: Any) -> UnbiasedTeacher:
    """The same networks under other settings."""
    other = copy.copy(method)
    for key, value in settings.items():
        setattr(other, key, value)
    return other


def test_images_without_labels_are_background_or_left_out(
    detector: FasterRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = UnbiasedTeacher(detector, decay=NOW, unsup_weight=1.0)
    answers(monkeypatch, method, [0.2])
    assert losses_of(method, at(0)).terms["unsup/roi_cls"] > 0
    skipped = losses_of(UnbiasedTeacherWith(method, skip_empty=True), at(0))
    assert all(skipped.terms[f"unsup/{term}"] == 0 for term in TERMS)
    skipped.total.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in method.parameters())


@pytest.mark.parametrize("tiles", [TileMix(num_tiles=1), TileMix(group_size=1), TileMix(p=0.0)])
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])  # only copied
@given(
    count=st.integers(1, 5),
    canvas=st.sampled_from([(96, 96), (96, 128), (128, 224), (160, 96)]),
    seed=st.integers(0, 2**31),
)
def test_mum_with_one_tile_or_one_image_is_unbiased_teacher(
    tiles: TileMix, detector: FasterRCNN, count: int, canvas: tuple[int, int], seed: int
) -> None:
    """Same teacher, batch and sampler: losses and gradients to 1e-6."""
    plain = UnbiasedTeacher(copy.deepcopy(detector), score_threshold=0.2, decay=NOW)
    mixed = MUM(copy.deepcopy(detector), tiles, score_threshold=0.2, decay=NOW)
    pool = views(seed, labeled=False, count=count, canvas=canvas)
    results = [losses_of(method, at(0, seed), unlabeled=pool) for method in (plain, mixed)]
    assert float(results[0].notes["pseudo_boxes"]) > 0
    close(*results)
    for result in results:
        result.total.backward()
    for (name, a), b in zip(plain.student.named_parameters(), mixed.student.parameters(), strict=True):  # type: ignore[attr-defined]
        if a.requires_grad:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-6, msg=name)


def test_mums_unlabelled_loss_line_by_line(detector: FasterRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    """Algorithm 1, lines 10 to 13, with the draws of the step's generator."""
    method = MUM(detector, unsup_weight=2.0, decay=NOW)
    answers(monkeypatch, method, [0.9])
    found = losses_of(method, at(0, seed=5))
    torch.manual_seed(1)
    supervise(detector, Batch.concat([LABELED.weak, LABELED.strong]))
    generator = keyed_generator(5)
    torch.rand((), generator=generator)  # whether to mix
    tiles = draw_tiles((4, 3, 96, 128), 4, 4, generator)
    mixed = mix_tiles(UNLABELED.strong.images, tiles)
    features = {name: unmix_tiles(level, tiles) for name, level in detector.features(mixed).items()}
    instances = [Instances(torch.tensor([[10.0, 10.0, 40.0, 50.0]]), torch.tensor([0])).without_box_loss()] * 4
    unsup = detector.losses(features, UNLABELED.strong.with_instances(instances))
    for term in TERMS:
        torch.testing.assert_close(found.terms[f"unsup/{term}"], 2 * unsup.terms[term])


@pytest.mark.parametrize("name", TEACHERS)
def test_lossmix_on_labelled_and_on_pseudo_labelled_images(
    name: str, detector: FasterRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = TEACHERS[name](detector, decay=NOW, mix_labeled=MIXES["lossmix"], mix_unlabeled=MIXES["lossmix"])
    answers(monkeypatch, method, [0.9, 0.8])
    seen: list[Batch] = []
    own = detector.losses
    monkeypatch.setattr(detector, "losses", lambda features, batch: seen.append(batch) or own(features, batch))
    found = losses_of(method, at(0))
    assert torch.isfinite(found.total)
    labelled, taught = seen
    assert (len(labelled), len(taught)) == (8, 4)
    assert any(len(ids) > 1 for ids in labelled.ids)
    assert any(len(ids) > 1 for ids in taught.ids)
    assert any((i.shares < 1).any() for i in taught.labels)
    assert all((i.box_weights == 0).all() for i in taught.labels)


@pytest.mark.parametrize("name", TEACHERS)
def test_labels_of_unlabelled_images_are_never_read(name: str, detector: FasterRCNN) -> None:
    """Even if a batch has labels, they change nothing."""
    method = TEACHERS[name](detector, score_threshold=0.2, decay=NOW)
    secret = Views(
        **{
            n: b.with_instances([Instances(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([1]))] * 4)
            for n, b in UNLABELED.items()
        }
    )
    close(losses_of(method, at(0)), losses_of(method, at(0), unlabeled=secret))


@pytest.mark.parametrize("name", TEACHERS)
def test_no_gradient_reaches_the_teacher(name: str, detector: FasterRCNN) -> None:
    method = TEACHERS[name](detector, score_threshold=0.2, decay=NOW)
    losses_of(method, at(0)).total.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.student.parameters() if p.requires_grad)  # type: ignore[attr-defined]
    assert list(method.detectors()) == ["teacher", "student"]
    assert METHODS[name] is TEACHERS[name]


@pytest.mark.parametrize("name", TEACHERS)
def test_state_round_trip(name: str, detector: FasterRCNN) -> None:
    method = TEACHERS[name](detector, score_threshold=0.2, decay=NOW)
    with torch.no_grad():
        next(iter(method.teacher.network.parameters())).add_(0.5)  # type: ignore[attr-defined]
    torch.manual_seed(9)
    other = TEACHERS[name](
        FasterRCNN(3, build_backbone("tiny", 64), PRESETS["tiny"], roi_cls_loss=focal_loss),
        score_threshold=0.2,
        decay=NOW,
    )
    other.load_state_dict(method.state_dict())
    close(losses_of(method, at(0)), losses_of(other, at(0)))


def test_the_teacher_is_asked_about_the_weak_view_in_eval_mode(
    detector: FasterRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = UnbiasedTeacher(detector, decay=NOW).train()
    network = method.teacher.network
    asked: list[Tensor] = []
    own = network.features
    monkeypatch.setattr(network, "features", lambda images: asked.append(images) or own(images))
    losses_of(method, at(0))
    assert torch.equal(asked[0], UNLABELED.weak.images)
    assert isinstance(network, nn.Module)
    assert not network.training


@pytest.mark.parametrize("name", TEACHERS)
def test_a_strong_view_of_its_own_geometry_gets_the_labels_where_the_objects_are(
    name: str, detector: FasterRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice as large and mirrored, one image of it cropped so that the second box is gone."""
    method = TEACHERS[name](detector, decay=NOW)
    answers(monkeypatch, method, [0.9, 0.8])
    mirrored = torch.tensor([[-2.0, 0, 256], [0, 2, 0], [0, 0, 1]]).repeat(4, 1, 1)
    mirrored[3, 0, 2] = 70
    strong = Batch(
        torch.rand(4, 3, 192, 256, generator=torch.Generator().manual_seed(0)),
        torch.tensor([[192, 256]] * 4),
        None,
        affines=mirrored,
        ids=UNLABELED.weak.ids,
    )
    seen: list[Batch] = []
    own = detector.losses
    monkeypatch.setattr(detector, "losses", lambda features, batch: seen.append(batch) or own(features, batch))
    losses = losses_of(method, at(0), unlabeled=Views(weak=UNLABELED.weak, strong=strong))
    assert torch.isfinite(losses.total)
    taught = seen[1]
    assert taught.canvas == (192, 256)
    assert [i.boxes.tolist() for i in taught.labels[:3]] == [[[176, 20, 236, 100], [136, 20, 196, 100]]] * 3
    assert taught.labels[3].boxes.tolist() == [[0, 20, 50, 100]]
    assert all((i.box_weights == 0).all() for i in taught.labels)
