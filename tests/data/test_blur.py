"""The blur against torchvision's, with OpenCV and without."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from mixdet.data import opencv
from mixdet.data.blur import blur, blur_radius, convolve


@pytest.mark.parametrize("which", ["opencv", "torch", "convolution"])
@pytest.mark.parametrize("sigma", [0.1, 0.8, 2.0])
@pytest.mark.parametrize("size", [(150, 70), (64, 3), (2, 90)])
def test_it_is_torchvisions_and_stays_in_place(which: str, sigma: float, size: tuple[int, int], monkeypatch) -> None:
    if which == "torch":
        monkeypatch.setattr(opencv, "cv2", None)
    elif which == "convolution":  # as on a GPU
        monkeypatch.setattr(opencv, "blur", lambda image, kernel: convolve(image, kernel) is None)
    elif opencv.cv2 is None:
        pytest.skip("OpenCV is not installed")
    canvas = torch.rand(3, 160, 96, generator=torch.Generator().manual_seed(0))
    before, (height, width) = canvas.clone(), size
    side = 2 * blur_radius(sigma, height, width) + 1
    blur(canvas[:, :height, :width], sigma)
    expected = TF.gaussian_blur(before[:, :height, :width], [side, side], [sigma, sigma])
    torch.testing.assert_close(canvas[:, :height, :width], expected, rtol=0, atol=1e-6)
    assert torch.equal(canvas[:, height:], before[:, height:])
    assert torch.equal(canvas[:, :height, width:], before[:, :height, width:])


def test_one_pixel_wide_stays_as_it_is() -> None:
    image = torch.rand(3, 1, 9)
    before = image.clone()
    blur(image, 2.0)
    assert torch.equal(image, before)
    assert blur_radius(2.0, 1, 9) == 0
    assert (blur_radius(0.1, 9, 9), blur_radius(2.0, 99, 99), blur_radius(2.0, 4, 99)) == (1, 6, 3)
