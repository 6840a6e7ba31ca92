"""Two views of photographs against torchvision's operations on Pillow images, and images a second of the loader.

With OpenCV strong views are drawn in bytes, as in Unbiased Teacher's code, and both sides end with bytes; without it
ours are drawn in [0, 1], and both sides end there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from benchmarks.harness import Row, cpu_seconds, interleaved, milliseconds
from mixdet.data import opencv
from mixdet.data.blur import blur_radius
from mixdet.data.geometry import WeakView
from mixdet.data.packing import Collate, Example, PackedBatch
from mixdet.data.photometric import BRIGHTNESS, CONTRAST, HUE, SATURATION, PhotometricView
from mixdet.data.scenes import scenes
from mixdet.data.streams import ViewedImages
from mixdet.data.strong import StrongView
from mixdet.data.unlabeled import images_of_files

PHOTOGRAPHS = Path("datasets/coco665/images")  # if they are there; drawn scenes else
LONG = 640  # pixels of the longer side of a file
COCO = (640, 672, 704, 736, 768, 800)  # short sides of the views in Unbiased Teacher's code
TINY = (160,)
LONG_SIDE, STRIDE = 1333, 32
IMAGES, BATCH = 16, 8
ADJUST = {
    BRIGHTNESS: TF.adjust_brightness,
    CONTRAST: TF.adjust_contrast,
    SATURATION: TF.adjust_saturation,
    HUE: TF.adjust_hue,
}
Blur = Callable[[Image.Image, float], Image.Image]


def torchvisions_blur(image: Image.Image, sigma: float) -> Image.Image:
    side = 2 * blur_radius(sigma, image.height, image.width) + 1
    return TF.gaussian_blur(image, [side, side], [sigma, sigma])


def pillows_blur(image: Image.Image, sigma: float) -> Image.Image:
    """Three box blurs, as in Unbiased Teacher's code."""
    return image.filter(ImageFilter.GaussianBlur(sigma))


def per_sample(path: str, example: Example, blur: Blur, octets: bool) -> tuple[Tensor, Tensor]:
    """The views that were drawn for ``example``, (3, H, W) uint8 or float in [0, 1]."""
    size, drawn = list(example.weak.image.shape[1:]), example.drawn["strong"]
    weak = TF.resize(Image.open(path).convert("RGB"), size, TF.InterpolationMode.BILINEAR, antialias=True)
    if example.weak.affine[0, 0] < 0:
        weak = TF.horizontal_flip(weak)
    strong = weak
    for operation in drawn.order[0].tolist():
        if drawn.factors[0, operation] != float(operation != HUE):
            strong = ADJUST[operation](strong, float(drawn.factors[0, operation]))
    if drawn.grey[0]:
        strong = TF.rgb_to_grayscale(strong, 3)
    if drawn.sigmas[0] > 0:
        strong = blur(strong, float(drawn.sigmas[0]))
    weak, strong = (TF.pil_to_tensor(view) for view in (weak, strong))
    if not octets:
        weak, strong = (TF.to_dtype(view, torch.float32, scale=True) for view in (weak, strong))
    for left, top, right, bottom in drawn.patches[0].tolist():
        if right > left:
            noise = torch.empty_like(strong[:, top:bottom, left:right])
            noise = noise.random_(256) if octets else noise.normal_()
            strong = TF.erase(strong, top, left, bottom - top, right - left, noise, inplace=True)
    return weak, strong


def write_photographs(folder: Path) -> list[Path]:
    """JPEGs whose longer side has ``LONG`` pixels."""
    found = sorted(PHOTOGRAPHS.rglob("*.jpg"))[:IMAGES]
    if len(found) == IMAGES:
        pictures = (Image.open(path).convert("RGB") for path in found)
    else:
        drawn = scenes("photo", count=IMAGES, size=LONG)
        pictures = (TF.to_pil_image(drawn.image(i)) for i in range(IMAGES))
    files = []
    for i, picture in enumerate(pictures):
        scale = LONG / max(picture.size)
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS
        )
        picture.save(folder / f"{i:02}.jpg", quality=92)
        files.append(folder / f"{i:02}.jpg")
    return files


