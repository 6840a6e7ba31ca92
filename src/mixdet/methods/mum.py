"""MUM: mix image tiles, un-mix feature tiles, in a mean-teacher framework.

Kim et al., "MUM: Mix Image Tiles and UnMix Feature Tiles for Semi-Supervised Object Detection", CVPR 2022, Algorithm 1.

Algorithm, for labelled images (x_s, y_s) and unlabelled images x_u:

1. A <- w(x_s) + s(x_s), B <- w(x_u), C <- s(x_u)          weak and strong views, one geometry     line 3
2. L_s = h(f_d(f_b(A)), y_s)                                                                       lines 5, 6
3. y_u <- detections of teacher(B) with a score above ``score_threshold``                          line 8
4. f_m = u(f_b(m(C)))                                      tiles mixed, feature tiles un-mixed     line 10
5. L_u = h(f_d(f_m), y_u), classification only                                                     lines 12, 13
6. L = L_s + lambda_u L_u                                                                          line 15
7. teacher <- decay * teacher + (1 - decay) * student      decay from 0.5 to its value             line 16

f_b is the backbone with its FPN, f_d the heads. The RoI classifier's focal loss (gamma 1.5) is the detector's:
``detector.roi_cls_loss: focal``.

Deviations from the authors' code:

- Tile borders lie on cells of stride 32, so that un-mixing is exact; theirs are equal tiles, with the levels that do
  not divide resized (``tiles.mode: reference``). The level above p5 is derived from the un-mixed p5 in either mode.
- Any number of images: a short last group mixes among itself.
- The teacher is in eval mode, and predicts with the proposals of evaluation; integer buffers are copied, not averaged.
- Unlabelled images without a label count as background, as theirs; ``skip_empty`` leaves them out.
- The unlabelled images are all that are given; the authors' lists leave out images without annotations, which are not
  read here.
- ``unsup_box_loss`` adds the box losses on pseudo-labels that eq. 2 writes and the authors' code multiplies by 0.
- ``decay.burn_in_steps`` may put a burn-in before step 3, as the authors' Swin runs do.
- ``matched_thresholds`` replaces the threshold by one for each class that follows the teacher (LabelMatch's rule).
- ``mix_labeled`` and ``mix_unlabeled`` mix images within step 2's and step 5's batch (LossMix); no paper has that.
"""

from __future__ import annotations

from mixdet.methods.method import LABELED_VIEWS, LabeledViews, Method
from mixdet.mixing import Mix, TileMix
from mixdet.structures import Detector, Losses, Step, Stream, Views, supervise
from mixdet.teaching import Decay, EMATeacher, FixedThreshold, MatchedThresholds, Threshold, pseudo_label


class MUM(Method):
    """Train on labelled images, and on unlabelled images in mixed tiles.

    Args:
        detector: the student (a ``Detector``).
        tiles: how tiles are mixed, and where they are un-mixed.
        score_threshold: detections of the teacher above it become labels.
        unsup_weight: lambda_u.
        decay: of the teacher.
        labeled_views: views of labelled images the student sees; "both" in the paper.
        unsup_box_loss: also learn boxes from pseudo-labels.
        skip_empty: leave unlabelled images without a pseudo-label out of L_u.
        matched_thresholds: follow a threshold for each class that keeps as many boxes an image as labelled ones have;
            ``score_threshold`` is where they start.
        mix_labeled: mix labelled images; None for not.
        mix_unlabeled: mix unlabelled images with their pseudo-labels, before their tiles; None for not.
    """

    def __init__(
        self,
        detector: Detector,
        tiles: TileMix = TileMix(),
        score_threshold: float = 0.7,
        unsup_weight: float = 4.0,
        decay: Decay = Decay(0.9996, ramp="linear", ramp_steps=2000),
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
        self.tiles = tiles
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
        features = self.tiles.features(self.student, taught.images, step.generator)
        unsup = self.student.losses(features, taught)
        return (sup + self.unsup_weight * unsup.prefixed("unsup")).noted(**pseudo.notes)

    def after_step(self, step: Step) -> None:
        self.teacher.update(self.student, self.decay.at(step.index))
        if isinstance(self.threshold, MatchedThresholds):
            self.threshold.commit()

    def detectors(self) -> dict[str, Detector]:
        return {"teacher": self.teacher.network, "student": self.student}
