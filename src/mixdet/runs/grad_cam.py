"""Pictures of where detectors look, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

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
    labels = {of: {text: label for label, text in enumerate(model.card.classes)} for of, model in models}
    for of, known in labels.items():
        if class_name is not None and class_name not in known:
            raise MixdetError(f"{of}: no class {class_name!r}; it has {', '.join(known)}")
    pictures: list[Image.Image] = []
    captions: list[str] = []
    unrelated, drawn = "", 0
    for index, found in enumerate(first.stream(dataset)):
        if class_name is not None:
            found = found.select(found.labels == labels[name][class_name])
        if len(found) < rank:
            continue
        chosen = found.select(found.scores.argsort(descending=True, stable=True)[rank - 1 : rank])
        text, one = first.card.classes[int(chosen.labels[0])], dataset.subset([index])
        pictures.append(draw_detections(one.image(0), chosen, first.card.classes, 0.0))
        captions.append(f"{Path(one.images.name(0)).name}: {_place(chosen)}")
        for of, model in models:
            if text not in labels[of]:
                raise MixdetError(f"{of}: no class {text!r}, which {name} found; name one of both with --class")
            try:
                cam = _asked(of, model, one, chosen, labels[of][text], layer)
            except UnrelatedLayer as fault:
                unrelated = str(fault)
                pictures.append(draw_detections(one.image(0), chosen, first.card.classes, 0.0))
                captions.append(f"does not depend on {layer}, {of}")
                continue
            drawn += 1
            shown = Detections(chosen.boxes, chosen.labels, torch.tensor([cam.score]))
            heat = torch.nn.functional.interpolate(cam.heat[None, None], size=one.image(0).shape[-2:], mode="bilinear")
            pictures.append(draw_detections(heated(one.image(0), heat[0, 0]), shown, first.card.classes, 0.0))
            captions.append(f"logit {cam.logit:.2f} at {cam.layer}, {of}")
    if not pictures:
        of_class = "" if class_name is None else f" of {class_name!r}"
        raise MixdetError(
            f"{name}: no image has {rank} or more detections{of_class}; give other images, or a lower --rank"
        )
    if not drawn:
        raise MixdetError(f"{name}: {unrelated}; name another --layer")
    return contact_sheet(pictures, 1 + len(models), captions)


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
    except UnrelatedLayer:
        raise
    except (TypeError, ValueError) as fault:
        raise MixdetError(f"{name}: {fault}") from None


def _place(chosen: Detections) -> str:
    x1, y1, x2, y2 = (round(v) for v in chosen.boxes[0].tolist())
    return f"box {x1}, {y1} to {x2}, {y2}"
