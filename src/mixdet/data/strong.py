"""What a strong view is: an augmentation of the weak view, or of a geometry of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mixdet.data.geometry import WeakView
from mixdet.structures import Batch


class Drawn(Protocol):
    """What was drawn for the images of a batch. Drawn in a worker, applied on any device."""

    @staticmethod
    def stack(drawn: Sequence[Any]) -> Drawn:
        """Of B images, from those of one image each."""
        ...

    def apply(self, batch: Batch) -> Batch:
        """The view of ``batch`` that was drawn; instances are moved where the geometry changes."""
        ...

    def apply_to_bytes(self, images: Tensor, sizes: Tensor) -> Tensor | None:
        """What ``apply`` does to pixels, in whole 8-bit levels on a CPU, where that takes less time and geometry stays.

        Args:
            images: (B, H, W, 3) uint8.
            sizes: (B, 2) valid (height, width).

        Returns:
            (B, H, W, 3) uint8, anything beyond each image; None to leave it to ``apply``.
        """
        return None


class Augmentation(Protocol):
    """A distribution of strong views."""

    def draw(self, height: int, width: int, generator: torch.Generator) -> Drawn:
        """What happens to one image of that size; always the same number of draws."""
        ...


@dataclass(frozen=True)
class StrongView:
    """A view beside the weak one.

    Attributes:
        augmentation: what is done to the pixels.
        geometry: how the image is resized, flipped and cropped before; None shares the weak view's geometry, pixel by
            pixel.
    """

    augmentation: Augmentation
    geometry: WeakView | None = None


def stacked(drawn: Sequence[Drawn]) -> Drawn:
    """Of B images, from those of one image each, all of one kind."""
    return type(drawn[0]).stack(drawn)
