"""Instant Teaching: a student labels unlabelled images for itself, at every step, and learns from them in mixed images.

Zhou et al., "Instant-Teaching: An End-to-End Semi-Supervised Object Detection Framework", CVPR 2021.

Algorithm, for labelled images (x_s, y_s) and unlabelled images x_u:

1. A <- w(x_s), B <- w(x_u), C <- s(x_u)                     weak views, and a strong one in a geometry of its own
2. L_s = h(student(A), y_s)
3. y_u <- detections of student(B) with a score of ``score_threshold`` or more, without gradient
4. C', y_u' <- each image of C, with chance ``mix_p``, mixed with a random one of A: half by Mixup, half by a split
5. L_u = h(student(C'), y_u'), all four terms
6. L = L_s + lambda_u L_u

Mixup blends the images by lam ~ Beta(1, 1) and joins their boxes; classes are learned by their image's share, boxes and
the RPN fully: ``detector.mixed_terms: [roi_cls]``. A split puts them side by side or one above the other, cut between
1/4 and 3/4; boxes are cut, and kept where a quarter is seen. There is no teacher and no warm-up.

``co_rectify`` (Instant Teaching*): two students a and b, each with a strong view of its own, and in place of step 3

3a. U <- y_a and y_b, what step 3 gives for each
3b. each u of U, seen by either: u' = (s u + p b) / (s + p), score (s + p) / 2       ``second_opinion``
3c. V <- the U' of a, the U' of b, and U
3d. labels of a <- V seen by b as in 3b, suppressed, scores of ``score_threshold`` or more; labels of b <- V seen by a

Deviations from the authors' code:

- Step 3 is asked in eval mode: with live batch norm, by its running statistics.
- A region is matched to one instance, whose class counts by its share; theirs has an assigner of soft labels.
- Images are mixed centre-aligned on the canvas of both, not the batch's; a split has the labelled one right or below.
- Boxes keep their class in 3b and 3d; another's mean score would be a half at most.
- The second student has the first one's body and FPN, and heads of its own.
- The paper's figure has a mosaic of four images, the code a split of two.
- ``skip_empty`` leaves unlabelled images without a label out, unmixed; they are background otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from mixdet.detectors import FasterRCNN
from mixdet.methods.method import Method
from mixdet.mixing import Beta, Mix
from mixdet.structures import Batch, Detections, Detector, Losses, Step, Stream, TwoStageDetector, Views, supervise
from mixdet.teaching import LeastThreshold, PseudoLabels, asking, kept, pseudo_label, second_opinion, suppress

MIXUP = Mix("blend", "interpolate", Beta(1.0), pairing="aligned")
SPLIT = Mix("paste", "union", pairing="aligned")
NMS = 0.5  # IoU above which the worse of two boxes is suppressed in 3d
STRONG = ("strong", "strong2")  # the view that each student learns from


class InstantTeaching(Method):
    """Train on labelled images, and on unlabelled ones with the student's own labels.

    Args:
        detector: the student (a ``Detector``); with ``co_rectify`` a ``FasterRCNN``.
        score_threshold: detections with this score or more become labels.
        unsup_weight: lambda_u.
        mix_p: chance that an unlabelled image is mixed with a labelled one.
        skip_empty: leave unlabelled images without a pseudo-label out of L_u.
        co_rectify: two students that correct each other's labels.
    """

    def __init__(
        self,
        detector: Detector,
        score_threshold: float = 0.9,
        unsup_weight: float = 1.0,
        mix_p: float = 0.5,
        skip_empty: bool = False,
        co_rectify: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= mix_p <= 1:
            raise ValueError(f"mix_p: {mix_p} is not in [0, 1]")
        if co_rectify and not isinstance(detector, FasterRCNN):
            raise TypeError(f"co_rectify draws new heads: it needs a FasterRCNN, not {type(detector).__name__}")
        self.student: Detector = detector
        self.student2 = detector.with_new_heads() if co_rectify and isinstance(detector, FasterRCNN) else None
        views = STRONG[: len(self.detectors())]
        self.streams = (Stream("labeled", labeled=True), Stream("unlabeled", labeled=False, views=views))
        self.threshold = LeastThreshold(score_threshold)
        self.unsup_weight = unsup_weight
        self.mix_p = mix_p
        self.skip_empty = skip_empty

    def losses(self, *, step: Step, labeled: Views, unlabeled: Views) -> Losses:  # type: ignore[override]
        students = self.detectors().values()
        labels = self._labels(unlabeled.weak)
        losses = Losses({})
        for student, pseudo, view, which in zip(students, labels, STRONG, ("", "2"), strict=False):
            sup = supervise(student, labeled.weak).prefixed(f"sup{which}")
            taught = pseudo.on(unlabeled[view], skip_empty=self.skip_empty)
            some = [len(found) > 0 or not self.skip_empty for found in pseudo.instances]
            taught = mixed_with_labeled(taught, labeled.weak, step.generator, self.mix_p, some)
            unsup = supervise(student, taught).prefixed(f"unsup{which}")
            notes = {f"{name}{which}": value for name, value in pseudo.notes.items()}
            losses = losses + (sup + self.unsup_weight * unsup).noted(**notes)
        return losses

    def _labels(self, weak: Batch) -> tuple[PseudoLabels, ...]:
        """What each student learns of the unlabelled images."""
        if self.student2 is None:
            return (pseudo_label(self.student, weak, self.threshold),)
        return co_rectified(cast(TwoStageDetector, self.student), self.student2, weak, self.threshold)

    def detectors(self) -> dict[str, Detector]:
        students: dict[str, Detector] = {"student": self.student}
        return students if self.student2 is None else {**students, "student2": self.student2}


def mixed_with_labeled(
    taught: Batch, known: Batch, generator: torch.Generator, mix_p: float, some: Sequence[bool] | None = None
) -> Batch:
    """Step 4: unlabelled images, with labels, mixed with labelled ones; one that is not chosen stays as it is.

    Args:
        taught: B unlabelled images with their labels.
        known: labelled images, from which partners are drawn.
        generator: CPU generator.
        mix_p: chance that an image is mixed.
        some: (B,) those that may be mixed: an image that is skipped stays skipped. None for all.
    """
    count = len(taught)
    may = torch.ones(count, dtype=torch.bool) if some is None else torch.tensor(some)
    partners = known.select(torch.randint(len(known), (count,), generator=generator))
    draw = torch.rand(count, generator=generator) / mix_p if mix_p else torch.ones(count)
    mixture = MIXUP.draw(taught, partners, generator)
    blended = MIXUP.apply(taught, partners, replace(mixture, mixed=may & (draw < 0.5)))
    cuts = halves(count, generator)
    return SPLIT.apply(blended, partners, replace(mixture, mixed=may & (draw >= 0.5) & (draw < 1), cuts=cuts))


def halves(count: int, generator: torch.Generator) -> Tensor:
    """What is right of, or below, a cut drawn from the middle half: (count, 4) xyxy relative to the canvas."""
    at, axis = torch.rand(2, count, generator=generator)
    upright, at = axis < 0.5, 0.25 + 0.5 * at
    nothing, whole = torch.zeros(count), torch.ones(count)
    return torch.stack([torch.where(upright, at, nothing), torch.where(upright, nothing, at), whole, whole], 1)


def co_rectified(
    a: TwoStageDetector, b: TwoStageDetector, batch: Batch, threshold: LeastThreshold
) -> tuple[PseudoLabels, PseudoLabels]:
    """Steps 3a to 3d: the labels of ``a``, which ``b`` has the last word on, and those of ``b``."""
    with asking(a, b):
        seen = [(network, network.features(batch.images)) for network in (a, b)]
        found = [network.predict(features, batch) for network, features in seen]
        union = joined([[one.select(threshold(one)) for one in side] for side in found])
        rectified = [second_opinion(network, features, batch, union) for network, features in seen]
        every = joined([*rectified, union])
        of_a, of_b = (
            [suppress(one, NMS) for one in second_opinion(network, features, batch, every)]
            for network, features in seen
        )
        return kept(of_b, threshold, a.num_classes, batch), kept(of_a, threshold, a.num_classes, batch)


def joined(sides: Sequence[Sequence[Detections]]) -> list[Detections]:
    """For each image the detections of all sides, one side after the other."""
    return [Detections.concat(parts) for parts in zip(*sides, strict=True)]
