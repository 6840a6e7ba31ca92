"""Multi Phase Learning: regions of unlabelled images, weighed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mixdet.detectors import PRESETS, FasterRCNN, build_backbone
from mixdet.methods import MultiPhase
from mixdet.methods.multi_phase import iof, overlap_weights, similarity
from mixdet.structures import Batch, Instances, Losses, Regions, Step, Views, keyed_generator, supervise
from oracles import labelling
from oracles import multi_phase as oracle

steady = settings(derandomize=True, deadline=None, max_examples=40)
places, sides = st.integers(0, 12), st.integers(1, 12)
boxes = st.builds(lambda x, y, w, h: (float(x), float(y), float(x + w), float(y + h)), *(places, places, sides, sides))
D = 3
vectors = st.lists(st.integers(-3, 3), min_size=D, max_size=D).filter(any)
regions_ = st.lists(st.tuples(boxes, vectors, st.booleans()), min_size=1, max_size=7)
Region = tuple[labelling.Box, list[int], bool]


@steady
@given(regions_, st.lists(boxes, min_size=1, max_size=3))
def test_weights_and_pairs_are_those_of_the_equations(regions: list[Region], labels: list[labelling.Box]) -> None:
    places_, z, positive = ([r[n] for r in regions] for n in range(3))
    z_ = [[float(x) for x in vector] for vector in z]
    both = torch.tensor(places_), torch.tensor(labels)
    weights, pairs = similarity(torch.tensor(z_), both[0], torch.tensor(positive), both[1])
    by_hand = [oracle.similarity_weight(z_, places_, positive, labels, i) for i in range(len(regions))]
    assert weights.tolist() == pytest.approx(by_hand, abs=1e-4)
    assert pairs.tolist() == pytest.approx(oracle.embedding_losses(z_, places_, positive), abs=1e-4)
    assert iof(*both).tolist() == [pytest.approx([oracle.iof(r, b) for b in labels]) for r in places_]
    m = torch.tensor([max(labelling.iou(r, b) for b in labels) for r in places_])
    assert overlap_weights(m).tolist() == pytest.approx([oracle.overlap_weight(r, labels) for r in places_], abs=1e-5)


@steady
@given(st.floats(0, 1), st.floats(0, 1))
def test_overlap_is_trust(a: float, b: float) -> None:
    low, high = overlap_weights(torch.tensor(sorted((a, b)), dtype=torch.float64)).tolist()
    assert 0.25 <= low <= high <= 1


def test_a_negative_like_a_positive_counts_little_unless_it_is_a_part_of_it() -> None:
    z = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])  # the second alike, the third but for its sign
    where = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 4, 4], [50, 50, 60, 60]])
    weights, pairs = similarity(z, where, torch.tensor([True, False, False, False]), where[:1])
    unlike = math.exp(-50 * math.exp(-10))
    assert weights.tolist() == pytest.approx([1, math.exp(-50), unlike, unlike])
    assert pairs.tolist() == [1, 0, 0]  # apart and alike; a part and alike; apart and unlike


@pytest.fixture
def detector() -> FasterRCNN:
    torch.manual_seed(0)
    return FasterRCNN(3, build_backbone("tiny", 64), PRESETS["tiny"])


def views(seed: int, count: int, boxes: list[list[float]]) -> Views:
    images = torch.rand(count, 3, 96, 128, generator=torch.Generator().manual_seed(seed))
    instances = [Instances(torch.tensor(boxes).view(-1, 4), torch.ones(len(boxes), dtype=torch.int64))] * count
    return Views(weak=Batch(images, torch.tensor([[96, 128]] * count), instances))


LABELED, TAUGHT = views(1, 1, [[5.0, 6, 60, 70]]), views(2, 2, [[20.0, 16, 80, 60], [10.0, 10, 40, 40]])
EMPTY = views(3, 2, [])


def losses_of(method: MultiPhase, taught: Views = TAUGHT) -> Losses:
    torch.manual_seed(1)
    return method(step=Step(0, 100, keyed_generator(0)), labeled=LABELED, unlabeled=taught)


def test_without_weights_it_is_supervised_training_on_both(detector: FasterRCNN) -> None:
    found = losses_of(MultiPhase(detector, by_overlap=False, by_similarity=False))
    torch.manual_seed(1)
    sup, unsup = (supervise(detector, v.weak) for v in (LABELED, TAUGHT))
    expected = (1 / 3) * sup.prefixed("sup") + (2 / 3) * unsup.prefixed("unsup")  # one image and two
    assert list(found.terms) == list(expected.terms)
    for name, value in expected.terms.items():
        torch.testing.assert_close(found.terms[name], value)
    assert float(found.notes["unsup/region_weight"]) == 1


def by_hand(method: MultiPhase, detector: FasterRCNN) -> tuple[Tensor, Tensor, Tensor]:
    """roi_cls, roi_box and L_z of the taught images: the detector's own losses with the oracle's weights."""
    torch.manual_seed(1)
    supervise(detector, LABELED.weak)  # draws what it draws
    batch = TAUGHT.weak
    features = detector.features(batch.images)
    outputs = detector.rpn_outputs(features)
    detector.rpn_losses(outputs, batch)
    regions = detector.sample(detector.propose(outputs, batch), batch)
    x = detector.region_features(features, regions)
    assert method.embedding is not None
    assert regions.labels is not None
    weights, pairs = [], []
    columns = (regions.per_image(v) for v in (method.embedding(x), regions.boxes, regions.labels > 0))
    for z, where, positive, truth in zip(*columns, [i.boxes for i in batch.labels], strict=True):
        image = z.tolist(), [tuple(b) for b in where.tolist()], positive.tolist()
        labels = [tuple(b) for b in truth.tolist()]
        for i, region in enumerate(image[1]):
            weights.append(oracle.overlap_weight(region, labels) * oracle.similarity_weight(*image, labels, i))  # type: ignore[arg-type]
        pairs += oracle.embedding_losses(*image)
    assert min(weights) < 0.1 < 0.9 < max(weights)
    assert regions.cls_weights is not None
    each = torch.tensor(weights)
    terms = detector.region_losses(
        detector.region_outputs(x), replace(regions, cls_weights=each, box_weights=each)
    ).terms
    return terms["roi_cls"], terms["roi_box"], torch.tensor(pairs).mean()


def test_regions_of_unlabelled_images_are_weighed(detector: FasterRCNN) -> None:
    torch.manual_seed(2)
    method = MultiPhase(detector)
    found, plain = losses_of(method), losses_of(MultiPhase(detector, False, False))
    cls, box, embedding = by_hand(method, detector)
    torch.testing.assert_close(found.terms["unsup/roi_cls"], 2 / 3 * cls, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.terms["unsup/roi_box"], 2 / 3 * box, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.terms["unsup/embedding"], 2 / 3 * embedding, rtol=1e-4, atol=1e-5)
    for name, value in plain.terms.items():
        if not name.startswith("unsup/roi"):
            assert torch.equal(found.terms[name], value), name  # labelled images and the RPN: as ever
    assert 0 < float(found.notes["unsup/region_weight"]) < 1
    overlap = losses_of(MultiPhase(detector, by_similarity=False))
    assert "unsup/embedding" not in overlap.terms
    assert 0.25 < float(overlap.notes["unsup/region_weight"]) < 1


def test_the_embedding_learns_from_its_own_loss_alone(detector: FasterRCNN) -> None:
    method = MultiPhase(detector)
    assert method.embedding is not None
    terms = losses_of(method).terms
    of_embedding = torch.autograd.grad(terms["unsup/embedding"], [*method.parameters()], allow_unused=True)
    named = {name for (name, _), g in zip(method.named_parameters(), of_embedding, strict=True) if g is not None}
    assert named == {"embedding.weight", "embedding.bias"}
    rest = sum(value for name, value in losses_of(method).terms.items() if name != "unsup/embedding")
    gradients = torch.autograd.grad(rest, [*method.embedding.parameters()], allow_unused=True)  # type: ignore[arg-type]
    assert gradients == (None, None)
    before = float(terms["unsup/embedding"].detach())
    optimizer = torch.optim.SGD(method.embedding.parameters(), lr=1.0)
    for _ in range(5):
        optimizer.zero_grad()
        losses_of(method).terms["unsup/embedding"].backward()
        optimizer.step()
    assert float(losses_of(method).terms["unsup/embedding"].detach()) < before


@pytest.mark.parametrize("ignored", [False, True])
def test_images_without_a_label_count_fully_as_background(detector: FasterRCNN, ignored: bool) -> None:
    nothing = EMPTY
    if ignored:
        instances = [replace(i, ignored=torch.ones(len(i), dtype=torch.bool)) for i in TAUGHT.weak.labels]
        nothing = Views(weak=TAUGHT.weak.with_instances(instances))
    found, plain = (losses_of(m, nothing) for m in (MultiPhase(detector), MultiPhase(detector, False, False)))
    for name, value in plain.terms.items():
        assert torch.equal(found.terms[name], value), name
    assert float(found.terms["unsup/embedding"].detach()) == 0
    found.total.backward()  # every parameter takes part, as DDP wants


def test_every_parameter_gets_a_gradient_and_is_saved_once(detector: FasterRCNN) -> None:
    method = MultiPhase(detector)
    losses_of(method, EMPTY).total.backward()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)
    other = MultiPhase(FasterRCNN(3, build_backbone("tiny", 64), PRESETS["tiny"]))
    other.load_state_dict(method.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(method.parameters(), other.parameters(), strict=True))
    assert list(method.detectors()) == ["student"]
    assert [(s.name, s.labeled, s.views) for s in method.streams] == [("labeled", True, ()), ("unlabeled", True, ())]


def test_scaled_regions_have_both_weights_scaled() -> None:
    plain = Regions(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), 1)
    with pytest.raises(ValueError, match="call sample first"):
        plain.scaled(torch.ones(2))
    scaled = replace(plain, cls_weights=torch.tensor([1.0, 2]), box_weights=torch.tensor([3.0, 4])).scaled(
        torch.tensor([0.5, 1])
    )
    assert scaled.cls_weights is not None
    assert scaled.box_weights is not None
    assert (scaled.cls_weights.tolist(), scaled.box_weights.tolist()) == ([0.5, 2], [1.5, 4])


def test_it_needs_regions() -> None:
    with pytest.raises(TypeError, match="needs a two-stage detector"):
        MultiPhase(torch.nn.Identity())  # type: ignore[arg-type]
