"""One network's boxes in another's eyes: scored again and moved (Instant Teaching's co-rectify)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mixdet.structures import Batch, Detections, Features, Regions, TwoStage


def second_opinion(
    detector: TwoStage, features: Features, batch: Batch, found: Sequence[Detections]
) -> list[Detections]:
    """The boxes of ``found`` as they are when ``detector`` is asked about them too.

    Each box u with score s goes through the region head, which says p of its class and would move it to b. It becomes
    (s u + p b) / (s + p) with score (s + p) / 2, the mean of both.

    Args:
        detector: who is asked.
        features: its own, of ``batch``.
        batch: the images; its instances are not read.
        found: of each image, from whomever.

    Returns:
        One ``Detections`` an image, in the order of ``found``, labels unchanged.
    """
    counts = [len(of_image) for of_image in found]
    flat = Detections.concat(found)
    u, s = flat.boxes, flat.scores
    image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(u.device)
    regions = Regions(u, image, len(counts))
    logits, deltas = detector.region_outputs(detector.region_features(features, regions))
    place = torch.arange(len(u), device=u.device), flat.labels + 1  # the head counts background first
    p, b = logits.softmax(1)[place], detector.region_boxes(deltas, regions)[place]
    limits = batch.sizes.flip(1).repeat(1, 2)[image].to(b)  # (R, 4): width, height, width, height
    b = torch.minimum(b.clamp(min=0), limits)
    boxes = _mean(u, b, s, p)
    return replace(flat, boxes=boxes, scores=(s + p) / 2).split(counts)


def _mean(u: Tensor, b: Tensor, s: Tensor, p: Tensor) -> Tensor:
    """(R, 4) boxes u and b averaged by their (R,) weights s and p."""
    share = (s / (s + p))[:, None]
    return share * u + (1 - share) * b
