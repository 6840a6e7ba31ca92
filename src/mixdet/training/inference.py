"""A detector over a whole data set."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from mixdet.data.dataset import DetectionDataset
from mixdet.data.geometry import WeakView, to_original
from mixdet.data.streams import HERE, Workers, evaluation_batches
from mixdet.detectors.roi import reporting
from mixdet.structures import Batch, Detections, Detector, as_module


@torch.no_grad()
def detect(
    detector: Detector,
    dataset: DetectionDataset,
    *,
    short_side: int,
    long_side: int,
    device: torch.device,
    batch_size: int = 8,
    workers: Workers = HERE,
    score_threshold: float | None = None,
) -> Iterator[Detections]:
    """Detections of every image of ``dataset`` in order, in the pixels of the original images, on the CPU.

    The detector is in eval mode meanwhile; its mode is put back. Annotations are not read.

    Args:
        detector: on ``device``.
        dataset: the images.
        short_side, long_side: test-time resizing.
        device: where the detector is.
        batch_size: images at a time.
        workers: loader processes.
        score_threshold: only detections above it; None for what comes with the detector.
    """
    module = as_module(detector)
    training = module.training
    module.eval()
    try:
        view = WeakView((short_side,), long_side)
        batches = evaluation_batches(dataset, view, batch_size=batch_size, stride=detector.stride, workers=workers)
        for packed in batches:
            found = _found(detector, packed.weak.to_batch(device, detector.pad_colour), score_threshold)
            for detections, affine in zip(found, packed.weak.affines, strict=True):
                yield to_original(detections.to("cpu"), affine)
    finally:
        module.train(training)


def _found(detector: Detector, batch: Batch, score_threshold: float | None) -> list[Detections]:
    if score_threshold is None:
        return detector.predict(detector.features(batch.images), batch)
    with reporting(detector, score_threshold):
        found = detector.predict(detector.features(batch.images), batch)
    return [one.select(one.scores > score_threshold) for one in found]
