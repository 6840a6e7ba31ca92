from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdet.mixing import PRESETS, Fixed, Mix, Mixture
from mixdet.structures import Batch
from mixing.batches import GREY, generator, outside, pixels, random_batch, rows, same_instances
from oracles import mixing as oracle

steady = settings(derandomize=True, deadline=None, max_examples=25)
size = st.tuples(st.integers(1, 9), st.integers(1, 9))
share = st.floats(0, 1, width=32)


def pairs(lam: list[float], partner: list[int]) -> Mixture:
    count = len(partner)
    return Mixture(torch.tensor(partner), torch.tensor(lam), torch.ones(count, dtype=torch.bool), torch.zeros(count, 4))


def shift(batch: Batch, i: int, mixed: Batch, k: int) -> torch.Tensor:
    dy, dx = (mixed.sizes[k] - batch.sizes[i]).div(2, rounding_mode="floor").tolist()
    return batch.labels[i].boxes + torch.tensor([dx, dy, dx, dy])


@steady
@given(
    st.lists(size, min_size=2, max_size=2),
    st.lists(size, min_size=2, max_size=2),
    st.lists(share, min_size=2, max_size=2),
)
def test_blend_is_the_equation_for_any_sizes(sizes_a, sizes_b, lam):
    a, b = random_batch(sizes_a, 1, name="a"), random_batch(sizes_b, 2, name="b", canvas=(9, 10))
    mixed = Mix().apply(a, b, pairs(lam, [1, 0]))
    assert mixed.canvas == (max(a.canvas[0], 9), max(a.canvas[1], 10))
    for i, j in ((0, 1), (1, 0)):
        expected = oracle.blend(pixels(a, i), pixels(b, j), lam[i])
        assert mixed.sizes[i].tolist() == list(expected.shape[1:])
        np.testing.assert_allclose(pixels(mixed, i), expected, atol=2e-7)
        assert (outside(mixed, i) == GREY).all()


@steady
@given(st.lists(st.tuples(size, size), min_size=1, max_size=3), st.booleans(), share)
def test_boxes_move_with_their_pixels_and_shares_are_lam(sizes, equal, lam):
    a = random_batch([s for s, _ in sizes], 1, name="a")
    b = a if equal else random_batch([s for _, s in sizes], 2, name="b")
    partner = [(i + 1) % len(sizes) for i in range(len(sizes))]
    mixed = Mix().apply(a, b, pairs([lam] * len(sizes), partner))
    for i, j in enumerate(partner):
        if a is b and i == j:
            continue
        kept = [(a, i, np.float32(lam), 0)] if lam > 0 else []
        kept += [(b, j, np.float32(1 - lam), 1)] if lam < 1 else []
        labels = mixed.labels[i]
        assert len(labels) == sum(len(batch.labels[k]) for batch, k, _, _ in kept)
        at = 0
        for batch, k, factor, source in kept:
            part = labels.select(torch.arange(at, at + len(batch.labels[k])))
            at += len(part)
            assert torch.equal(part.boxes, shift(batch, k, mixed, i))
            assert torch.equal(part.labels, batch.labels[k].labels)
            assert torch.equal(part.cls_weights, batch.labels[k].cls_weights)
            assert torch.equal(part.box_weights, batch.labels[k].box_weights)
            assert part.shares.numpy() == pytest.approx(factor)
            assert (part.sources == source).all()


