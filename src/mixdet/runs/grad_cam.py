"""Pictures of where detectors look, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from mixdet.data.dataset import DetectionDataset
from mixdet.data.geometry import WeakView
from mixdet.data.streams import evaluation_batches
from mixdet.detectors import GradCAM, UnrelatedLayer, grad_cam
from mixdet.errors import MixdetError
from mixdet.reports.drawing import contact_sheet, draw_detections, heated
from mixdet.runs.infer import Trained
from mixdet.structures import Detections
from mixdet.structures.boxes import transform_boxes


def draw_grad_cams(
    models: Sequence[tuple[str, Trained]],
    dataset: DetectionDataset,
    *,
    class_name: str | None = None,
    rank: int = 1,
    layer: str | None = None,
) -> Image.Image:
    """A row an image: the detection that the first model makes, then why each model gives that box its class.

    Args:
        models: names and detectors; all are asked about the box and the class that the first one chose.
        dataset: the images; annotations are not read.
        class_name: only detections of this class; None for any.
        rank: which detection, counted from the best score.
        layer: as in ``grad_cam``; where a box's score does not depend on it, the picture says so.

    Raises:
        MixdetError: a class or a layer that a model does not have, an ensemble, no such detection in any image, or none
            whose score depends on the layer.
    """
    name, first = models[0]
    for of, model in models:
        if class_name is not None and class_name not in model.card.classes:
            raise MixdetError(f"{of}: no class {class_name!r}; it has {', '.join(model.card.classes)}")
    pictures: list[Image.Image] = []
    captions: list[str] = []
    answers, reason = 0, ""
    for image, chosen in _chosen(first, dataset, class_name, rank):
        plain = draw_detections(image.image(0), chosen, first.card.classes, 0.0)
        pictures.append(plain)
        captions.append(f"{Path(image.images.name(0)).name}: {_place(chosen)}")
        text = first.card.classes[int(chosen.labels[0])]
        for of, model in models:
            if text not in model.card.classes:
                raise MixdetError(f"{of}: no class {text!r}, which {name} found; name one of both with --class")
            try:
                cam = _asked(of, model, image, chosen, model.card.classes.index(text), layer)
            except UnrelatedLayer as fault:
                reason = str(fault)
                pictures.append(plain)
                captions.append(f"does not depend on {layer}, {of}")
            else:
                answers += 1
                pictures.append(_warmed(image.image(0), cam, chosen, first.card.classes))
                captions.append(f"logit {cam.logit:.2f} at {cam.layer}, {of}")
    if not pictures:
        of_class = "" if class_name is None else f" of {class_name!r}"
        raise MixdetError(
            f"{name}: no image has {rank} or more detections{of_class}; give other images, or a lower --rank"
        )
    if not answers:
        raise MixdetError(f"{name}: {reason}; name another --layer")
    return contact_sheet(pictures, 1 + len(models), captions)


def _chosen(
    model: Trained, dataset: DetectionDataset, class_name: str | None, rank: int
) -> Iterator[tuple[DetectionDataset, Detections]]:
    """Each image that has one, alone, and its ``rank``-th best detection, in the image's pixels."""
    for index, found in enumerate(model.stream(dataset)):
        if class_name is not None:
            found = found.select(found.labels == model.card.classes.index(class_name))
        if len(found) >= rank:
            best = found.scores.argsort(descending=True, stable=True)
            yield dataset.subset([index]), found.select(best[rank - 1 : rank])


def _asked(
    name: str, model: Trained, image: DetectionDataset, chosen: Detections, label: int, layer: str | None
) -> GradCAM:
    """Grad-CAM of a box, given in the pixels of the one image of ``image``, as ``model`` sees it."""
    view = WeakView((model.card.short_side,), model.card.long_side)
    packed = next(evaluation_batches(image, view, batch_size=1, stride=model.detector.stride)).weak
    batch = packed.to_batch(model.device, model.detector.pad_colour)
    box = transform_boxes(chosen.boxes, packed.affines[0].to(chosen.boxes))[0]
    try:
        return grad_cam(model.detector, batch, box.to(model.device), label, layer)
    except (TypeError, ValueError) as fault:
        raise MixdetError(f"{name}: {fault}") from None


def _warmed(pixels: Tensor, cam: GradCAM, chosen: Detections, classes: Sequence[str]) -> Image.Image:
    """The (3, H, W) image under the heat of ``cam``, with the box that was asked about and the model's score of it."""
    heat = torch.nn.functional.interpolate(cam.heat[None, None], size=pixels.shape[-2:], mode="bilinear")
    shown = Detections(chosen.boxes, chosen.labels, torch.tensor([cam.score]))
    return draw_detections(heated(pixels, heat[0, 0]), shown, classes, 0.0)


def _place(chosen: Detections) -> str:
    x1, y1, x2, y2 = (round(v) for v in chosen.boxes[0].tolist())
    return f"box {x1}, {y1} to {x2}, {y2}"
