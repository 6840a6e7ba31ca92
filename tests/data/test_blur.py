"""The blur against torchvision's."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from mixdet.data.blur import blur, blur_radius, convolve, gaussian


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("sigma", [0.1, 0.8, 2.0])
@pytest.mark.parametrize("size", [(150, 70), (64, 3), (2, 90)])
def test_it_is_torchvisions_and_stays_in_place(device: str, sigma: float, size: tuple[int, int]) -> None:
    canvas = torch.rand(3, 160, 96, generator=torch.Generator().manual_seed(0))
    before, (height, width) = canvas.clone(), size
    side = 2 * blur_radius(sigma, height, width) + 1
    image = canvas[:, :height, :width]
    if device == "cpu":
        blur(image, sigma)
    else:  # what a GPU does
        convolve(image, gaussian(sigma, height, width))
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
    assert gaussian(2.0, 1, 9).tolist() == gaussian(0.0, 9, 9).tolist() == [1.0]
    assert (blur_radius(0.1, 9, 9), blur_radius(2.0, 99, 99), blur_radius(2.0, 4, 99)) == (1, 6, 3)