@pytest.mark.parametrize("sizes", [[(6, 8)] * 3, [(6, 8), (8, 5), (3, 3)]], ids=["equal", "unequal"])
def test_blend_is_linear_in_lam(sizes):
    batch = random_batch(sizes)
    at = {lam: Mix().apply(batch, batch, pairs([lam] * 3, [1, 2, 0])).images for lam in (0.0, 0.25, 1.0)}
    torch.testing.assert_close(at[0.25], 0.25 * at[1.0] + 0.75 * at[0.0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("sizes", [[(6, 8)] * 2, [(8, 8), (8, 5)]], ids=["equal", "unequal"])
def test_the_limits_are_the_images_themselves(sizes):
    batch = random_batch(sizes)
    whole = Mix().apply(batch, batch, pairs([1.0, 0.0], [1, 1]))
    assert torch.equal(whole.images[0], batch.images[0])
    assert torch.equal(whole.weights[:1], batch.weights[:1])
    assert same_instances(whole.labels[0], batch.labels[0])
    none = Mix().apply(batch, batch, pairs([0.0, 1.0], [1, 0]))
    width = sizes[1][1]
    left = (8 - width) // 2
    assert torch.equal(none.images[0, :, :, left : left + width], batch.images[1, :, :, :width])
    assert torch.equal(none.labels[0].labels, batch.labels[1].labels)
    assert (none.labels[0].shares == 1).all()


@steady
@given(st.lists(size, min_size=2, max_size=2), st.lists(size, min_size=2, max_size=2), share)
def test_swapping_the_images_and_lam_changes_nothing_but_the_order(sizes_a, sizes_b, lam):
    a, b = random_batch(sizes_a, 1, name="a"), random_batch(sizes_b, 2, name="b")
    forth = Mix().apply(a, b, pairs([lam] * 2, [0, 1]))
    back = Mix().apply(b, a, pairs([float(np.float32(1) - np.float32(lam))] * 2, [0, 1]))
    torch.testing.assert_close(forth.images, back.images, atol=1e-6, rtol=0)
    torch.testing.assert_close(forth.weights, back.weights)
    assert forth.ids == back.ids
    for first, second in zip(forth.labels, back.labels, strict=True):
        assert np.allclose(rows(first), rows(second), atol=2e-5)


@pytest.mark.parametrize("sizes", [[(6, 8)] * 4, [(6, 8), (8, 5), (3, 3), (8, 8)]], ids=["equal", "unequal"])
def test_unmixed_images_keep_pixels_size_and_labels(sizes):
    batch = random_batch(sizes)
    mixture = replace(pairs([0.5] * 4, [1, 2, 3, 0]), mixed=torch.tensor([True, False, True, False]))
    mixed = Mix().apply(batch, batch, mixture)
    for i in (1, 3):
        assert torch.equal(mixed.images[i], batch.images[i])
        assert torch.equal(mixed.sizes[i], batch.sizes[i])
        assert torch.equal(mixed.weights[i], batch.weights[i])
        assert same_instances(mixed.labels[i], batch.labels[i])
        assert mixed.ids[i] == batch.ids[i]
    assert not torch.equal(mixed.images[0], batch.images[0])
    assert mixed.affines is None


def test_the_quick_way_and_the_general_way_agree():
    batch = random_batch([(6, 8)] * 3, canvas=(7, 9))
    mixture = pairs([0.3, 0.6, 0.9], [1, 2, 0])
    quick = Mix().apply(batch, batch, mixture)
    other_padding = random_batch([(6, 8)] * 3, canvas=(7, 9))
    other_padding.images[:, :, 6:] = 0
    other_padding.images[:, :, :, 8:] = 0
    other_padding = replace(other_padding, pad_colour=torch.zeros(3))
    general = Mix().apply(batch, other_padding, mixture)
    torch.testing.assert_close(quick.images, general.images)
    for first, second in zip(quick.labels, general.labels, strict=True):
        assert same_instances(first, second)


def test_ids_weights_and_padding_of_a_mixed_batch():
    batch = random_batch([(6, 8), (4, 4)], canvas=(8, 8))
    mixed = Mix().apply(batch, batch, pairs([0.25, 1.0], [1, 0]))
    assert mixed.ids == (frozenset({"image0", "image1"}),) * 2
    torch.testing.assert_close(mixed.weights[0], 0.25 * batch.weights[0] + 0.75 * batch.weights[1])
    assert mixed.pad_colour is batch.pad_colour
    level = batch.with_weights(torch.full((2,), 0.7))
    assert torch.equal(Mix().apply(level, level, pairs([0.3, 0.6], [1, 0])).weights, level.weights)


def test_one_mixture_serves_two_views():
    weak = random_batch([(6, 8), (8, 5), (3, 3)])
    strong = replace(weak, images=1 - weak.images)
    mixture = PRESETS["lossmix"].draw(weak, weak, generator(3))
    first, second = (PRESETS["lossmix"].apply(view, view, mixture) for view in (weak, strong))
    for one, other in zip(first.labels, second.labels, strict=True):
        assert same_instances(one, other)


def test_mixing_a_mixed_batch_multiplies_shares():
    batch = random_batch([(6, 8)] * 3)
    once = Mix().apply(batch, batch, pairs([0.25] * 3, [1, 2, 0]))
    fresh = random_batch([(6, 8)] * 3, 7, name="fresh")
    twice = Mix().apply(once, fresh, pairs([0.5] * 3, [0, 1, 2]))
    assert twice.labels[0].shares.tolist() == [0.125] * 2 + [0.375] * 2 + [0.5] * 2
    assert twice.labels[0].sources.tolist() == [0, 0, 1, 1, 2, 2]
    assert twice.ids[0] == {"image0", "image1", "fresh0"}
    torch.testing.assert_close(twice.images, 0.5 * once.images + 0.5 * fresh.images)


@pytest.mark.parametrize(("counts", "shares"), [([0, 0], []), ([0, 2], [0.75] * 2), ([2, 0], [0.25] * 2)])
def test_images_without_instances(counts, shares):
    batch = random_batch([(6, 8)] * 2, counts=counts)
    mixed = Mix().apply(batch, batch, pairs([0.25, 1.0], [1, 0]))
    assert mixed.labels[0].shares.tolist() == shares
    assert mixed.labels[0].boxes.shape == (len(shares), 4)


def test_fixed_seed_gives_one_result():
    batch = random_batch([(6, 8), (8, 5), (3, 3)])
    first, second = (Mix()(batch, batch, generator(5)) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert all(same_instances(x, y) for x, y in zip(first.labels, second.labels, strict=True))
    assert not torch.equal(first.images, Mix()(batch, batch, generator(6)).images)


@pytest.mark.parametrize("sizes", [[(6, 8), (8, 5)], [(1, 1), (1, 1)]])
def test_nothing_is_changed_in_place(sizes):
    batch = random_batch(sizes)
    before, boxes = batch.images.clone(), [i.boxes.clone() for i in batch.labels]
    colour = batch.pad_colour.clone()
    Mix(lam=Fixed(0.3), pairing="roll")(batch, batch, generator(0))
    replace(PRESETS["cutmix"], pairing="roll")(batch, batch, generator(0))
    one, other = batch.select([0]), random_batch([sizes[1]], 1, name="other")
    replace(PRESETS["cutmix"], pairing="aligned")(one, other, generator(0))
    assert torch.equal(batch.pad_colour, colour)
    assert torch.equal(batch.images, before)
    assert all(torch.equal(i.boxes, b) for i, b in zip(batch.labels, boxes, strict=True))
