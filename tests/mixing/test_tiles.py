"""MUM's tiles: laws, and agreement with the literal forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mixdet.detectors import PRESETS, FasterRCNN, build_backbone
from mixdet.detectors.rpn import RPN
from mixdet.mixing import TileMix, Tiles, draw_tiles, mix_tiles, unmix_tiles, unmixed_features
from oracles import tiles as oracle

STRIDES = (4, 8, 16, 32)
sides = st.integers(1, 42).map(lambda cells: 32 * cells)  # every padded side, 32 to 1344
few = st.integers(1, 8).map(lambda cells: 32 * cells)
groups = st.integers(1, 6)
counts = st.integers(1, 17)
batches = st.integers(1, 5)
seeds = st.integers(0, 2**31)
RPN_OF_TINY = RPN(PRESETS["tiny"], frozenset(), 0.0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(batch: int, height: int, width: int) -> Tensor:
    """A map in which no two values are equal."""
    return torch.arange(batch * height * width, dtype=torch.float32).view(batch, 1, height, width)


@given(batches, sides, sides, groups, counts, seeds)
def test_unmixing_is_the_inverse_at_every_level(b: int, h: int, w: int, group: int, num: int, seed: int) -> None:
    tiles = draw_tiles((b, 3, h, w), group, num, seeded(seed))
    for stride in STRIDES:
        level = numbered(b, h // stride, w // stride)
        assert torch.equal(unmix_tiles(mix_tiles(level, tiles), tiles), level)
        assert torch.equal(mix_tiles(unmix_tiles(level, tiles), tiles), level)


def test_a_group_of_twelve_on_a_large_canvas() -> None:
    """MUM's largest group (Table 3), with a short last one."""
    tiles = draw_tiles((14, 3, 800, 1344), 12, 16, seeded(0))
    level = numbered(14, 100, 168)
    assert not torch.equal(mix_tiles(level, tiles), level)
    assert torch.equal(unmix_tiles(mix_tiles(level, tiles), tiles), level)


