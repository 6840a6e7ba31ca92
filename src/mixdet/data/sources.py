"""From the text of a recipe to a data set."""

from __future__ import annotations

from pathlib import Path

from mixdet.data.coco import read_coco
from mixdet.data.dataset import DetectionDataset
from mixdet.data.images import quoted
from mixdet.data.voc import is_voc, read_voc
from mixdet.errors import MixdetError

_FORMS = (
    "a COCO file (train.json), a VOC folder with a split (VOC2007:trainval, VOC2007+2012:trainval), "
    "or drawn scenes (scenes:photo, scenes:clipart, scenes:watercolor)"
)


def open_dataset(path: str, images: str | None = None) -> DetectionDataset:
    """The data set that ``path`` describes.

    Annotations are checked in full; the image files themselves by ``check_images``, before training.

    Args:
        path: ``*.json`` (COCO), ``<folder>:<split>`` (VOC), or ``scenes:<style>`` and what may follow it.
        images: where a COCO file's images are, if not beside it.

    Raises:
        MixdetError: for any defect, and for a path of no such form.
    """
    is_json = path.lower().endswith(".json")
    if images is not None and not is_json:
        raise MixdetError(
            f"images = {quoted(images)}: goes with a COCO file only, not with {quoted(path)}; leave it out"
        )
    if path.startswith("scenes:"):
        from mixdet.data.scenes import open_scenes  # drawing is not needed by those who bring data

        return open_scenes(path.removeprefix("scenes:"))
    if is_json:
        return read_coco(path, images)
    if is_voc(path):
        return read_voc(path)
    problem = "is of no known form" if Path(path).exists() else "does not exist"
    raise MixdetError(f"{quoted(path)}: {problem}; give {_FORMS}")
