"""Swin-T as a body: any size, any batch, timm's weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from timm.layers.drop import DropPath
from torch import Tensor

from mixdet.detectors import BODIES, PRESETS, FasterRCNN, FPNBackbone, build_backbone
from mixdet.detectors.swin import SHIFT, WINDOW, SwinStage, window_seams
from mixdet.errors import MixdetError
from mixdet.mixing import draw_tiles, mix_tiles, unmixed_features
from mixdet.recipes.checks import WITHOUT_BATCH_NORM
from mixdet.structures import Batch
from oracles.swin import window_attention


@pytest.fixture(scope="module")
def detector() -> FasterRCNN:
    torch.manual_seed(0)
    return FasterRCNN(3, build_backbone("swin_tiny", 64), PRESETS["tiny"]).eval()


@pytest.fixture(scope="module")
def stage(detector: FasterRCNN) -> SwinStage:
    return detector.backbone.body.layers[0]  # type: ignore[no-any-return, index]


def maps_of(backbone: FPNBackbone, images: Tensor) -> dict[str, Tensor]:
    x, maps = backbone.normalize(images), {}
    for name in backbone.stages:
        x = maps[name] = backbone.stage(name, x)
    return maps


@torch.no_grad()
@settings(max_examples=12)
@given(height=st.integers(1, 22), width=st.integers(1, 22), shift=st.sampled_from([0, SHIFT]))
def test_attention_is_the_literal_one_at_every_size(stage: SwinStage, height: int, width: int, shift: int) -> None:
    """Sides that are no multiples of the window, or shorter than it; cells of opposite borders never meet."""
    block = stage.blocks[shift > 0]
    torch.nn.init.normal_(block.attn.relative_position_bias_table, generator=torch.Generator().manual_seed(1))
    x = torch.randn(2, height, width, 96, generator=torch.Generator().manual_seed(height * 100 + width))
    found = block.attended(4 * x, window_seams(height, width))
    expected = torch.stack([window_attention(block.attn, 4 * image, WINDOW, shift) for image in x])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(96, 128), (160, 224)])
def test_shapes_and_gradients_at_sizes_that_no_window_divides(detector: FasterRCNN, size: tuple[int, int]) -> None:
    detector.zero_grad()
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    levels = detector.features(images)
    for name, stride in zip(("p2", "p3", "p4", "p5"), (4, 8, 16, 32), strict=True):
        assert levels[name].shape == (1, 64, size[0] // stride, size[1] // stride)
    sum(level.square().mean() for level in levels.values()).backward()  # type: ignore[union-attr]
    without = [name for name, p in detector.backbone.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@torch.no_grad()
def test_each_output_is_normalised_on_its_way_to_the_pyramid(detector: FasterRCNN) -> None:
    backbone, seen = detector.backbone, []
    maps = {
        name: 3 + 5 * torch.randn(1, width, 4, 4, generator=torch.Generator().manual_seed(0))
        for name, width in zip(backbone.stages[1:], backbone.body.channels, strict=True)
    }
    handles = [conv.register_forward_pre_hook(lambda _, x: seen.append(x[0])) for conv in backbone.fpn.inner_blocks]
    backbone.neck(maps)
    for handle in handles:
        handle.remove()
    assert len(seen) == 4
    for x in seen:
        torch.testing.assert_close(x.mean(dim=1), torch.zeros_like(x[:, 0]), rtol=0, atol=1e-5)
        torch.testing.assert_close(x.var(dim=1, unbiased=False), torch.ones_like(x[:, 0]), rtol=0, atol=1e-5)


@torch.no_grad()
def test_predictions_do_not_depend_on_the_other_images(detector: FasterRCNN) -> None:
    generator = torch.Generator().manual_seed(0)
    image, other, third = torch.rand(3, 1, 3, 96, 128, generator=generator)
    sizes, found, levels = torch.tensor([[90, 125], [96, 100]]), [], []
    for pair in (torch.cat([image, other]), torch.cat([image, third])):
        batch = Batch(pair, sizes, None, pad_colour=detector.pad_colour)
        levels.append(detector.features(pair))
        found.append(detector.predict(levels[-1], batch)[0])
    assert len(found[0]) > 0
    assert torch.equal(found[0].boxes, found[1].boxes)
    assert torch.equal(found[0].scores, found[1].scores)
    for name, level in detector.features(image).items():
        torch.testing.assert_close(level, levels[0][name][:1], rtol=1e-4, atol=1e-5)
        assert torch.equal(levels[0][name][0], levels[1][name][0])


@torch.no_grad()
def test_drop_path_only_while_training_and_not_in_frozen_stages() -> None:
    backbone = build_backbone("swin_tiny", 16, frozen_stages=3)  # stem, stride 4, stride 8
    rates = [m.drop_prob for m in backbone.modules() if isinstance(m, DropPath)]
    assert rates[:6] == [0.0] * 6  # the very first block has none
    assert rates[6::2] == rates[7::2] == pytest.approx([0.2 * i / 11 for i in range(4, 12)], abs=1e-3)
    assert {n.split(".")[1] for n, p in backbone.body.named_parameters() if p.requires_grad} == {"2", "3"}
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    first, second = maps_of(backbone, images), maps_of(backbone, images)
    assert [torch.equal(first[n], second[n]) for n in backbone.stages] == [True, True, True, False, False]
    backbone.eval()
    first, second = maps_of(backbone, images), maps_of(backbone, images)
    assert all(torch.equal(first[n], second[n]) for n in backbone.stages)
    assert all(p.requires_grad for p in build_backbone("swin_tiny", 16).parameters())


@torch.no_grad()
def test_timms_weights_from_a_file_give_timms_features(tmp_path: Path) -> None:
    """At multiples of 224 pixels, where nothing is padded; the file has a classifier, which is not read."""
    torch.manual_seed(1)
    settings = {"pretrained": False, "strict_img_size": False, "always_partition": True}
    network = timm.create_model("swin_tiny_patch4_window7_224", **settings).eval()
    save_file(network.state_dict(), tmp_path / "swin.safetensors")
    backbone = build_backbone("swin_tiny", 16, weights=str(tmp_path / "swin.safetensors")).eval()
    images = torch.rand(1, 3, 224, 448)
    expected = network.forward_intermediates(backbone.normalize(images), intermediates_only=True)
    for found, level in zip(list(maps_of(backbone, images).values())[1:], expected, strict=True):
        torch.testing.assert_close(found, level, rtol=1e-5, atol=1e-5)
    config = network.default_cfg
    assert (backbone.body.mean, backbone.body.std) == (config["mean"], config["std"])


@torch.no_grad()
def test_tiles_are_unmixed_after_any_stage(detector: FasterRCNN) -> None:
    """Patches see no neighbour: un-mixed after the stem, features are those of the plain images."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    tiles = draw_tiles(images.shape, 2, 4, torch.Generator().manual_seed(1))
    mixed, plain = mix_tiles(images, tiles), detector.features(images)
    assert detector.stages == ("stem", "stride4", "stride8", "stride16", "stride32")
    for place in ("neck", "backbone", "stride4", "stem"):
        found = unmixed_features(detector, mixed, tiles, place)
        assert {name: level.shape for name, level in found.items()} == {n: level.shape for n, level in plain.items()}
        assert torch.allclose(found["p5"], plain["p5"], rtol=1e-4, atol=1e-5) == (place == "stem")


@pytest.mark.parametrize("name", list(BODIES))
def test_a_norm_is_refused_where_there_is_none_to_set(name: str) -> None:
    with torch.device("meta"):
        for norm in ("sync", "live"):
            if name not in WITHOUT_BATCH_NORM:
                build_backbone(name, 16, norm=norm)
                continue
            with pytest.raises(
                MixdetError, match=rf"^detector\.norm: '{norm}' given, {name} has no batch norm; use fro"
            ):
                build_backbone(name, 16, norm=norm)
