"""What is annotated in one image, and how much each annotation counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

EVERYWHERE = 1e5  # pixels: beyond any anchor of any image


@dataclass(frozen=True, eq=False)
class Instances:
    """The annotations of one image (M instances). Nothing is changed in place: every method returns a new object.

    A weight says how much of the stock loss an instance keeps. Trust (``cls_weights``, ``box_weights``) is set
    by whoever made the label; ``shares`` is how much of the instance's own image is in the mixed one (lam of
    LossMix, eq. 5) and is set by mixing alone, so that a detector can leave shares out of single loss terms
    (Table 3) without touching trust.

    Attributes:
        boxes: (M, 4) float32, absolute-pixel xyxy of the view they belong to.
        labels: (M,) int64 in [0, num_classes).
        cls_weights: (M,) trust in the label; ones if not given.
        box_weights: (M,) trust in the box; ones if not given.
        shares: (M,) mixing share of the instance's image; ones if not given.
        ignored: (M,) bool: crowd or difficult. Never positive; background inside loses that image's share.
        sources: (M,) int64: which of the images mixed here an instance comes from (0 in an unmixed image).
            Two overlapping ignored regions of one image remove its share once, not twice.
    """

    boxes: Tensor
    labels: Tensor
    cls_weights: Tensor = None  # type: ignore[assignment]  # filled in __post_init__
    box_weights: Tensor = None  # type: ignore[assignment]
    shares: Tensor = None  # type: ignore[assignment]
    ignored: Tensor = None  # type: ignore[assignment]
    sources: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        count, device = len(self.labels), self.boxes.device
        if self.boxes.shape != (count, 4):
            raise ValueError(f"boxes: expected shape ({count}, 4) for {count} labels, got {tuple(self.boxes.shape)}")
        for name in ("cls_weights", "box_weights", "shares"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, torch.ones(count, device=device))
        if self.ignored is None:
            object.__setattr__(self, "ignored", torch.zeros(count, dtype=torch.bool, device=device))
        if self.sources is None:
            object.__setattr__(self, "sources", torch.zeros(count, dtype=torch.int64, device=device))
        for name in ("cls_weights", "box_weights", "shares", "ignored", "sources"):
            if getattr(self, name).shape != (count,):
                raise ValueError(f"{name}: expected shape ({count},), got {tuple(getattr(self, name).shape)}")

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def empty(cls, device: torch.device | str = "cpu") -> Instances:
        """No instance at all: a valid, negative image."""
        return cls(torch.zeros(0, 4, device=device), torch.zeros(0, dtype=torch.int64, device=device))

    @classmethod
    def unknown(cls, device: torch.device | str = "cpu") -> Instances:
        """One ignored instance over everything: an image of which nothing is known, and nothing taught."""
        everything = torch.tensor([[-EVERYWHERE, -EVERYWHERE, EVERYWHERE, EVERYWHERE]], device=device)
        label = torch.zeros(1, dtype=torch.int64, device=device)
        return cls(everything, label, ignored=torch.ones(1, dtype=torch.bool, device=device))

    def scaled(self, weight: float | Tensor) -> Instances:
        """Both trust weights times ``weight`` (a number or (M,))."""
        return replace(self, cls_weights=self.cls_weights * weight, box_weights=self.box_weights * weight)

    def shared(self, lam: float | Tensor) -> Instances:
        """Shares times ``lam`` (a number or (M,)): what mixing does to an image's instances (LossMix, eq. 5)."""
        return replace(self, shares=self.shares * lam)

    def without_box_loss(self) -> Instances:
        """Box trust 0: the rule for pseudo-labels whose boxes are not to be learned from."""
        return replace(self, box_weights=torch.zeros_like(self.box_weights))

    def shifted(self, dx: float, dy: float) -> Instances:
        """Boxes moved by (dx, dy) pixels."""
        return replace(self, boxes=self.boxes + self.boxes.new_tensor([dx, dy, dx, dy]))

    def select(self, index: Tensor) -> Instances:
        """The instances at ``index`` (bool mask or int64 positions)."""
        return Instances(*(getattr(self, f.name)[index] for f in fields(self)))

    def split(self, counts: Sequence[int]) -> list[Instances]:
        """The instances cut into parts of ``counts``, in order: what ``concat`` joined."""
        columns = [getattr(self, f.name).split(counts) for f in fields(self)]
        return [Instances(*row) for row in zip(*columns, strict=True)]

    def to(self, device: torch.device | str) -> Instances:
        return Instances(*(getattr(self, f.name).to(device) for f in fields(self)))

    @staticmethod
    def concat(parts: Sequence[Instances]) -> Instances:
        """All instances of ``parts`` (at least one) in order; ``sources`` are kept as they are."""
        return Instances(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Instances)))
