"""Which images two data sets share: the same files, copies of them under other names, the same drawn scenes."""

from __future__ import annotations

import os
from hashlib import file_digest

from mixdet.data.dataset import DetectionDataset, ImageSource, SelectedImages
from mixdet.data.images import FileImages


def left_out(dataset: DetectionDataset, others: DetectionDataset) -> DetectionDataset:
    """``dataset`` without the images that are in ``others`` too."""
    found = set(overlap(dataset, others))
    return dataset.subset([i for i in range(len(dataset)) if i not in found])


def shared(dataset: DetectionDataset, others: DetectionDataset) -> int:
    """How many images of ``dataset`` are in ``others`` too."""
    return len(overlap(dataset, others))


def overlap(dataset: DetectionDataset, others: DetectionDataset) -> list[int]:
    """Positions in ``dataset`` of the images that are in ``others`` too.

    Of two files that differ in size neither is opened; those of one size are read to their end.
    """
    own, theirs = identities(dataset), identities(others)
    taken = set(theirs)
    found = {i for i, key in enumerate(own) if key in taken}
    if isinstance(_source(dataset)[0], FileImages) and isinstance(_source(others)[0], FileImages):
        sizes = {os.path.getsize(path) for path in theirs}
        alike = {i: path for i, path in enumerate(own) if i not in found and os.path.getsize(path) in sizes}
        wanted = {os.path.getsize(path) for path in alike.values()}
        copied = {_content(path) for path in theirs if os.path.getsize(path) in wanted}
        found |= {i for i, path in alike.items() if _content(path) in copied}
    return sorted(found)


def identities(dataset: DetectionDataset) -> list[str]:
    """What tells each image of a data set from all others: the file it really is, or its name where there is none."""
    source, positions = _source(dataset)
    if isinstance(source, FileImages):
        return [os.path.realpath(source.path(i)) for i in positions]
    return [source.name(i) for i in positions]


def _source(dataset: DetectionDataset) -> tuple[ImageSource, list[int]]:
    """Where the images come from, and their positions there."""
    if isinstance(dataset.images, SelectedImages):
        return dataset.images.source, dataset.images.indices.tolist()
    return dataset.images, list(range(len(dataset)))


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file_digest(file, "blake2b").digest()
