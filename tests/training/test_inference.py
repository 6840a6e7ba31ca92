"""Detections above a score that the caller names are those of a detector with that threshold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mixdet.data.scenes import scenes
from mixdet.detectors import PRESETS, Ensemble, FasterRCNN, TwoHeadRCNN, build_backbone
from mixdet.detectors.roi import reporting
from mixdet.structures import Detections, Detector
from mixdet.training.inference import detect

OWN = 0.25  # the detectors' own threshold: among three classes and background of untrained heads


def build(kind: type[FasterRCNN], score_threshold: float = OWN) -> FasterRCNN:
    torch.manual_seed(0)
    preset = replace(PRESETS["tiny"], score_threshold=score_threshold, max_detections=10_000)
    return kind(3, build_backbone("tiny", 64), preset)


def found(detector: Detector, score_threshold: float | None = None) -> list[Detections]:
    data, device = scenes("photo", count=2, size=64), torch.device("cpu")
    return [*detect(detector, data, short_side=64, long_side=64, device=device, score_threshold=score_threshold)]


@pytest.mark.parametrize("kind", [FasterRCNN, TwoHeadRCNN])
def test_a_threshold_below_or_above_the_detectors_own(kind: type[FasterRCNN]) -> None:
    detector = build(kind)
    before = found(detector)
    middle = float(torch.cat([one.scores for one in before]).median())
    for threshold in (0.001, middle):
        own, other = found(build(kind, threshold)), found(detector, threshold)
        for a, b in zip(own, other, strict=True):
            assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("boxes", "labels", "scores"))
        assert (sum(map(len, other)) > sum(map(len, before))) == (threshold < OWN)
        assert 0 < sum(map(len, other)) != sum(map(len, before))
    assert [len(one) for one in found(detector)] == [len(one) for one in before]


def test_of_an_ensemble_it_is_the_fused_score() -> None:
    """A box that one of three members finds has a third of its score; the votes of the others count once asked for."""
    alone, agreed = (Ensemble([build(FasterRCNN, t) for t in own], [1, 1, 1]) for own in ((OWN, 1, 1), (OWN,) * 3))
    assert 0 < max(float(one.scores.max()) for one in found(alone)) < OWN
    for a, b in zip(found(alone, OWN), found(agreed), strict=True):
        assert len(a) > 0
        assert torch.equal(a.boxes, b.boxes[b.scores > OWN])


def test_the_detectors_own_comes_back_whatever_happens() -> None:
    detector = build(TwoHeadRCNN)
    assert isinstance(detector, TwoHeadRCNN)
    presets = [head.preset for head in detector.heads]
    with reporting(detector, 0.001):
        assert {head.preset.score_threshold for head in detector.heads} == {0.001}
    assert [head.preset for head in detector.heads] == presets

    def interrupted() -> None:
        with reporting(detector, 0.001):
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert [head.preset for head in detector.heads] == presets
