"""What is supervised in a mixed image, and how much: LossMix and the rules it is compared with.

A rule is two numbers a pair: the factors by which the shares of the first and of the second image's instances are
multiplied (LossMix, eq. 5: the union of both, weighted). They are host numbers, so instances whose share becomes
exactly 0 are left out without a look at the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mixdet.mixing.boxes import visible_part
from mixdet.mixing.inputs import EMPTY, Layout, Piece, Rect
from mixdet.structures import Instances
from mixdet.structures.boxes import MIN_VISIBLE, area, intersection


@dataclass(frozen=True)
class Part:
    """Instances of one image on their way into a mixed one.

    Attributes:
        instances: in the pixels of their own image.
        piece: where that image goes.
        factor: what their shares are multiplied by.
        order: 0 for the first image mixed, 1 for the second ...: keeps their ``sources`` apart.
    """

    instances: Instances
    piece: Piece
    factor: float
    order: int


@dataclass(frozen=True)
class Rule:
    """A supervision rule; called, it mixes the instances of one pair of images of one size.

    Attributes:
        name: as in ``RULES``.
        factors: lam, the first image's share -> the factors of the first and of the other images' shares.
        unlabelled_partner: whether the second image may be unlabelled.
    """

    name: str
    factors: Callable[[float], tuple[float, float]]
    unlabelled_partner: bool = False

    def __call__(self, first: Instances, second: Instances | None, lam: float) -> Instances:
        """The instances of lam * first + (1 - lam) * second.

        Args:
            first: instances of the first image.
            second: of the second; None, unlabelled, only where the rule allows it.
            lam: share of the first image.

        Returns:
            First's instances, then second's; shares multiplied, those with share 0 left out, ``sources`` of the second
            moved behind those of the first.

        Raises:
            ValueError: the second image is unlabelled and the rule needs its labels.
        """
        self.check(True, second is not None)
        layout = Layout(0, 0, (Piece(0, 0, lam, EMPTY), Piece(0, 0, 1.0 - lam, EMPTY)))
        return join([self.parts((first, second), layout)], first.boxes.device)[0]

    def check(self, first_labelled: bool, second_labelled: bool) -> None:
        """ValueError if labels are missing that the rule may need, whatever lam."""
        if not first_labelled:
            raise ValueError(f"{self.name}: the first images are unlabelled (instances is None): make them the second")
        if not (second_labelled or self.unlabelled_partner):
            raise ValueError(f"{self.name}: the second images are unlabelled: label them, or use the rule dominant")

    def parts(self, mixed: Sequence[Instances | None], layout: Layout) -> list[Part]:
        """The parts that have a say, for the images that ``layout`` mixes; an image alone keeps all its share."""
        lam = layout.pieces[0].share
        first, other = self.factors(lam) if len(mixed) > 1 else (1.0, 0.0)
        parts = []
        for order, (instances, piece) in enumerate(zip(mixed, layout.pieces, strict=True)):
            factor = other if order else first
            if factor == 0:
                continue
            if instances is None:
                raise ValueError(
                    f"{self.name}: the unlabelled image is the larger one (lam {lam:.3f}): keep lam >= 0.5"
                )
            parts.append(Part(instances, piece, factor, order))
        return parts


def _interpolate(lam: float) -> tuple[float, float]:
    return lam, 1.0 - lam


def _union(lam: float) -> tuple[float, float]:
    return 1.0, 1.0


def _dominant(lam: float) -> tuple[float, float]:
    return (1.0, 0.0) if lam >= 0.5 else (0.0, 1.0)


def _half(lam: float) -> tuple[float, float]:
    return 0.5, 0.5


def _swapped(lam: float) -> tuple[float, float]:
    return 1.0 - lam, lam


interpolate = Rule("interpolate", _interpolate)  # LossMix: the loss of an instance counts as its image does
union = Rule("union", _union)  # every box counts fully, however faint
dominant = Rule("dominant", _dominant, unlabelled_partner=True)  # Noise: the fainter image only colours the other
half = Rule("half", _half)  # control: as much weight as LossMix on average, but the same for all
swapped = Rule("swapped", _swapped)  # control: the wrong image's share

RULES: dict[str, Rule] = {
    "interpolate": interpolate,
    "union": union,
    "dominant": dominant,
    "half": half,
    "swapped": swapped,
}


def join(images: Sequence[Sequence[Part]], device: torch.device) -> list[Instances]:
    """The instances of each mixed image, all images in one go (the number of operations does not grow with them).

    Args:
        images: for each mixed image its parts. Boxes of pieces that are cut shrink to what is seen of them
            (``boxes.visible_part``), and instances of which less than a quarter is seen are left out; of ignored ones
            any visible rest stays.
        device: where an image without instances has its empty tensors.

    Returns:
        One ``Instances`` an image, parts in order. ``sources`` of the k-th part are moved by k times one more than the
        largest source of the batch: each image mixed in has its own.
    """
    parts = [part for image in images for part in image]
    if not parts:
        return [Instances.empty(device) for _ in images]
    flat = Instances.concat([part.instances for part in parts])
    boxes, shares, sources = flat.boxes, flat.shares, flat.sources
    if any(part.piece.dx or part.piece.dy for part in parts):
        boxes = boxes + _rows(parts, [(p.piece.dx, p.piece.dy, p.piece.dx, p.piece.dy) for p in parts], boxes)
    if any(part.factor != 1 for part in parts):
        shares = shares * _rows(parts, [part.factor for part in parts], shares)
    if len(flat) and any(part.order for part in parts):
        sources = sources + _rows(parts, [part.order for part in parts], sources) * (sources.amax() + 1)
    flat = replace(flat, boxes=boxes, shares=shares, sources=sources)
    counts = [sum(len(part.instances) for part in image) for image in images]
    if any(part.piece.cut for part in parts):
        flat, counts = _seen(flat, counts, parts)
    return flat.split(counts)


def merge_twins(instances: Instances, first: int) -> Instances:
    """The plain annotations again, where an image was mixed with itself.

    Two copies of a box would be matched as one, at the share of whichever comes first, instead of the sum of both.

    Args:
        instances: (M) of a mixed image, the first image's ``first`` instances first.
        first: how many those are.

    Returns:
        Instances that coincide exactly (box, label, ignored) on both sides made one, with the first's trust and source
        and share min(1, sum). Copies on one side are no twins: the k-th copy is paired with the other side's k-th.
    """
    boxes, labels, ignored = instances.boxes, instances.labels, instances.ignored
    same = (boxes[:, None] == boxes).all(-1) & (labels[:, None] == labels) & (ignored[:, None] == ignored)  # (M, M)
    place = torch.arange(len(instances), device=boxes.device)
    second = place >= first
    copies_before = (same & (second[:, None] == second) & (place[:, None] > place)).sum(1)
    twins = same & ~second[:, None] & second & (copies_before[:, None] == copies_before)
    shares = (instances.shares + (twins * instances.shares).sum(1)).clamp(max=1)
    return replace(instances, shares=shares).select(~twins.any(0))


def _seen(flat: Instances, counts: list[int], parts: Sequence[Part]) -> tuple[Instances, list[int]]:
    cut = _rows(parts, [part.piece.cut for part in parts], flat.ignored)
    windows = _rows(parts, [part.piece.window for part in parts], flat.boxes)
    holes = _rows(parts, [part.piece.hole for part in parts], flat.boxes)
    boxes, seen = visible_part(intersection(flat.boxes, windows), holes)
    keep = ~cut | (seen > 0) & (flat.ignored | (seen >= MIN_VISIBLE * area(flat.boxes)))
    kept = [int(mask.sum()) for mask in keep.cpu().split(counts)]
    return replace(flat, boxes=torch.where(cut[:, None], boxes, flat.boxes)).select(keep), kept


def _rows(parts: Sequence[Part], values: Sequence[float | Rect], like: Tensor) -> Tensor:
    """One row of ``values`` an instance, of the dtype and on the device of ``like``."""
    rows = np.repeat(np.array(values), [len(part.instances) for part in parts], axis=0)
    return torch.from_numpy(rows).to(like)
