"""Boxes on their way from one view of an image to another, through the pixels of the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mixdet.structures import Batch, Instances
from mixdet.structures.boxes import cut_to_image, transform_boxes


def reproject(instances: list[Instances], source: Batch, target: Batch) -> list[Instances]:
    """Instances of ``source`` in the pixels of ``target``, another view of the same images.

    Boxes become the bounding boxes of their four corners, cut to the valid size; those of which less than a quarter is
    seen are left out, and of ignored ones any visible rest stays. Batches that share their ``affines`` share their
    geometry: nothing is done.

    Args:
        instances: of each image of ``source``.
        source, target: their images in one order.

    Raises:
        ValueError: a batch without affines: its images were mixed.
    """
    if source is target or (source.affines is not None and source.affines is target.affines):
        return instances
    return _placed(instances, _affines(target) @ _inverse(source), target)


def from_original(instances: list[Instances], batch: Batch) -> list[Instances]:
    """Instances of the original of each image in the pixels of ``batch``, cut as by ``reproject``."""
    return _placed(instances, _affines(batch), batch)


def _placed(instances: list[Instances], maps: Tensor, target: Batch) -> list[Instances]:
    """Under ``maps`` (B, 3, 3), cut to the images of ``target``; waits for the device once, to learn what is left."""
    counts = [len(of_image) for of_image in instances]
    if not any(counts):
        return instances
    flat = Instances.concat(instances)
    image = _image_of(counts, flat.boxes)
    limits = target.sizes.flip(1).repeat(1, 2)  # (B, 4): width, height, width, height
    boxes, keep = cut_to_image(transform_boxes(flat.boxes.double(), maps[image]), limits[image], flat.ignored)
    seen = keep.cpu()
    left = replace(flat, boxes=boxes.to(flat.boxes.dtype)).select(seen.nonzero()[:, 0].to(keep.device))
    return left.split([int(part.sum()) for part in seen.split(counts)])


def _image_of(counts: Sequence[int], like: Tensor) -> Tensor:
    """(M,) int64 on the device of ``like``: the image of each of ``counts`` boxes an image."""
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(like.device)


def _affines(batch: Batch) -> Tensor:
    if batch.affines is None:
        raise ValueError("a batch without affines cannot be reprojected: its images were mixed; label before mixing")
    return batch.affines.double()  # which autocast leaves alone


def _inverse(batch: Batch) -> Tensor:
    inverse: Tensor = torch.linalg.inv_ex(_affines(batch)).inverse  # unlike inv, does not wait for the device
    return inverse