@given(batches, sides, sides, groups, counts, seeds)
def test_p6_of_unmixed_p5_is_p6_of_the_plain_canvas(b: int, h: int, w: int, group: int, num: int, seed: int) -> None:
    tiles = draw_tiles((b, 3, h, w), group, num, seeded(seed))
    p5 = numbered(b, h // 32, w // 32)
    p6 = nn.functional.max_pool2d(unmix_tiles(mix_tiles(p5, tiles), tiles), 1, 2)
    assert torch.equal(p6, nn.functional.max_pool2d(p5, 1, 2))


@settings(max_examples=20, deadline=None)
@given(batches, few, few, groups, counts, seeds)
def test_the_rpn_sees_unmixed_levels_as_plain_ones(b: int, h: int, w: int, group: int, num: int, seed: int) -> None:
    """On p2 to p5 and on p6, which it makes itself."""
    tiles = draw_tiles((b, 3, h, w), group, num, seeded(seed))
    plain = {f"p{k}": torch.rand(b, 64, h >> k, w >> k, generator=seeded(seed)) for k in (2, 3, 4, 5)}
    unmixed = {name: unmix_tiles(mix_tiles(level, tiles), tiles) for name, level in plain.items()}
    found, expected = RPN_OF_TINY.outputs(unmixed), RPN_OF_TINY.outputs(plain)
    cells = sum((h >> k) * (w >> k) for k in (2, 3, 4, 5)) + -(-h // 64) * -(-w // 64)
    assert found.objectness.shape == (b, cells * len(PRESETS["tiny"].aspect_ratios))
    assert torch.equal(found.objectness, expected.objectness)
    assert torch.equal(found.deltas, expected.deltas)


@given(batches, sides, sides, groups, counts, seeds)
def test_each_tile_is_used_once_in_its_place_and_its_group(
    b: int, h: int, w: int, group: int, num: int, seed: int
) -> None:
    tiles = draw_tiles((b, 3, h, w), group, num, seeded(seed))
    for first in range(0, b, group):
        members = torch.arange(first, min(first + group, b))
        used = tiles.source[members].sort(dim=0).values
        assert torch.equal(used, members[:, None, None].expand_as(used))
    column = numbered(b, h // 32, w // 32) % (h // 32 * (w // 32))  # the place of a cell in its own image
    assert torch.equal(mix_tiles(column, tiles), column)


@given(batches, st.integers(1, 6), st.integers(1, 6), groups, counts, seeds)
def test_mixing_agrees_with_the_literal_form(b: int, rows: int, columns: int, group: int, num: int, seed: int) -> None:
    h, w = 32 * rows, 32 * columns
    tiles = draw_tiles((b, 3, h, w), group, num, seeded(seed))
    at_rows, at_columns = (oracle.aligned_borders(side, num, 32) for side in (h, w))

    def source(image: int, r: int, c: int) -> int:
        return int(tiles.source[image, at_rows[r] // 32, at_columns[c] // 32])

    images = numbered(b, h, w)
    mixed = oracle.mix(images, at_rows, at_columns, source)
    assert torch.equal(mix_tiles(images, tiles), mixed)
    assert torch.equal(unmix_tiles(mixed, tiles), oracle.unmix(mixed, at_rows, at_columns, source))


@given(batches, st.sampled_from([(128, 128), (480, 736), (800, 1344)]), groups, st.sampled_from([1, 2, 4, 8]), seeds)
def test_the_reference_mode_agrees_with_its_literal_form(
    b: int, size: tuple[int, int], group: int, num: int, seed: int
) -> None:
    tiles = draw_tiles((b, 3, *size), group, num, seeded(seed), mode="reference")

    def source(image: int, r: int, c: int) -> int:
        return int(tiles.source[image, r, c])

    for stride in (8, 16, 32, 64):
        level = torch.rand(b, 2, -(-size[0] // stride), -(-size[1] // stride), generator=seeded(seed))
        torch.testing.assert_close(unmix_tiles(level, tiles), oracle.reference_unmix(level, num, source))


def test_the_reference_mode_is_no_inverse_where_a_level_does_not_divide() -> None:
    """ssod.md 2.3: at 800 x 1344 with four tiles p2 and p3 are exact, p5 (25 x 42) is not."""
    tiles = draw_tiles((4, 3, 800, 1344), 4, 4, seeded(0), mode="reference")
    exact = {}
    for stride in STRIDES:
        level = torch.rand(4, 1, 800 // stride, 1344 // stride, generator=seeded(1))
        exact[stride] = bool((unmix_tiles(mix_tiles(level, tiles), tiles) == level).all())
    assert exact == {4: True, 8: True, 16: False, 32: False}


def test_tiles_are_drawn_independently_and_uniformly() -> None:
    """A tile stays at home with chance 1 / N_G, whatever its neighbours do."""
    home = torch.zeros(4, 4)
    together = 0.0
    draws = 2000
    for seed in range(draws):
        source = draw_tiles((4, 3, 128, 128), 4, 4, seeded(seed)).source[0]
        home += source == 0
        together += float((source[0, 0] == 0) & (source[0, 1] == 0))
    assert ((home / draws - 0.25).abs() < 0.05).all()
    assert abs(together / draws - 1 / 16) < 0.02


def test_a_group_of_one_and_one_tile_of_a_group() -> None:
    images = torch.rand(3, 3, 64, 96, generator=seeded(0))
    for group, num in ((1, 4), (4, 1)):
        tiles = draw_tiles(images.shape, group, num, seeded(2))
        mixed = mix_tiles(images, tiles)
        if group == 1:
            assert torch.equal(mixed, images)
        else:  # whole images change places
            assert sorted(float(image.sum()) for image in mixed) == sorted(float(image.sum()) for image in images)
    last = draw_tiles((5, 3, 64, 64), 4, 4, seeded(0))
    assert torch.equal(last.source[4], torch.full((2, 2), 4))


def test_the_gradient_is_the_inverse_move() -> None:
    tiles = draw_tiles((3, 2, 64, 96), 3, 2, seeded(0))
    x = torch.rand(3, 2, 4, 6, dtype=torch.float64, generator=seeded(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: unmix_tiles(x, tiles), x)
    assert torch.autograd.gradgradcheck(lambda x: unmix_tiles(x, tiles), x)
    weight = torch.rand(3, 2, 4, 6, dtype=torch.float64, generator=seeded(2))
    (gradient,) = torch.autograd.grad((mix_tiles(x, tiles) * weight).sum(), x)
    assert torch.equal(gradient, unmix_tiles(weight, tiles))


def test_the_index_is_small() -> None:
    tiles = draw_tiles((4, 3, 800, 1344), 4, 4, seeded(0))
    features = sum(4 * 256 * (800 // s) * (1344 // s) * 4 for s in STRIDES)
    assert (tiles.source.nbytes + tiles.inverse.nbytes) / features < 0.001


@pytest.fixture(scope="module")
def detector() -> FasterRCNN:
    torch.manual_seed(0)
    return FasterRCNN(3, build_backbone("tiny", 64), PRESETS["tiny"]).eval()


class Pointwise(nn.Module):
    """Looks at no neighbour: every stride-32 block of a level is made of the pixels under it alone."""

    stride = 32
    num_classes = 3
    pad_colour = torch.zeros(3)
    stages = ("stem", "stride4", "stride8", "stride16", "stride32")

    def __init__(self) -> None:
        super().__init__()
        strides = (2, 2, 2, 2, 2)
        self.layers = nn.ModuleDict({name: nn.Conv2d(3, 3, s, s) for name, s in zip(self.stages, strides, strict=True)})

    def normalize(self, images: Tensor) -> Tensor:
        return images - 0.5

    def stage(self, name: str, x: Tensor) -> Tensor:
        return torch.relu(self.layers[name](x))

    def neck(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        return {f"p{i + 2}": maps[name] + i for i, name in enumerate(self.stages[1:])}

    def features(self, images: Tensor) -> dict[str, Tensor]:
        x, maps = self.normalize(images), {}
        for name in self.stages:
            x = maps[name] = self.stage(name, x)
        return self.neck(maps)


@pytest.mark.parametrize("place", ["neck", "backbone", "stem", "stride8", "stride32"])
@settings(deadline=None, max_examples=20)
@given(
    images=st.integers(1, 6),
    sides=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    group_size=st.integers(1, 6),
    num_tiles=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_a_network_without_neighbours_commutes_with_mixing(
    place: str, images: int, sides: tuple[int, int], group_size: int, num_tiles: int, seed: int
) -> None:
    network = Pointwise()
    batch = torch.rand(images, 3, 32 * sides[0], 32 * sides[1], generator=seeded(seed))
    tiles = draw_tiles(batch.shape, group_size, num_tiles, seeded(seed + 1))
    plain = network.features(batch)
    found = unmixed_features(network, mix_tiles(batch, tiles), tiles, place)  # type: ignore[arg-type]
    for name, level in plain.items():
        torch.testing.assert_close(found[name], level, rtol=0, atol=0)


def test_where_features_are_unmixed_matters_to_a_real_network(detector: FasterRCNN) -> None:
    images = torch.rand(4, 3, 128, 128, generator=seeded(0))
    tiles = draw_tiles(images.shape, 4, 4, seeded(1))
    mixed = mix_tiles(images, tiles)
    with torch.no_grad():
        plain = detector.features(images)
        late, early = (unmixed_features(detector, mixed, tiles, place) for place in ("neck", "stem"))
    assert all(late[name].shape == plain[name].shape for name in plain)
    assert float((late["p5"] - plain["p5"]).abs().mean()) > float((early["p5"] - plain["p5"]).abs().mean()) > 0


def test_a_tile_mix_with_p_0_or_one_image_is_the_network(detector: FasterRCNN) -> None:
    images = torch.rand(2, 3, 64, 64, generator=seeded(0))
    with torch.no_grad():
        plain = detector.features(images)
        for mix in (TileMix(p=0.0), TileMix(group_size=1)):
            found = mix.features(detector, images, seeded(0))
            assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_half_of_the_batches_are_mixed_with_p_one_half() -> None:
    generator = seeded(0)
    drawn = [TileMix(p=0.5).draw((4, 3, 64, 64), 32, generator) is not None for _ in range(400)]
    assert 160 < sum(drawn) < 240


def test_wrong_input_is_refused(detector: FasterRCNN) -> None:
    with pytest.raises(ValueError, match="100 x 64 images are no multiples of stride 32"):
        draw_tiles((2, 3, 100, 64))
    with pytest.raises(ValueError, match="at least 1"):
        draw_tiles((2, 3, 64, 64), num_tiles=0)
    with pytest.raises(ValueError, match="mode 'equal'"):
        draw_tiles((2, 3, 64, 64), mode="equal")  # type: ignore[arg-type]
    tiles: Tiles = draw_tiles((2, 3, 96, 96))
    with pytest.raises(ValueError, match="derive this one"):
        unmix_tiles(torch.zeros(2, 1, 2, 2), tiles)
    with pytest.raises(ValueError, match="do not fit 3"):
        unmix_tiles(torch.zeros(3, 1, 3, 3), tiles)
    with pytest.raises(ValueError, match="'layer9' is not one of neck, backbone, stem"):
        unmixed_features(detector, torch.zeros(2, 3, 96, 96), tiles, "layer9")
