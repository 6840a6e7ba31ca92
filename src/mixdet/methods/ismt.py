"""ISMT: two heads teach each other with what their mean teachers have found so far.

Yang et al., "Interactive Self-Training with Mean Teachers for Semi-supervised Object Detection", CVPR 2021. There is no
code of the authors. Of the paper are three ideas of its abstract: detections of an image from different iterations are
fused by NMS; several RoI heads label for each other; mean teachers make the labels. The rest is a reconstruction.

Algorithm, for labelled images (x_s, y_s) and unlabelled images x_u with stored boxes M^1, M^2:

1. A <- views of x_s, B <- w(x_u), C <- s(x_u)             weak and strong views, one geometry
2. L_s = h(student(A), y_s), of both heads
3. until ``burn_in_steps``: L = L_s; then the teacher begins as the student's copy
4. D^k <- detections of head k of teacher(B), in the pixels of the originals
5. M^k <- NMS(score_decay * M^k u D^k), scores above ``score_threshold``     fused over visits of the image
6. L_u = h_rpn(student(C), NMS(M^1 u M^2)) + h_1(student(C), M^2) + h_2(student(C), M^1)
7. L = L_s + lambda_u L_u
8. teacher <- decay * teacher + (1 - decay) * student

Reconstruction, or ours:

- The heads differ in how they begin and in the regions they sample; all numbers, the form of the teacher (one moving
  average of everything) and the burn-in are those of Unbiased Teacher's family.
- Old scores fade by ``score_decay`` a visit, so that what is not found again dies; an image keeps 100 boxes a head.
- The RPN, which the heads share, learns from what either head has found.
- The detector that is shipped has both heads; its predictions are NMS of theirs (``TwoHeadRCNN``).
- ``skip_empty``, ``mix_labeled`` and ``mix_unlabeled`` as in ``UnbiasedTeacher``.
"""

from __future__ import annotations

from typing import cast

import torch

from mixdet.data.geometry import to_original
from mixdet.detectors import TwoHeadRCNN
from mixdet.methods.method import LABELED_VIEWS, LabeledViews, Method
from mixdet.mixing import Mix
from mixdet.structures import Batch, Detections, Detector, Instances, Losses, Step, Stream, Views, supervise
from mixdet.teaching import Decay, EMATeacher, FixedThreshold, LabelStore, PseudoLabels, from_original, kept, suppress


class ISMT(Method):
    """Train two heads on labelled images, and on unlabelled images with each other's labels.

    Args:
        detector: the student, a ``TwoHeadRCNN``.
        score_threshold: boxes with a score above it are labels.
        score_decay: of a stored box's score, each time its image is visited.
        unsup_weight: lambda_u.
        decay: of the teacher, with its burn-in.
        labeled_views: views of labelled images the student sees.
        unsup_box_loss: also learn boxes from pseudo-labels.
        skip_empty: leave unlabelled images without a pseudo-label out of L_u, for each head on its own.
        mix_labeled: mix labelled images; None for not.
        mix_unlabeled: mix unlabelled images with their pseudo-labels; None for not.
    """

    def __init__(
        self,
        detector: Detector,
        score_threshold: float = 0.7,
        score_decay: float = 0.99,
        unsup_weight: float = 1.0,
        decay: Decay = Decay(0.999, burn_in_steps=2000),
        labeled_views: LabeledViews = "both",
        unsup_box_loss: bool = True,
        skip_empty: bool = False,
        mix_labeled: Mix | None = None,
        mix_unlabeled: Mix | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(detector, TwoHeadRCNN):
            raise TypeError(f"ISMT teaches two heads: it needs a TwoHeadRCNN, not {type(detector).__name__}")
        self.labeled_views = LABELED_VIEWS[labeled_views]
        self.streams = (
            Stream("labeled", labeled=True, views=tuple(v for v in self.labeled_views if v != "weak")),
            Stream("unlabeled", labeled=False, views=("strong",)),
        )
        self.student: TwoHeadRCNN = detector
        self.teacher = EMATeacher(detector)
        self.store = LabelStore(len(detector.heads), score_threshold, score_decay)
        self.threshold = FixedThreshold(score_threshold)
        self.unsup_weight = unsup_weight
        self.decay = decay
        self.unsup_box_loss = unsup_box_loss
        self.skip_empty = skip_empty
        self.mix_labeled = mix_labeled
        self.mix_unlabeled = mix_unlabeled

    def losses(self, *, step: Step, labeled: Views, unlabeled: Views) -> Losses:  # type: ignore[override]
        known = labeled.joined(self.labeled_views)
        if self.mix_labeled is not None:
            known = self.mix_labeled(known, known, step.generator)
        sup = supervise(self.student, known).prefixed("sup")
        if step.index < self.decay.burn_in_steps:
            return sup
        first, second, either = self._labels(unlabeled.weak)
        taught = [
            labels.on(unlabeled.strong, box_loss=self.unsup_box_loss, skip_empty=self.skip_empty)
            for labels in (either, second, first)
        ]
        if self.mix_unlabeled is not None:
            mixture = self.mix_unlabeled.draw(taught[0], taught[0], step.generator)
            taught = [self.mix_unlabeled.apply(batch, batch, mixture) for batch in taught]
        for_rpn, *for_heads = taught
        unsup = self.student.head_losses(self.student.features(for_rpn.images), for_rpn, for_heads)
        return (sup + self.unsup_weight * unsup.prefixed("unsup")).noted(**either.notes)

    def after_step(self, step: Step) -> None:
        self.teacher.update(self.student, self.decay.at(step.index))
        if step.index >= self.decay.burn_in_steps:
            self.store.commit()

    def detectors(self) -> dict[str, Detector]:
        return {"teacher": self.teacher.network, "student": self.student}

    @torch.no_grad()
    def _labels(self, weak: Batch) -> list[PseudoLabels]:
        """Steps 4 and 5: M^1, M^2 and NMS(M^1 u M^2), in the pixels of ``weak``."""
        if weak.affines is None:
            raise ValueError("ISMT: boxes are stored in the pixels of the originals, and this batch has no affines")
        network, affines = cast(TwoHeadRCNN, self.teacher.network), weak.affines.cpu()
        seen = network.head_detections(network.features(weak.images), weak)
        found = [[to_original(d.to("cpu"), a) for d, a in zip(ds, affines, strict=True)] for ds in seen]
        visits = zip(weak.ids, zip(*found, strict=True), strict=True)
        first, second = zip(*(self.store.visit(name, pair) for (name,), pair in visits), strict=True)
        either = [suppress(Detections.concat(pair), self.store.iou) for pair in zip(first, second, strict=True)]
        new, old = (
            kept([*a, *b], self.threshold, self.student.num_classes, weak).notes for a, b in (found, (first, second))
        )
        notes = old | {name: new[name] for name in ("pseudo_passed", "pseudo_scores")}  # of what was detected just now
        device, labels = weak.images.device, []
        for side in (first, second, either):
            instances = [Instances(d.boxes, d.labels).to(device) for d in side]
            labels.append(PseudoLabels(from_original(instances, weak), notes, weak))
        return labels