@contextmanager
def without_opencv() -> Iterator[None]:
    module, opencv.cv2 = opencv.cv2, None
    try:
        yield
    finally:
        opencv.cv2 = module


class Loading:
    """Both sides for views of one range of short sides, ``batch`` images at once."""

    def __init__(self, files: list[Path], shorts: tuple[int, ...], batch: int) -> None:
        dataset, view = images_of_files(files), WeakView(shorts, LONG_SIDE, flip=0.5)
        self.one = ViewedImages(dataset, view, False, 0)
        self.two = ViewedImages(dataset, view, False, 0, {"strong": StrongView(PhotometricView())})
        self.examples = [self.two[i, i] for i in range(IMAGES)]
        self.files = files
        self.parts = [range(start, start + batch) for start in range(0, IMAGES, batch)]
        self.collate, self.colour = Collate(STRIDE), torch.zeros(3)

    def ours(self, octets: bool) -> None:
        for part in self.parts:
            packed = self.collate([self.two[i, i] for i in part])
            assert isinstance(packed, PackedBatch)
            if octets:
                assert "strong" in packed.changed_on_cpu().own
            else:
                packed.to_views("cpu", self.colour)

    def theirs(self, octets: bool, blur: Blur = torchvisions_blur) -> None:
        for part in self.parts:
            views = [per_sample(str(self.files[i]), self.examples[i], blur, octets) for i in part]
            if len(part) > 1:
                for images in zip(*views, strict=True):
                    padded(images)

    def load(self) -> None:
        """No strong view, and nothing of what is done on the device."""
        for part in self.parts:
            self.collate([self.one[i, i] for i in part])


def padded(images: tuple[Tensor, ...]) -> Tensor:
    """(B, 3, H, W), as torchvision's detectors make batches."""
    height, width = (-(-max(i.shape[axis] for i in images) // STRIDE) * STRIDE for axis in (1, 2))
    batch = images[0].new_full((len(images), 3, height, width), 0)
    for canvas, image in zip(batch, images, strict=True):
        canvas[:, : image.shape[1], : image.shape[2]].copy_(image)
    return batch


def rows(rounds: int | None) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        files = write_photographs(Path(folder))
        single, batched, small = (Loading(files, *p) for p in ((COCO, 1), (COCO, BATCH), (TINY, BATCH)))

        def row(
            name: str, loading: Loading, octets: bool, goal: float | None = None, blur: Blur = torchvisions_blur
        ) -> Row:
            sides = partial(loading.ours, octets), partial(loading.theirs, octets, blur)
            ratios, a, b = interleaved(*sides, rounds or 15, warmup=1)
            return Row(f"two views / torchvision, {name}", ratios, goal, note=per_image(a, b))

        def speed(name: str, goal: float | None) -> Row:
            speeds = tuple(IMAGES / cpu_seconds(batched.load) for _ in range(rounds or 15))
            return Row(f"loader alone, images a CPU-second, {name}", speeds, goal, at_least=True)

        with without_opencv():
            yield row("without OpenCV", single, False, 0.30)
            yield speed("without OpenCV", None)
        fast = opencv.cv2 is not None
        if fast:
            yield row("with `fast`", single, True, 0.12)
            yield speed("with `fast`", 60)
            yield row("with `fast`, to floats in [0, 1]", single, False)
        which = "with `fast`" if fast else "without OpenCV"
        yield row(f"{which}, Pillow's blur there", single, fast, blur=pillows_blur)
        yield row(f"{which}, batches of {BATCH}", batched, fast)
        yield row(f"{which}, batches of {BATCH}, short side {TINY[0]}", small, fast)


def per_image(ours: float, theirs: float) -> str:
    return f"{milliseconds(ours / IMAGES, theirs / IMAGES)} an image"
