"""Data sets: readers into packed arrays, checks before step 1, splits, and the drawn scenes."""

from mixdet.data.check import check_images
from mixdet.data.coco import read_coco
from mixdet.data.dataset import DetectionDataset, ImageSource, Policy
from mixdet.data.images import FileImages, image_size, read_image
from mixdet.data.sources import open_dataset
from mixdet.data.splits import labeled_subset, select_files
from mixdet.data.voc import VOC_CLASSES, read_voc

__all__ = [
    "VOC_CLASSES",
    "DetectionDataset",
    "FileImages",
    "ImageSource",
    "Policy",
    "check_images",
    "image_size",
    "labeled_subset",
    "open_dataset",
    "read_coco",
    "read_image",
    "read_voc",
    "select_files",
]
