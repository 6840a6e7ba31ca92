"""Pixels, sizes, weights and ids of a mixed batch, once it is settled which image goes where."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mixdet.mixing.inputs import Input, Layout, alone
from mixdet.structures import Batch, Instances


@dataclass(frozen=True, eq=False)
class Mixture:
    """What was drawn for B pairs; on the CPU, and free of pixel sizes, so that it serves several views of the images.

    Attributes:
        partner: (B,) int64: image i of the first batch is mixed with image ``partner[i]`` of the second. A mosaic goes
            on from there: ``partner[partner[i]]`` is its third image, and so on.
        lam: (B,) float32, the share of the first image. For ``paste`` the share that was drawn: clipping the rectangle
            makes the one that counts larger.
        mixed: (B,) bool; where False image i is left exactly as it is.
        cuts: (B, 4) float32, xyxy relative to the pair's canvas: the rectangle of ``paste``, the top left tile of
            ``mosaic``; zeros for ``blend``.
    """

    partner: Tensor
    lam: Tensor
    mixed: Tensor
    cuts: Tensor


@dataclass(frozen=True, eq=False)
class Plan:
    """Which images of two batches go where in each image of the mixed one.

    Attributes:
        a: the batch of the first images.
        b: the batch of their partners; may be ``a`` itself, and is then looked at once.
        layouts: one for each image of ``a``.
        members: for each the images its pieces show, as positions in the images of ``a``, then of ``b`` if another.
    """

    a: Batch
    b: Batch
    layouts: list[Layout]
    members: list[tuple[int, ...]]

    @classmethod
    def make(cls, a: Batch, b: Batch, mixture: Mixture, op: Input) -> Plan:
        """Lay out every image; further partners are the partner's partner and so on."""
        sizes = [(height, width) for batch in _distinct(a, b) for height, width in batch.sizes.tolist()]
        offset = 0 if a is b else len(a)
        partner, lam, cuts = mixture.partner.tolist(), mixture.lam.tolist(), mixture.cuts.tolist()
        layouts, members = [], []
        for i, mixed in enumerate(mixture.mixed.tolist()):
            group = [i]
            at = i
            for _ in range(op.partners if mixed else 0):
                at = partner[at]
                group.append(at + offset)
            members.append(tuple(group))
            layouts.append(op.layout([sizes[k] for k in group], lam[i], cuts[i]) if mixed else alone(sizes[i]))
        return cls(a, b, layouts, members)

    @property
    def canvas(self) -> tuple[int, int]:
        """(H, W): the elementwise maximum of both batches' canvases."""
        (height, width), (other_height, other_width) = self.a.canvas, self.b.canvas
        return max(height, other_height), max(width, other_width)

    def instances(self) -> list[Instances | None]:
        """The instances of every image that members may name; None for unlabelled ones."""
        return [
            instances
            for batch in _distinct(self.a, self.b)
            for instances in (batch.instances if batch.instances is not None else [None] * len(batch))
        ]

    def images(self, op: Input) -> Tensor:
        """(B, 3, H, W): black inside the common canvas where no image reaches, the pad colour outside.

        Pixels are mixed in float and never requantised. Where every image fills its common canvas, the usual case
        within one bucket of sizes, a blend is one interpolation of the whole batch.
        """
        if not op.opaque and all(layout.full for layout in self.layouts) and self._same_padding():
            return self._lerp()
        height, width = self.canvas
        sources = [image for batch in _distinct(self.a, self.b) for image in batch.images.unbind()]
        colour = self.a.pad_colour.to(self.a.images).view(1, -1, 1, 1)
        out = colour.repeat(len(self.layouts), 1, height, width)
        for target, layout, group in zip(out.unbind(), self.layouts, self.members, strict=True):
            common = target[:, : layout.height, : layout.width].zero_()
            for piece, k in zip(layout.pieces, group, strict=True):
                x1, y1, x2, y2 = piece.window
                pixels = sources[k][:, y1 - piece.dy : y2 - piece.dy, x1 - piece.dx : x2 - piece.dx]
                op.write(common[:, y1:y2, x1:x2], pixels, piece.share)
        return out

    def sizes(self) -> Tensor:
        """(B, 2) int64: the common canvases."""
        return self.a.sizes.new_tensor([(layout.height, layout.width) for layout in self.layouts])

    def weights(self) -> Tensor:
        """(B,) the image weights averaged by share: lam * w_i + (1 - lam) * w_j, exactly w where all are w."""
        every = self.joint_weights()
        shares = [[0.0] * len(every) for _ in self.layouts]
        for row, layout, group in zip(shares, self.layouts, self.members, strict=True):
            for piece, k in zip(layout.pieces, group, strict=True):
                row[k] += piece.share
        own = self.a.weights
        return own + (every.new_tensor(shares) * (every - own[:, None])).sum(1)

    def joint_weights(self) -> Tensor:
        """The image weights of every image that members may name."""
        return self.a.weights if self.a is self.b else torch.cat([self.a.weights, self.b.weights.to(self.a.weights)])

    def ids(self) -> tuple[frozenset[str], ...]:
        """For each mixed image the source images in it."""
        every = self._source_ids()
        return tuple(frozenset(name for k in group for name in every[k]) for group in self.members)

    def twins(self, i: int) -> bool:
        """Whether image i is mixed with an image that has a source in common with it."""
        every = self._source_ids()
        own, *others = self.members[i]
        return any(every[own] & every[k] for k in others)

    def _source_ids(self) -> list[frozenset[str]]:
        return [ids for batch in _distinct(self.a, self.b) for ids in batch.ids]

    def _same_padding(self) -> bool:
        a, b = self.a, self.b
        return a is b or (a.canvas == b.canvas and torch.equal(a.pad_colour, b.pad_colour))

    def _lerp(self) -> Tensor:
        offset = 0 if self.a is self.b else len(self.a)
        lam = [layout.pieces[0].share for layout in self.layouts]
        partner = [group[-1] - offset if len(group) > 1 else i for i, group in enumerate(self.members)]
        images = self.a.images
        others = self.b.images.index_select(0, torch.tensor(partner, device=images.device))
        return torch.lerp(others, images, images.new_tensor(lam).view(-1, 1, 1, 1))


def _distinct(a: Batch, b: Batch) -> tuple[Batch, ...]:
    return (a,) if a is b else (a, b)
