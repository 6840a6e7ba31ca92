"""Unbiased Teacher: a student and its moving average teach each other, with focal loss against biased labels.

Liu et al., "Unbiased Teacher for Semi-Supervised Object Detection", ICLR 2021; the baseline of MUM (section 3.1).

Algorithm, for labelled images (x_s, y_s) and unlabelled images x_u:

1. A <- w(x_s) + s(x_s), B <- w(x_u), C <- s(x_u)          weak and strong views, one geometry
2. L_s = h(student(A), y_s)
3. until ``burn_in_steps``: L = L_s; then the teacher begins as the student's copy
4. y_u <- detections of teacher(B) with a score above ``score_threshold``
5. L_u = h(student(C), y_u), classification only
6. L = L_s + lambda_u L_u                                  MUM, eq. 2
7. teacher <- decay * teacher + (1 - decay) * student      MUM, eq. 1

The RoI classifier's focal loss (gamma 1.5) is the detector's: ``detector.roi_cls_loss: focal``.

Deviations from the authors' code:

- The teacher is in eval mode, and predicts with the proposals of evaluation; theirs stays in train mode, which frozen
  batch norm hides but dropout does not.
- Only floating-point tensors are averaged; integer buffers are copied.
- During the burn-in the teacher is the student's copy at every step, not an untrained network.
- The unlabelled images are all that are given; the authors' lists leave out images without annotations, which are not
  read here.
- Unlabelled images without a label count as background, as theirs; ``skip_empty`` leaves them out.
- ``unsup_box_loss`` adds the box losses on pseudo-labels that eq. 2 of MUM writes and both codes multiply by 0.
- ``matched_thresholds`` replaces the threshold by one for each class that follows the teacher (LabelMatch's rule).
- ``mix_labeled`` and ``mix_unlabeled`` mix images within step 2's and step 5's batch (LossMix); no paper has that.
"""

from __future__ import annotations

from mixdet.methods.method import LABELED_VIEWS, LabeledViews, Method
from mixdet.mixing import Mix
from mixdet.structures import Detector, Losses, Step, Stream, Views, supervise
from mixdet.teaching import Decay, EMATeacher, FixedThreshold, MatchedThresholds, Threshold, pseudo_label


class UnbiasedTeacher(Method):
    """Train on labelled and unlabelled images.

    Args:
        detector: the student (a ``Detector``).
        score_threshold: detections of the teacher above it become labels.
        unsup_weight: lambda_u.
        decay: of the teacher, with its burn-in.
        labeled_views: views of labelled images the student sees; "both" in the paper.
        unsup_box_loss: also learn boxes from pseudo-labels.
        skip_empty: leave unlabelled images without a pseudo-label out of L_u.
        matched_thresholds: follow a threshold for each class that keeps as many boxes an image as labelled ones have;
            ``score_threshold`` is where they start.
        mix_labeled: mix labelled images; None for not.
        mix_unlabeled: mix unlabelled images with their pseudo-labels; None for not.
    """

    def __init__(
        self,
        detector: Detector,
        score_threshold: float = 0.7,
        unsup_weight: float = 4.0,
        decay: Decay = Decay(0.9996, burn_in_steps=2000),
        labeled_views: LabeledViews = "both",
        unsup_box_loss: bool = False,
        skip_empty: bool = False,
        matched_thresholds: bool = False,
        mix_labeled: Mix | None = None,
        mix_unlabeled: Mix | None = None,
    ) -> None:
        super().__init__()
        self.labeled_views = LABELED_VIEWS[labeled_views]
        self.streams = (
            Stream("labeled", labeled=True, views=tuple(v for v in self.labeled_views if v != "weak")),
            Stream("unlabeled", labeled=False, views=("strong",)),
        )
        self.student: Detector = detector
        self.teacher = EMATeacher(detector)
        self.threshold: Threshold = FixedThreshold(score_threshold)
        if matched_thresholds:
            self.threshold = MatchedThresholds(detector.num_classes, start=score_threshold)
        self.unsup_weight = unsup_weight
        self.decay = decay
        self.unsup_box_loss = unsup_box_loss
        self.skip_empty = skip_empty
        self.mix_labeled = mix_labeled
        self.mix_unlabeled = mix_unlabeled

    def losses(self, *, step: Step, labeled: Views, unlabeled: Views) -> Losses:  # type: ignore[override]
        known = labeled.joined(self.labeled_views)
        if isinstance(self.threshold, MatchedThresholds):
            self.threshold.expect(labeled.weak.labels)
        if self.mix_labeled is not None:
            known = self.mix_labeled(known, known, step.generator)
        sup = supervise(self.student, known).prefixed("sup")
        if step.index < self.decay.burn_in_steps:
            return sup
        pseudo = pseudo_label(self.teacher.network, unlabeled.weak, self.threshold)
        taught = pseudo.on(unlabeled.strong, box_loss=self.unsup_box_loss, skip_empty=self.skip_empty)
        if self.mix_unlabeled is not None:
            taught = self.mix_unlabeled(taught, taught, step.generator)
        unsup = supervise(self.student, taught)
        return (sup + self.unsup_weight * unsup.prefixed("unsup")).noted(**pseudo.notes)

    def after_step(self, step: Step) -> None:
        self.teacher.update(self.student, self.decay.at(step.index))
        if isinstance(self.threshold, MatchedThresholds):
            self.threshold.commit()

    def detectors(self) -> dict[str, Detector]:
        return {"teacher": self.teacher.network, "student": self.student}
