"""The drawn scenes as a data set: `scenes` in code, `scenes:photo/train` wherever a path is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixdet.data.dataset import DetectionDataset
from mixdet.data.scenes.layout import CLASSES, Layout, draw_layout
from mixdet.data.scenes.styles import STYLES, draw
from mixdet.errors import MixdetError

SPLITS: dict[str, int] = {"train": 400, "val": 100, "test": 200}  # and how many images each has by default
SIZE = 160
# Set once, so that ``lossmix_small`` (tiny heads on EfficientNet-Lite0, all 400 labels, 1600 images seen) ends at an
# AP50 of 0.6 to 0.9 on val: 0.85 with LossMix (at 0.7, and with twice the learning rate, 0.61).
DIFFICULTY = 0.6

_MIN_SIZE, _MAX_SIZE = 64, 2048
_KEPT_SIZE, _KEPT = 256, 512  # images of this size and less, and how many drawn ones are kept: 100 MB at most
_LAYOUT = 0  # what a random stream is for; style k has stream k + 1
_OPTIONS: dict[str, type[int] | type[float]] = {"count": int, "seed": int, "size": int, "difficulty": float}
_SYNTAX = "write STYLE/SPLIT,option=value, as in photo/train,count=200,seed=3"


@dataclass(frozen=True)
class SceneImages:
    """The images of one split in one style. Holds parameters only; an image is drawn when it is read.

    The layout of image i is drawn from (seed, split, i), the look of a style from a stream of its own, so that
    another style with the same parameters shows the same scenes, and another ``count`` the same images.
    """

    style: str
    split: str
    count: int
    seed: int
    size: int
    difficulty: float

    def __post_init__(self) -> None:
        _one_of("style", self.style, STYLES)
        _one_of("split", self.split, SPLITS)
        _within("count", self.count, 1, 10**9)
        _within("seed", self.seed, 0, 2**63)
        _within("size", self.size, _MIN_SIZE, _MAX_SIZE)
        _within("difficulty", self.difficulty, 0, 1)

    def __len__(self) -> int:
        return self.count

    def read(self, i: int) -> Tensor:
        """(3, H, W) uint8 RGB."""
        return _kept(self, i).clone() if self.size <= _KEPT_SIZE else self.draw(i)

    def draw(self, i: int) -> Tensor:
        """What ``read`` gives, drawn anew."""
        pixels = draw(self.layout(i), self.style, self._generator(i, 1 + list(STYLES).index(self.style)))
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def name(self, i: int) -> str:
        """`scenes:photo/train#12` is image 12, counted from 1 like the image ids."""
        return f"{self.title}#{i + 1}"

    @property
    def title(self) -> str:
        """What `open_scenes` reads, after `scenes:`, to draw these images again (but for their number)."""
        usual = {"seed": 0, "size": SIZE, "difficulty": DIFFICULTY}
        options = [f",{key}={getattr(self, key)}" for key, value in usual.items() if getattr(self, key) != value]
        return f"scenes:{self.style}/{self.split}{''.join(options)}"

    def layout(self, i: int) -> Layout:
        """What is where in image ``i``."""
        return draw_layout(self._generator(i, _LAYOUT), self.size, self.difficulty)

    def _generator(self, i: int, purpose: int) -> np.random.Generator:
        key = (self.seed, list(SPLITS).index(self.split), i, purpose)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


@lru_cache(_KEPT)
def _kept(images: SceneImages, i: int) -> Tensor:
    """Small images are read many times, and drawing one takes as long as a tenth of a training step does for it."""
    return images.draw(i)


def scenes(
    style: str = "photo",
    *,
    split: str = "train",
    count: int | None = None,
    seed: int = 0,
    size: int = SIZE,
    difficulty: float = DIFFICULTY,
) -> DetectionDataset:
    """The embedded data: drawn scenes of 0 to 12 objects of 8 classes, with clutter and occlusion.

    Boxes are the full extent of a shape, seen or covered, clipped to the image; objects that can hardly be seen are
    not there at all. The same seed, split, size and difficulty give the same scenes in every style.

    Args:
        style: one of `STYLES`: "photo" (textured, shaded, noisy), "clipart" (flat, outlined), "watercolor" (soft).
        split: one of `SPLITS`; no two share a scene.
        count: number of images; the split's own if not given.
        seed: another seed, other scenes.
        size: longer side in pixels; the shorter has 3/4 of it or more, upright or lying.
        difficulty: from 0 (large, upright, apart) to 1 (small ones too, at any angle, crowded, cluttered).

    Raises:
        MixdetError: an argument that is not among or within the accepted values.
    """
    chosen = SPLITS.get(split, 0) if count is None else count
    images = SceneImages(style, split, chosen, seed, size, difficulty)
    layouts = [images.layout(i) for i in range(len(images))]
    return DetectionDataset.from_rows(
        images.title,
        images,
        CLASSES,
        sizes=[layout.size for layout in layouts],
        image_index=[i for i, layout in enumerate(layouts) for _ in layout.labels],
        boxes=[box for layout in layouts for box in layout.boxes],
        labels=[label for layout in layouts for label in layout.labels],
    )


def open_scenes(text: str) -> DetectionDataset:
    """The data set that ``text``, what follows `scenes:`, asks for: `photo`, `clipart/val`, `photo/train,count=200`.

    Args:
        text: STYLE[/SPLIT][,option=value]...; the split is "train" if not given; options are count, seed, size and
            difficulty, as in `scenes`.

    Raises:
        MixdetError: one line that names the part that is wrong and what is accepted there.
    """
    what, *pairs = text.split(",")
    style, _, split = what.partition("/")
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if name not in _OPTIONS or not equals:
            raise MixdetError(
                f"scenes:{text}: {pair!r} is not one of {', '.join(f'{o}=…' for o in _OPTIONS)}; {_SYNTAX}"
            )
        try:
            options[name] = _OPTIONS[name](value)
        except ValueError:
            kind = "a whole number" if _OPTIONS[name] is int else "a number"
            raise MixdetError(f"scenes:{text}: {name}={value!r} is not {kind}") from None
    return scenes(style, split=split or "train", **options)


def _one_of(field: str, value: str, accepted: dict[str, Any]) -> None:
    if value not in accepted:
        raise MixdetError(f"scenes: {field} {value!r} is not one of {', '.join(accepted)}; {_SYNTAX}")


def _within(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise MixdetError(f"scenes: {field} {value!r} is not between {low} and {high}")
