"""Mixing as one operation on batches: Batch x Batch -> Batch (LossMix, eqs. 4 to 6 and 14).

Nothing after it knows that an image was mixed: the pixels are float, the canvas is the pair's, every instance carries
the share of its image, and the denominators of the losses are the detector's affair. So mixing composes with itself,
with pseudo-labels and with domains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from mixdet.mixing.coefficients import PAIRINGS, Beta, Fixed, Pairing, Sampler, Uniform, aligned
from mixdet.mixing.inputs import INPUTS, Input
from mixdet.mixing.plan import Mixture, Plan
from mixdet.mixing.supervision import RULES, Part, Rule, join, merge_twins
from mixdet.structures import Batch, Instances

T = TypeVar("T")


def _each(count: int) -> int:
    return count


def _one(count: int) -> int:
    return min(count, 1)


_LAMS = {"pair": _each, "batch": _one}  # how many lam are drawn for so many pairs


@dataclass(frozen=True)
class Mix:
    """An input operation, a supervision rule and a law for lam. LossMix is ``Mix()``; see ``PRESETS``.

    Attributes:
        input: "blend" (mixup), "paste" (CutMix) or "mosaic" (four images; its supervision must be "union").
        supervision: "interpolate" (LossMix), "union", "dominant" (Noise), or the controls "half" and "swapped".
        lam: sampler of the share of the first image: ``Beta``, ``Uniform`` or ``Fixed``.
        per: "pair" for a lam each, as the paper, or "batch" for one that all pairs share.
        pairing: "shuffle", "roll", "reverse", "derangement", or "aligned" for pairs of two different batches.
        p: chance that a pair is mixed at all.

    Raises:
        ValueError: a name that does not exist, or p outside [0, 1].
    """

    input: str = "blend"
    supervision: str = "interpolate"
    lam: Sampler = field(default_factory=Beta)
    per: str = "pair"
    pairing: str = "shuffle"
    p: float = 1.0

    def __post_init__(self) -> None:
        op = _named(INPUTS, "input", self.input)
        rule = _named(RULES, "supervision", self.supervision)
        _named(_LAMS, "per", self.per)
        _named(PAIRINGS, "pairing", self.pairing)
        if op.partners > 1 and rule is not RULES["union"]:
            raise ValueError(f"Mix: {self.input} counts all instances fully: its supervision is union, not {rule.name}")
        if not 0 <= self.p <= 1:
            raise ValueError(f"Mix: p must be in [0, 1], got {self.p}")

    @property
    def _op(self) -> Input:
        return INPUTS[self.input]

    @property
    def _rule(self) -> Rule:
        return RULES[self.supervision]

    @property
    def _pair_up(self) -> Pairing:
        return PAIRINGS[self.pairing]

    def __call__(self, a: Batch, b: Batch, generator: torch.Generator) -> Batch:
        """``apply`` with a fresh draw. ``b`` may be ``a`` itself, as in the paper: a batch and its shuffled copy."""
        return self.apply(a, b, self.draw(a, b, generator))

    def draw(self, a: Batch, b: Batch, generator: torch.Generator) -> Mixture:
        """Draw who is mixed with whom, and how strongly. Only lengths and ids of the batches are looked at.

        An image that meets itself is not mixed; under ``paste`` and ``mosaic`` nor is one that meets an image with a
        source in common (the other view of one image), for they would hide half of a scene behind itself.

        Args:
            a: batch of B first images.
            b: batch of B partners.
            generator: CPU generator.

        Raises:
            ValueError: batches of different length, or a batch of one image that is to be mixed with itself.
        """
        count = len(a)
        if len(b) != count:
            raise ValueError(f"Mix: pairs need two batches of one length, got {count} and {len(b)} images")
        if a is b and count == 1 and self._pair_up is not aligned:
            raise ValueError("Mix: a batch of one image cannot be mixed: use a batch of two or more, or two batches")
        partner = self._pair_up(count, generator)
        lam = self.lam.sample(_LAMS[self.per](count), generator).expand(count)
        mixed = [self.p == 1] * count
        if 0 < self.p < 1:
            mixed = (torch.rand(count, generator=generator) < self.p).tolist()
        for i, j in enumerate(partner.tolist()):
            mixed[i] = mixed[i] and not (a is b and i == j) and not (self._op.opaque and _common_source(a, i, b, j))
        return Mixture(partner, lam, torch.tensor(mixed, dtype=torch.bool), self._op.draw_cuts(lam, generator))

    def apply(self, a: Batch, b: Batch, mixture: Mixture) -> Batch:
        """The mixed batch (B images): x = lam * a_i + (1 - lam) * b_j, its instances as the supervision rule says.

        Args:
            a: batch of first images, labelled.
            b: batch of partners; unlabelled only under the rule "dominant".
            mixture: from ``draw``, for these batches or other views of them.

        Returns:
            On the elementwise larger canvas of both: ``sizes`` the pairs' canvases, ``weights`` the pair's image
            weights averaged by share, ``ids`` the union of the pair's, ``affines`` None (the view of an original no
            longer is one affine map); ``pad_colour`` that of ``a``. Where a pair has a source in common, instances that
            coincide on both sides are made one (``merge_twins``), so that an image mixed with itself teaches what it
            teaches unmixed. If nothing is mixed the batch is ``a``.

        Raises:
            ValueError: a mixture of another length; an unlabelled batch whose labels are needed.
        """
        plan = self._plan(a, b, mixture)
        self._rule.check(a.instances is not None, b.instances is not None)
        if not any(len(group) > 1 for group in plan.members):
            return a.on_canvas(*plan.canvas)
        every = plan.instances()
        parts = [
            self._rule.parts([every[k] for k in group], layout)
            for layout, group in zip(plan.layouts, plan.members, strict=True)
        ]
        instances = join(parts, a.images.device)
        for i, image in enumerate(parts):
            if len(image) == 2 and plan.twins(i) and not self._op.opaque:
                instances[i] = merge_twins(instances[i], len(image[0].instances))
        return _batch_of(plan, plan.images(self._op), instances, plan.weights())

    def components(self, a: Batch, b: Batch, mixture: Mixture) -> tuple[Batch, Batch]:
        """The literal two targets of eq. 6: the same pixels once for each source of the pair.

        The first batch has the instances of the first images and image weights times lam, the second those of the
        partners and times 1 - lam; shares stay as they were, so that L(first) + L(second) is eq. 14 for a detector that
        knows image weights, and lam * L(first) + (1 - lam) * L(second) for one that does not, given one lam for all
        (``per="batch"``). An image that is not mixed is its own partner. ``supervision`` takes no part.

        Returns:
            Two batches that share their pixels.

        Raises:
            ValueError: an input of more than two images, or an unlabelled batch.
        """
        if self._op.partners > 1:
            raise ValueError(f"Mix.components: {self.input} has {self._op.partners + 1} sources, eq. 6 two")
        plan = self._plan(a, b, mixture)
        drawn = mixture.lam.tolist()
        lam = [layout.pieces[0].share if len(layout.pieces) > 1 else drawn[i] for i, layout in enumerate(plan.layouts)]
        images, weights = plan.images(self._op), plan.joint_weights()
        every = plan.instances()
        batches = []
        for side, factors in ((0, lam), (-1, [1 - share for share in lam])):
            members = [group[side] for group in plan.members]
            parts = [
                [Part(_labelled(every[k]), layout.pieces[side], 1.0, 0)]
                for layout, k in zip(plan.layouts, members, strict=True)
            ]
            instances = join(parts, images.device)
            batches.append(_batch_of(plan, images, instances, weights[members] * weights.new_tensor(factors)))
        return batches[0], batches[1]

    def _plan(self, a: Batch, b: Batch, mixture: Mixture) -> Plan:
        if not len(a) == len(b) == len(mixture.partner):
            raise ValueError(f"Mix: a mixture of {len(mixture.partner)} pairs for {len(a)} and {len(b)} images")
        return Plan.make(a, b, mixture, self._op)


def _named(choices: Mapping[str, T], what: str, name: str) -> T:
    if name not in choices:
        raise ValueError(f"Mix: no {what} {name!r}; there are {', '.join(choices)}")
    return choices[name]


def _common_source(a: Batch, i: int, b: Batch, j: int) -> bool:
    """Whether two images have a source in common; the ids that ``Batch`` makes up mean nothing in another batch."""
    common = a.ids[i] & b.ids[j]
    return any(a is b or not name.startswith("#") for name in common)


def _labelled(instances: Instances | None) -> Instances:
    if instances is None:
        raise ValueError("Mix.components: both batches must be labelled (instances is None)")
    return instances


def _batch_of(plan: Plan, images: Tensor, instances: list[Instances], weights: Tensor) -> Batch:
    return replace(
        plan.a, images=images, sizes=plan.sizes(), instances=instances, weights=weights, affines=None, ids=plan.ids()
    )


# pairing stays a shuffle, the paper's default; with two batches use dataclasses.replace(preset, pairing="aligned")
PRESETS: dict[str, Mix] = {
    "lossmix": Mix("blend", "interpolate", Beta(1.0)),
    "union": Mix("blend", "union", Beta(1.0)),
    "noise": Mix("blend", "dominant", Uniform(0.8, 1.0)),
    "half": Mix("blend", "half", Beta(1.0)),
    "swapped": Mix("blend", "swapped", Beta(1.0)),
    "cutmix": Mix("paste", "interpolate", Beta(1.0)),
    "mosaic": Mix("mosaic", "union", Fixed(1.0)),
}
