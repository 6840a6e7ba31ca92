"""Average precision by its full name: COCO (12 numbers) and PASCAL VOC (11 points, area)."""

from mixdet.evaluation.coco import CocoMetrics, coco_ap, coco_metrics
from mixdet.evaluation.evaluate import ClassResult, Evaluation, detections_to_coco, evaluate, match_classes
from mixdet.evaluation.voc import VocMetrics, voc_ap

__all__ = [
    "ClassResult",
    "CocoMetrics",
    "Evaluation",
    "VocMetrics",
    "coco_ap",
    "coco_metrics",
    "detections_to_coco",
    "evaluate",
    "match_classes",
    "voc_ap",
]
