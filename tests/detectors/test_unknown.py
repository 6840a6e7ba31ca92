"""Images of which nothing is known: they teach nothing, alone and mixed."""

from __future__ import annotations

import pytest
import torch

from detectors.test_laws import SIZES, TERMS, instances_in, losses_of, make_batch, small_detector
from mixdet.mixing import Fixed, Mix
from mixdet.structures import Instances

DRAW = torch.Generator().manual_seed(2)
IMAGES = [torch.rand(3, h, w, generator=DRAW) for h, w in SIZES]
LABELS = [instances_in(h, w, n, DRAW) for (h, w), n in zip(SIZES, (3, 2, 0), strict=True)]


@pytest.mark.parametrize("preset", ["torchvision", "detectron2", "tiny", "two_heads"])
def test_an_unknown_image_teaches_nothing(preset: str) -> None:
    """Image by image what weight 0 does; the others count as ever."""
    detector = small_detector(preset)
    batch = make_batch(detector, IMAGES, LABELS)
    unknown = losses_of(detector, batch.with_instances([Instances.unknown(), *LABELS[1:]]))
    silent = [Instances.empty(), *LABELS[1:]]
    weightless = losses_of(detector, batch.with_instances(silent).with_weights(torch.tensor([0.0, 1.0, 1.0])))
    for name in TERMS:
        torch.testing.assert_close(unknown.terms[name], weightless.terms[name], rtol=0, atol=0)
    assert all(unknown.terms[name] > 0 for name in TERMS)


@pytest.mark.parametrize("preset", ["torchvision", "detectron2", "tiny", "two_heads"])
def test_an_unknown_image_takes_its_share_out_of_a_mixed_one(preset: str) -> None:
    """Eq. 14 where one side is skipped: the loss of the other side, times its share, background included."""
    detector = small_detector(preset)
    batch = make_batch(detector, IMAGES, [LABELS[0], Instances.unknown(), LABELS[1]])
    mix = Mix(lam=Fixed(0.3), pairing="roll")
    mixture = mix.draw(batch, batch, torch.Generator().manual_seed(0))
    for mixed, side, share in ((0, 0, 0.3), (1, 1, 0.7)):  # known with unknown, unknown with known
        one = mix.apply(batch, batch, mixture).select([mixed])
        alone = mix.components(batch, batch, mixture)[side].select([mixed]).with_weights(torch.ones(1))
        found, expected = losses_of(detector, one), losses_of(detector, alone)
        for name in TERMS:
            torch.testing.assert_close(found.terms[name], share * expected.terms[name], rtol=1e-5, atol=1e-7)
            assert found.terms[name] > 0
