"""Supervised training, plain or with mixed images: Baseline, Noise, Union and LossMix.

Vu et al., "LossMix: Simplify and Generalize Mixup for Object Detection and Beyond", sections 3.3, 3.5, supplement A, B.

Algorithm, for a minibatch (x_i, y_i):

1. pair each image with another of the minibatch, draw lam                          supplement A
2. x~ = lam x_i + (1 - lam) x_j on a canvas that holds both, centre-aligned          eq. 4
3. y~ = {(y_i; lam), (y_j; 1 - lam)}: all boxes, each with its image's share         eq. 5
4. L~ = lam L(f(x~), y_i) + (1 - lam) L(f(x~), y_j)                                  eq. 6, eq. 14

Baseline has no mix. Noise keeps the larger side's boxes only; Union gives all boxes share 1; LossMix-Reg mixes half of
the minibatch (``mixed_fraction`` 0.5, within itself) and leaves the rest clean; LossMix-Partial stops mixing at a step
(``mix_until_step``).

Deviations:

- Step 4 is by default one matching against the union of the boxes with a weight each, which is how the supplement
  describes the implementation ("implicitly weighted union"); ``two_targets`` evaluates eq. 6 to the letter, with one
  matching and one sampling a target set (docs/methods/supervised.md).
- An image paired with itself by the shuffle gives its plain loss; the paper does not say what happens then.
- ``ema_decay`` adds a moving average beside the student, which the paper has not; it changes no gradient.
- ``labeled_views`` trains on strong views too or alone, as Unbiased Teacher does with labelled images, and ``tiles``
  mixes tiles and un-mixes features, as section 5 of MUM does in supervised detection (boxes are the un-mixed ones).
  Neither is in the LossMix paper.
"""

from __future__ import annotations

import torch

from mixdet.methods.method import LABELED_VIEWS, LabeledViews, Method
from mixdet.mixing import Mix, TileMix
from mixdet.structures import Batch, Detector, Features, Losses, Step, Stream, Views
from mixdet.teaching import EMATeacher


class Supervised(Method):
    """Train on labelled images, mixed or not.

    Args:
        detector: the network to train (a ``Detector``).
        mix: how images are mixed; None for the plain baseline.
        mixed_fraction: part of each shard, of each of its views, that is mixed within itself; the rest stays clean
            (LossMix-Reg: 0.5).
        mix_until_step: mixing stops at this step (LossMix-Partial: 16,000 of 18,000); None for never.
        two_targets: eq. 6 to the letter instead of the weighted union.
        ema_decay: decay of a moving average of the student, also evaluated; None for none.
        labeled_views: the views that are trained on.
        tiles: mix tiles of the (mixed) images; None for not.
    """

    def __init__(
        self,
        detector: Detector,
        mix: Mix | None = None,
        mixed_fraction: float = 1.0,
        mix_until_step: int | None = None,
        two_targets: bool = False,
        ema_decay: float | None = None,
        labeled_views: LabeledViews = "weak",
        tiles: TileMix | None = None,
    ) -> None:
        super().__init__()
        if not 0 < mixed_fraction <= 1:
            raise ValueError(f"mixed_fraction: {mixed_fraction} is not in (0, 1]")
        self.labeled_views = LABELED_VIEWS[labeled_views]
        self.streams = (Stream("labeled", labeled=True, views=tuple(v for v in self.labeled_views if v != "weak")),)
        self.student: Detector = detector
        self.teacher = None if ema_decay is None else EMATeacher(detector)
        self.mix = mix
        self.mixed_fraction = mixed_fraction
        self.mix_until_step = mix_until_step
        self.two_targets = two_targets
        self.ema_decay = ema_decay
        self.tiles = tiles

    def losses(self, *, step: Step, labeled: Views) -> Losses:  # type: ignore[override]
        batch = labeled.joined(self.labeled_views)
        if self.mix is None or (self.mix_until_step is not None and step.index >= self.mix_until_step):
            return self.student.losses(self._features(batch, step), batch)
        size = len(labeled.weak)
        count = round(self.mixed_fraction * size)
        to_mix, clean = of_each_view(batch, size, count)
        mixture = self.mix.draw(to_mix, to_mix, step.generator)
        sides: tuple[Batch, ...] = (
            self.mix.components(to_mix, to_mix, mixture)
            if self.two_targets
            else (self.mix.apply(to_mix, to_mix, mixture),)
        )
        if clean is not None:
            sides = with_clean(sides, clean)
        features = self._features(sides[0], step)
        losses = self.student.losses(features, sides[0])
        for side in sides[1:]:
            losses = losses.merge(self.student.losses(features, side))
        return losses.noted(lam=mixture.lam.mean())

    def _features(self, batch: Batch, step: Step) -> Features:
        if self.tiles is None:
            return self.student.features(batch.images)
        return self.tiles.features(self.student, batch.images, step.generator)

    def after_step(self, step: Step) -> None:
        if self.teacher is not None and self.ema_decay is not None:
            self.teacher.update(self.student, self.ema_decay)

    def detectors(self) -> dict[str, Detector]:
        networks: dict[str, Detector] = {"student": self.student}
        if self.teacher is not None:
            networks = {"teacher": self.teacher.network, **networks}
        return networks


def of_each_view(batch: Batch, size: int, count: int) -> tuple[Batch, Batch | None]:
    """The first ``count`` of ``size`` images, in each of a batch's views, and the others; None for no others."""
    if count >= size:
        return batch, None
    chosen, others = ([i for i in range(len(batch)) if (i % size < count) is part] for part in (True, False))
    return batch.select(chosen), batch.select(others)


def with_clean(sides: tuple[Batch, ...], clean: Batch) -> tuple[Batch, ...]:
    """The mixed batch (or its two target sides) with unmixed images behind it, which count once."""
    silent = clean.with_weights(torch.zeros_like(clean.weights))
    return tuple(Batch.concat([side, clean if index == 0 else silent]) for index, side in enumerate(sides))
