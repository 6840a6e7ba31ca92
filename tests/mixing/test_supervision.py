from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdet.mixing import RULES, Beta, Fixed, Mix, dominant, half, interpolate, swapped, union
from mixdet.structures import Instances
from mixing.batches import generator, random_batch, random_instances, same_instances

steady = settings(derandomize=True, deadline=None, max_examples=40)
counts = st.integers(0, 4)
inner = st.floats(0.0625, 0.9375, width=32)


def two(m: int, n: int, seed: int = 0) -> tuple[Instances, Instances]:
    draw = generator(seed)
    return random_instances((20, 30), m, draw), random_instances((20, 30), n, draw)


@steady
@given(counts, counts, inner)
def test_rules_multiply_shares(m, n, lam):
    first, second = two(m, n)
    expected = {
        interpolate: [lam] * m + [1 - lam] * n,
        union: [1.0] * (m + n),
        half: [0.5] * (m + n),
        swapped: [1 - lam] * m + [lam] * n,
        dominant: [1.0] * m if lam >= 0.5 else [1.0] * n,
    }
    for rule, shares in expected.items():
        assert rule(first, second, lam).shares.tolist() == pytest.approx(shares)
    assert set(expected) == set(RULES.values())


@steady
@given(counts, counts, inner, st.sampled_from(["interpolate", "union", "half", "swapped"]))
def test_rules_touch_nothing_but_shares_and_sources(m, n, lam, name):
    first, second = two(m, n)
    mixed = RULES[name](first, second, lam)
    both = Instances.concat([first, second])
    assert same_instances(replace(mixed, shares=both.shares, sources=both.sources), both)
    assert mixed.sources.tolist() == [0] * m + [1] * n


def test_half_and_swapped_and_interpolate_weigh_the_same_on_average():
    first, second = two(3, 3)
    total = {rule.name: sum(rule(first, second, k / 10).shares.sum() for k in range(11)) for rule in RULES.values()}
    assert total["half"] == pytest.approx(total["interpolate"]) == pytest.approx(total["swapped"])
    assert total["union"] == pytest.approx(2 * total["half"])


def test_instances_of_share_zero_are_left_out():
    first, second = two(2, 3)
    assert same_instances(interpolate(first, second, 1.0), first)
    assert len(interpolate(first, second, 0.0)) == 3
    assert len(swapped(first, second, 1.0)) == 3
    assert len(union(first, second, 1.0)) == 5


def test_sources_of_the_second_come_after_those_of_the_first():
    first, second = two(2, 2)
    once = interpolate(first, second, 0.5)
    twice = interpolate(once, once, 0.5)
    assert twice.sources.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert twice.shares.tolist() == [0.25] * 8


@pytest.mark.parametrize("name", ["interpolate", "union", "half", "swapped"])
def test_an_unlabelled_partner_is_refused_by_all_but_dominant(name):
    first, _ = two(2, 0)
    with pytest.raises(ValueError, match=f"{name}: the second images are unlabelled"):
        RULES[name](first, None, 1.0)
    batch = random_batch([(6, 8)] * 2)
    unlabelled = random_batch([(6, 8)] * 2, 1, name="pool").with_instances(None)
    mix = Mix(supervision=name, pairing="aligned", p=0.5)
    with pytest.raises(ValueError, match="unlabelled"):
        mix(batch, unlabelled, generator(0))
    with pytest.raises(ValueError, match="first images are unlabelled"):
        mix(unlabelled, batch, generator(0))


def test_dominant_keeps_the_labels_of_the_labelled_image():
    batch = random_batch([(6, 8)] * 2)
    unlabelled = random_batch([(4, 9)] * 2, 1, name="pool").with_instances(None)
    mixed = Mix(supervision="dominant", lam=Fixed(0.9), pairing="aligned")(batch, unlabelled, generator(0))
    assert mixed.sizes.tolist() == [[6, 9]] * 2
    for plain, noisy in zip(batch.labels, mixed.labels, strict=True):
        assert same_instances(plain, noisy)
    assert mixed.ids[0] == {"image0", "pool0"}
    with pytest.raises(ValueError, match=r"larger one \(lam 0.250\)"):
        Mix(supervision="dominant", lam=Fixed(0.25), pairing="aligned")(batch, unlabelled, generator(0))
    with pytest.raises(ValueError, match="first images are unlabelled"):
        Mix(supervision="dominant", lam=Fixed(0.9), pairing="aligned")(unlabelled, batch, generator(0))


@pytest.mark.parametrize("name", sorted(RULES))
@pytest.mark.parametrize("pairing", ["shuffle", "reverse"])
def test_fixed_points_are_the_plain_image(name, pairing):
    batch = random_batch([(6, 8), (8, 5), (3, 3)])
    mix = Mix(supervision=name, pairing=pairing)
    mixture = mix.draw(batch, batch, generator(2))
    fixed = [i for i, j in enumerate(mixture.partner.tolist()) if i == j]
    assert fixed
    mixed = mix.apply(batch, batch, mixture)
    for i in fixed:
        assert torch.equal(mixed.images[i], batch.images[i])
        assert same_instances(mixed.labels[i], batch.labels[i])
        assert torch.equal(mixed.weights[i], batch.weights[i])


