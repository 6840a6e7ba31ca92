"""STAC: learn from labels that an earlier detector gave once, under strong augmentation.

Sohn et al., "A Simple Semi-Supervised Learning Framework for Object Detection", 2020.

Algorithm, for labelled images (x_s, y_s) and unlabelled images x_u with fixed labels y_u:

1. a first detector is fit to the labelled images             a stage of its own, see the recipe ``stac``
2. y_u <- its detections in x_u with a score >= 0.9           once, between the stages, into a COCO file
3. L_s = h(student(w(x_s)), y_s)                              a new student, from ImageNet weights
4. L_u = h(student(s(x_u)), s(y_u)), all four losses          boxes move with the strong view's geometry
5. L = 1/2 (L_s + lambda_u L_u)

Deviations:

- Images without a box of that score get their best one, if they have any, as the authors' code does and the paper does
  not say (``stages.labels.rule: fallback``); images without any detection are left out of x_u.
- Unlabelled images are flipped like labelled ones; the authors' are not.
- Labels are given at the size of evaluation, not at that of the file, by the first stage's best weights on ``data.val``
  (theirs: the last). RoI heads sample 512 regions an image (theirs: 64 on COCO, 256 on VOC).
- Within an object the strong view moves pixels and leaves the box; magnitudes of colour operations are torchvision's.
- ``ema_decay`` adds a moving average beside the student, for a comparison with mean teachers; it changes no gradient.
- ``tiles`` mixes tiles in step 4 and un-mixes features, as MUM's authors propose for other frameworks; boxes are the
  un-mixed ones.
"""

from __future__ import annotations

from mixdet.methods.method import Method
from mixdet.mixing import TileMix
from mixdet.structures import Batch, Detector, Losses, Step, Stream, Views, supervise
from mixdet.teaching import EMATeacher


class STAC(Method):
    """Train on labelled images, and on unlabelled images with the labels of an earlier stage.

    Args:
        detector: the student (a ``Detector``).
        unsup_weight: lambda_u.
        ema_decay: decay of a moving average of the student, also evaluated; None for none.
        tiles: mix tiles of the unlabelled images (MUM); None for not.
    """

    def __init__(
        self,
        detector: Detector,
        unsup_weight: float = 2.0,
        ema_decay: float | None = None,
        tiles: TileMix | None = None,
    ) -> None:
        super().__init__()
        self.streams = (
            Stream("labeled", labeled=True),
            Stream("unlabeled", labeled=True, views=("strong",)),
        )
        self.student: Detector = detector
        self.teacher = None if ema_decay is None else EMATeacher(detector)
        self.unsup_weight = unsup_weight
        self.ema_decay = ema_decay
        self.tiles = tiles

    def losses(self, *, step: Step, labeled: Views, unlabeled: Views) -> Losses:  # type: ignore[override]
        sup = supervise(self.student, labeled.weak).prefixed("sup")
        unsup = self._unsupervised(unlabeled.strong, step).prefixed("unsup")
        return 0.5 * (sup + self.unsup_weight * unsup)

    def _unsupervised(self, batch: Batch, step: Step) -> Losses:
        if self.tiles is None:
            return supervise(self.student, batch)
        return self.student.losses(self.tiles.features(self.student, batch.images, step.generator), batch)

    def after_step(self, step: Step) -> None:
        if self.teacher is not None and self.ema_decay is not None:
            self.teacher.update(self.student, self.ema_decay)

    def detectors(self) -> dict[str, Detector]:
        networks: dict[str, Detector] = {"student": self.student}
        if self.teacher is not None:
            networks = {"teacher": self.teacher.network, **networks}
        return networks
