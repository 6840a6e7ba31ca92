"""Several detectors as one, and the fusion of their boxes against the paper's own words."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdet.detectors import PRESETS, Ensemble, FasterRCNN, build_backbone, weighted_box_fusion
from mixdet.structures import Batch, Detections, Detector
from oracles import fusion
from oracles.labelling import Found

steady = settings(derandomize=True, deadline=None, max_examples=60)
parts = st.integers(1, 999).map(lambda n: n / 1000)
sides = st.integers(1500, 2499).map(lambda n: n / 1000)  # long enough for clusters
boxes = st.builds(
    lambda x, y, w, h, label, score: Found((x, y, x + w, y + h), label, score),
    *(parts, parts, sides, sides, st.integers(0, 1), parts),
)
models = st.lists(st.lists(boxes, max_size=5), min_size=1, max_size=3)
WEIGHTS = [0.9, 1.0, 1.4]  # of the paper's three phases on VOC


def detections(found: list[Found], dtype: torch.dtype = torch.float64) -> Detections:
    return Detections(
        torch.tensor([f.box for f in found], dtype=dtype).view(-1, 4),
        torch.tensor([f.label for f in found], dtype=torch.int64),
        torch.tensor([f.score for f in found], dtype=dtype),
    )


@steady
@given(models, st.sampled_from([0.1, 0.4, 0.6]), st.sampled_from([1e-4, 0.5]))
def test_fusion_is_that_of_the_paper(found: list[list[Found]], iou: float, skip: float) -> None:
    weights = WEIGHTS[: len(found)]
    fused = weighted_box_fusion([detections(f) for f in found], weights, iou, skip)
    expected = fusion.weighted_box_fusion(found, weights, iou, skip)
    assert fused.labels.tolist() == [label for _, label, _ in expected]
    assert fused.scores.tolist() == pytest.approx([score for _, _, score in expected])
    assert fused.boxes.flatten().tolist() == pytest.approx([side for box, _, _ in expected for side in box])


@steady
@given(models)
def test_fused_boxes_lie_among_their_own_and_weights_have_no_unit(found: list[list[Found]]) -> None:
    weights = WEIGHTS[: len(found)]
    every = [detections(f) for f in found]
    one, other = (weighted_box_fusion(every, [scale * w for w in weights]) for scale in (1.0, 4.0))
    assert torch.equal(one.labels, other.labels)
    torch.testing.assert_close(one.boxes, other.boxes)
    assert len(one) <= sum(len(f) for f in found)
    assert (one.scores[1:] <= one.scores[:-1]).all()
    assert ((one.scores > 0) & (one.scores <= 1)).all()
    if len(one):
        sides = torch.cat([d.boxes for d in every])
        assert (one.boxes.amin(0) >= sides.amin(0) - 1e-9).all()
        assert (one.boxes.amax(0) <= sides.amax(0) + 1e-9).all()


def test_a_worked_case() -> None:
    first = [Found((0, 0, 10, 10), 0, 0.8), Found((50, 50, 60, 60), 1, 0.6)]
    second = [Found((0, 0, 10, 12), 0, 0.4), Found((0, 0, 10, 10), 1, 0.9)]
    fused = weighted_box_fusion([detections(first, torch.float32), detections(second, torch.float32)], [1.0, 2.0])
    assert fused.labels.tolist() == [
        1,
        0,
        1,
    ]  # one of two: 2 * 0.9 / 3; both: (0.8 + 2 * 0.4) / 2 * 2 / 3; one: 0.6 / 3
    assert fused.scores.tolist() == pytest.approx([0.6, 1.6 / 3, 0.2])
    assert fused.boxes[1].tolist() == pytest.approx([0, 0, 10, 11])  # 0.8 and 2 * 0.4 weigh the same
    assert fused.boxes.dtype == fused.scores.dtype == torch.float32


def test_one_box_is_itself_and_nothing_is_nothing() -> None:
    box = detections([Found((1, 2, 3, 4), 1, 0.7)])
    alone = weighted_box_fusion([box], [3.0])
    assert (alone.boxes.tolist(), alone.labels.tolist()) == ([[1, 2, 3, 4]], [1])
    assert alone.scores.tolist() == pytest.approx([0.7])
    assert len(weighted_box_fusion([detections([]), detections([])], [1.0, 1.0])) == 0
    unsure = detections([Found((1, 2, 3, 4), 1, 0.4), Found((1, 2, 3, 4), 0, 0.0)])
    assert weighted_box_fusion([unsure], [3.0], skip=0.4).scores.tolist() == pytest.approx([0.4])
    assert weighted_box_fusion([unsure], [3.0], skip=0.0).labels.tolist() == [1]
    twice = detections([Found((1, 2, 3, 4), 1, 1.0)] * 2)  # published scores would be 4 / 3
    assert weighted_box_fusion([twice, detections([])], [2.0, 1.0]).scores.tolist() == [1.0]


@pytest.fixture(scope="module")
def members() -> list[Detector]:
    found: list[Detector] = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(FasterRCNN(3, build_backbone("tiny", 64), PRESETS["tiny"]).eval())
    return found


def batch() -> Batch:
    images = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(3))
    return Batch(images, torch.tensor([[96, 128], [90, 100]]), None)


@torch.no_grad()
def test_an_ensemble_fuses_what_its_members_find(members: list[Detector]) -> None:
    images = batch()
    own = [member.predict(member.features(images.images), images) for member in members]
    skip = float(own[0][0].scores.median())
    ensemble = Ensemble(members, [1.0, 2.0], iou=0.1, skip=skip)
    assert isinstance(ensemble, Detector)
    assert (ensemble.stride, ensemble.num_classes) == (members[0].stride, 3)
    assert torch.equal(ensemble.pad_colour, members[0].pad_colour)
    found = ensemble.predict(ensemble.features(images.images), images)
    for mine, *theirs in zip(found, *own, strict=True):
        expected = weighted_box_fusion(theirs, [1.0, 2.0], 0.1, skip)
        assert 0 < len(mine) < len(weighted_box_fusion(theirs, [1.0, 2.0], 0.1))
        assert torch.equal(mine.boxes, expected.boxes)
        assert torch.equal(mine.scores, expected.scores)


def test_tensors_are_named_after_positions(members: list[Detector]) -> None:
    ensemble = Ensemble(members, [1.0, 1.0])
    names = set(FasterRCNN.state_dict(members[0]))  # type: ignore[arg-type]
    assert set(ensemble.state_dict()) == {f"{n}.{name}" for n in (0, 1) for name in names}
    assert ensemble.members[0] is members[0]


def test_what_does_not_go_together_is_refused(members: list[Detector]) -> None:
    for weights in ([1.0], [1.0, 0.0]):
        with pytest.raises(ValueError, match="weight"):
            Ensemble(members, weights)
    with pytest.raises(ValueError, match="0 detectors"):
        Ensemble([], [])
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="3 and of 4 classes"):
        Ensemble([members[0], FasterRCNN(4, build_backbone("tiny", 64), PRESETS["tiny"])], [1.0, 1.0])
    strange = copy.deepcopy(members[1])
    strange.pad_colour.add_(0.1)
    with pytest.raises(ValueError, match="different colours"):
        Ensemble([members[0], strange], [1.0, 1.0])
    ensemble = Ensemble(members, [1.0, 1.0])
    with pytest.raises(TypeError, match="train its members"):
        ensemble.losses({}, batch())