@pytest.mark.parametrize("name", ["interpolate", "union", "half", "swapped", "dominant"])
def test_two_views_of_one_image_are_labelled_once(name):
    weak = random_batch([(6, 8)] * 2, counts=[3, 0])
    strong = replace(weak, images=weak.images.sqrt())
    mixed = Mix(supervision=name, lam=Fixed(0.3), pairing="aligned")(weak, strong, generator(0))
    torch.testing.assert_close(mixed.images, 0.3 * weak.images + 0.7 * strong.images)
    for plain, twin in zip(weak.labels, mixed.labels, strict=True):
        assert torch.equal(twin.boxes, plain.boxes)
        assert torch.equal(twin.labels, plain.labels)
        assert torch.equal(twin.cls_weights, plain.cls_weights)
        assert twin.shares.tolist() == pytest.approx([1.0] * len(plain))
    assert mixed.ids == weak.ids


def test_only_what_coincides_on_both_sides_is_merged():
    box, other = [1.0, 1.0, 4.0, 4.0], [2.0, 2.0, 5.0, 5.0]
    first = Instances(torch.tensor([box, box, other]), torch.tensor([0, 0, 1]))
    second = Instances(torch.tensor([box, other, other]), torch.tensor([0, 1, 2]))
    batch = random_batch([(6, 8)] * 2)
    weak, strong = (batch.with_instances([side, side]) for side in (first, second))
    mixed = Mix(lam=Fixed(0.25), pairing="aligned")(weak, strong, generator(0)).labels[0]
    assert mixed.labels.tolist() == [0, 0, 1, 2]  # one of the first image's two copies has no twin
    assert mixed.shares.tolist() == [1.0, 0.25, 1.0, 0.75]
    assert mixed.sources.tolist() == [0, 0, 0, 1]


def test_a_source_on_both_sides_of_two_mixed_batches_counts_with_both_shares():
    batch = random_batch([(6, 8)] * 3)
    roll, back = Mix(lam=Fixed(0.5), pairing="roll"), Mix(lam=Fixed(0.5), pairing="aligned")
    once = roll(batch, batch, generator(0))  # 0+1, 1+2, 2+0
    twice = back(once, once.select([1, 2, 0]), generator(0))  # (0+1)+(1+2)
    assert sorted(twice.labels[0].shares.tolist()) == [0.25] * 4 + [0.5] * 2
    assert twice.labels[0].shares.sum() == 2


def test_ignored_instances_are_mixed_like_all_others():
    batch = random_batch([(6, 8)] * 2)
    crowd = batch.with_instances([replace(i, ignored=torch.tensor([True, False])) for i in batch.labels])
    mixed = Mix(lam=Fixed(0.25), pairing="roll")(crowd, crowd, generator(0)).labels[0]
    assert mixed.ignored.tolist() == [True, False] * 2
    assert mixed.shares.tolist() == [0.25, 0.25, 0.75, 0.75]


def test_p_is_the_chance_to_be_mixed():
    batch = random_batch([(2, 2)] * 400, counts=[0] * 400)
    for p, expected in ((0.0, 0.0), (0.25, 0.25), (1.0, 1.0)):
        mixture = Mix(pairing="roll", p=p).draw(batch, batch, generator(0))
        assert mixture.mixed.float().mean().item() == pytest.approx(expected, abs=0.05)
    assert Mix(p=0.0)(batch, batch, generator(0)) is batch


def test_lam_may_be_shared_by_the_batch():
    batch = random_batch([(2, 2)] * 5)
    lam = Mix(per="batch").draw(batch, batch, generator(0)).lam
    assert lam.shape == (5,)
    assert len(set(lam.tolist())) == 1
    assert len(set(Mix(per="pair").draw(batch, batch, generator(0)).lam.tolist())) == 5


def test_one_image_cannot_be_mixed_with_itself_but_with_another_batch():
    a, b = random_batch([(6, 8)], 0, name="a"), random_batch([(6, 8)], 1, name="b")
    for pairing in ("shuffle", "roll", "reverse", "derangement"):
        with pytest.raises(ValueError, match="one image cannot be mixed"):
            Mix(pairing=pairing)(a, a, generator(0))
    assert Mix()(a, b, generator(0)).ids == (frozenset({"a0", "b0"}),)
    assert Mix(pairing="aligned")(a, a, generator(0)) is a


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input": "blnd"}, "no input 'blnd'; there are blend, paste, mosaic"),
        ({"supervision": "lossmix"}, "no supervision 'lossmix'"),
        ({"pairing": "random"}, "no pairing 'random'"),
        ({"per": "image"}, "no per 'image'; there are pair, batch"),
        ({"p": 1.5}, "p must be in"),
        ({"input": "mosaic"}, "its supervision is union, not interpolate"),
    ],
)
def test_a_wrong_name_is_refused_where_it_is_given(arguments, message):
    with pytest.raises(ValueError, match=message):
        Mix(**arguments)


def test_batches_and_mixtures_must_be_of_one_length():
    two_images, three = random_batch([(6, 8)] * 2), random_batch([(6, 8)] * 3)
    with pytest.raises(ValueError, match="2 and 3 images"):
        Mix().draw(two_images, three, generator(0))
    with pytest.raises(ValueError, match="mixture of 3 pairs for 2 and 2"):
        Mix().apply(two_images, two_images, Mix().draw(three, three, generator(0)))


def test_a_mix_is_a_value():
    assert Mix(lam=Beta(0.5)) == Mix("blend", "interpolate", Beta(0.5))
    assert hash(Mix()) == hash(Mix())
