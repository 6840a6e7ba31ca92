from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mixdet.mixing import PRESETS, Mix
from mixing.batches import generator, random_batch, same_instances


@pytest.mark.parametrize("preset", ["lossmix", "cutmix"])
@pytest.mark.parametrize("sizes", [[(6, 8)] * 4, [(6, 8), (8, 5), (3, 3), (8, 8)]], ids=["equal", "unequal"])
def test_components_share_pixels_and_split_the_weight(preset, sizes):
    a, b = random_batch(sizes, 1, name="a"), random_batch(sizes[::-1], 2, name="b")
    mix = replace(PRESETS[preset], p=0.6)
    mixture = mix.draw(a, b, generator(1))
    assert 0 < mixture.mixed.sum() < 4
    mixed = mix.apply(a, b, mixture)
    first, second = mix.components(a, b, mixture)
    assert first.images is second.images
    assert torch.equal(first.images, mixed.images)
    assert torch.equal(first.sizes, mixed.sizes)
    torch.testing.assert_close(first.weights + second.weights, mixed.weights)
    for labels in first.labels + second.labels:
        assert (labels.shares == 1).all()
        assert (labels.sources == 0).all()
    assert first.ids == second.ids == mixed.ids
    assert first.affines is None


def test_components_are_the_two_sources_of_the_union():
    batch = random_batch([(6, 8), (8, 5), (3, 3)])
    mix = Mix(pairing="roll")
    mixture = mix.draw(batch, batch, generator(2))
    mixed = mix.apply(batch, batch, mixture)
    first, second = mix.components(batch, batch, mixture)
    for i, labels in enumerate(mixed.labels):
        one, other = (labels.select(labels.sources == source) for source in (0, 1))
        assert torch.equal(one.boxes, first.labels[i].boxes)
        assert torch.equal(other.boxes, second.labels[i].boxes)
        assert torch.equal(one.shares, mixture.lam[i].expand(2))
    torch.testing.assert_close(first.weights, mixture.lam * batch.weights)
    torch.testing.assert_close(second.weights, (1 - mixture.lam) * batch.weights[mixture.partner])


def test_an_unmixed_image_is_its_own_partner():
    batch = random_batch([(6, 8), (8, 5), (3, 3)])
    mix = Mix(pairing="reverse")
    mixture = mix.draw(batch, batch, generator(0))
    first, second = mix.components(batch, batch, mixture)
    assert same_instances(first.labels[1], batch.labels[1])
    assert same_instances(second.labels[1], batch.labels[1])
    torch.testing.assert_close(first.weights[1], mixture.lam[1] * batch.weights[1])
    torch.testing.assert_close(first.weights[1] + second.weights[1], batch.weights[1])


def test_components_of_what_has_no_two_targets():
    batch = random_batch([(6, 8)] * 2)
    mosaic = PRESETS["mosaic"]
    with pytest.raises(ValueError, match="mosaic has 4 sources"):
        mosaic.components(batch, batch, mosaic.draw(batch, batch, generator(0)))
    unlabelled = random_batch([(6, 8)] * 2, 1, name="pool").with_instances(None)
    noise = PRESETS["noise"]
    with pytest.raises(ValueError, match="must be labelled"):
        noise.components(batch, unlabelled, noise.draw(batch, unlabelled, generator(0)))
