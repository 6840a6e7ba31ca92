"""Faster R-CNN with two RoI heads: one backbone and one RPN, two opinions of every region."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mixdet.detectors.backbones import FPNBackbone
from mixdet.detectors.faster_rcnn import FasterRCNN
from mixdet.detectors.presets import Preset
from mixdet.detectors.roi import RoIHeads, best_after_nms
from mixdet.detectors.weighting import MIXED_TERMS, ElementwiseLoss, cross_entropy
from mixdet.structures import Batch, Detections, Features, Losses


class TwoHeadRCNN(FasterRCNN):
    """A ``FasterRCNN`` with a second RoI head of the same form, which starts elsewhere and samples its own regions.

    Both learn, and what is predicted is what either finds, after suppression. The ``TwoStage`` steps are those of the
    first head, whose parameters have the names and, from the same seed, the values of a ``FasterRCNN``'s.

    Args:
        num_classes, backbone, preset, mixed_terms, background_pull, roi_cls_loss: as in ``FasterRCNN``, of both heads.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: FPNBackbone,
        preset: Preset,
        mixed_terms: Collection[str] = MIXED_TERMS,
        background_pull: float = 0.0,
        roi_cls_loss: ElementwiseLoss = cross_entropy,
    ) -> None:
        super().__init__(num_classes, backbone, preset, mixed_terms, background_pull, roi_cls_loss)
        self.second_heads = RoIHeads(num_classes, preset, frozenset(mixed_terms), background_pull, roi_cls_loss)

    @property
    def heads(self) -> tuple[RoIHeads, RoIHeads]:
        """The first and the second RoI head."""
        return self.roi_heads, self.second_heads

    def losses(self, features: Features, batch: Batch) -> Losses:
        """``rpn_cls``, ``rpn_box``, and ``roi_cls``, ``roi_box`` of both heads, added up."""
        return self.head_losses(features, batch, (batch, batch))

    def head_losses(self, features: Features, batch: Batch, batches: Sequence[Batch]) -> Losses:
        """``losses`` where each part has labels of its own.

        Args:
            features: of the images, which are the same everywhere.
            batch: labelled for the RPN.
            batches: labelled for the first and for the second head.
        """
        outputs = self.rpn_outputs(features)
        losses = self.rpn_losses(outputs, batch)
        proposals = self.propose(outputs, batch)
        for head, labelled in zip(self.heads, batches, strict=True):
            regions = head.sample(proposals, labelled)
            losses = losses.merge(head.losses(head.outputs(head.features(features, regions)), regions))
        return losses

    def predict(self, features: Features, batch: Batch) -> list[Detections]:
        """What either head detects: of overlapping boxes of a class the one with the best score."""
        return [self._suppressed(pair) for pair in zip(*self.head_detections(features, batch), strict=True)]

    def head_detections(self, features: Features, batch: Batch) -> list[list[Detections]]:
        """``predict`` of the first and of the second head alone, with the same proposals."""
        regions = self.propose(self.rpn_outputs(features), batch, self.preset.test_limit)
        return [head.detections(head.outputs(head.features(features, regions)), regions, batch) for head in self.heads]

    def _suppressed(self, found: Sequence[Detections]) -> Detections:
        every = Detections.concat(found)
        limit = self.preset.max_detections
        return every.select(best_after_nms(every.boxes, every.scores, every.labels, self.preset.nms, limit))
