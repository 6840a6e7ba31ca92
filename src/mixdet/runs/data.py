"""The data sets of a run: opened as the recipe says, checked, and compared with each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixdet.data.check import check_images, image_defects
from mixdet.data.coco import read_labels
from mixdet.data.dataset import DetectionDataset
from mixdet.data.overlap import left_out, shared
from mixdet.data.sources import open_dataset
from mixdet.data.splits import labeled_subset, select_files
from mixdet.data.unlabeled import open_unlabeled, passed_over
from mixdet.errors import MixdetError
from mixdet.evaluation import match_classes
from mixdet.recipes.recipe import PoolSection, Recipe, SourceSection

DECODED_FIRST = 3e8  # pixels of a data set, about a thousand photos of 640 x 480: read whole before step 1, in seconds


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Have an error begin with the ``field`` of the recipe that named the data."""
    try:
        yield
    except MixdetError as fault:
        fault.args = (f"{field}: {fault}",)
        raise


def build_dataset(section: SourceSection) -> DetectionDataset:
    """The data set of a section, under its policies, cut to its fraction or files; its images are looked for.

    Raises:
        MixdetError: any defect, in one line.
    """
    dataset = open_dataset(section.path, section.images)
    if section.files is not None:
        path = Path(section.files)
        if not path.is_file():
            raise MixdetError(f"{path}: no such file; give a text file with one image name a line")
        try:
            names = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
        except UnicodeDecodeError:
            raise MixdetError(f"{path}: the text is not UTF-8; write one image name a line") from None
        dataset = dataset.subset(select_files(dataset, names))
    dataset = dataset.with_policy(crowd=section.crowd, difficult=section.difficult)
    if section.fraction is not None:
        chosen = labeled_subset(
            dataset, fraction=section.fraction, seed=section.fraction_seed, rule=section.fraction_rule
        )
        dataset = dataset.subset(chosen)
    if len(dataset) == 0:
        raise MixdetError(f"{section.path}: no images; give a data set with at least one")
    check_images(dataset, decode=_is_small(dataset))
    return dataset


def _is_small(dataset: DetectionDataset) -> bool:
    return int(dataset.sizes.astype(np.int64).prod(axis=1).sum()) <= DECODED_FIRST


@dataclass(frozen=True, eq=False)
class Data:
    """The data sets of a run, checked; labels of val and test are matched to the training classes by name.

    Attributes:
        labeled: with annotations.
        unlabeled: without, and without the images of ``labeled``; None where the method reads none.
        val, test: what is measured on.
        notes: what was left out or is odd, one line each, for the log.
    """

    labeled: DetectionDataset
    unlabeled: DetectionDataset | None
    val: DetectionDataset | None
    test: DetectionDataset | None
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, recipe: Recipe, *, measured: bool = True) -> Data:
        """Read and check everything before step 1; without val and test unless ``measured``."""
        data = recipe.data
        with naming("data.labeled"):
            labeled = build_dataset(data.labeled)
            if labeled.ignored.all():
                raise MixdetError(f"{labeled.name}: no image has a box to learn from; add boxes, or give other data")
        sections = {name: getattr(data, name) if measured else None for name in ("val", "test")}
        val, test = (_measured_on(labeled, name, section) for name, section in sections.items())
        notes = [note for dataset in (labeled, val, test) if dataset is not None for note in dataset.notes]
        unlabeled = None
        if data.unlabeled is not None and recipe.method.unlabeled:
            with naming("data.unlabeled"):
                unlabeled = build_pool(data.unlabeled, labeled)
            notes += unlabeled.notes
        for name, measured_on in (("val", val), ("test", test)):
            notes += _seen(name, measured_on, labeled, unlabeled)
        return cls(labeled, unlabeled, val, test, tuple(notes))

    def of_stream(self, name: str) -> DetectionDataset:
        """What a method's stream reads."""
        dataset = {"labeled": self.labeled, "unlabeled": self.unlabeled}[name]
        if dataset is None:
            raise MixdetError(f"data.{name}: not given; give a folder of images")
        return dataset

    def fingerprints(self) -> dict[str, str]:
        """Of what is trained on; a run that goes on has to find the same."""
        trained = {"labeled": self.labeled, "unlabeled": self.unlabeled}
        return {name: dataset.fingerprint() for name, dataset in trained.items() if dataset is not None}


def _seen(
    name: str, measured_on: DetectionDataset | None, labeled: DetectionDataset, unlabeled: DetectionDataset | None
) -> Iterator[str]:
    """What is measured on and was trained on, a line for each of both streams."""
    if measured_on is None:
        return
    if count := shared(measured_on, labeled):
        yield (
            f"data.{name}: {count} of its {len(measured_on)} images are trained on (data.labeled): what is measured on "
            "them says nothing about new images; give other ones"
        )
    if unlabeled is not None and (count := shared(unlabeled, measured_on)):
        yield (
            f"{unlabeled.name}: {count} of its images are in data.{name}: what is measured there is not new to the "
            "student"
        )


def build_pool(section: PoolSection, labeled: DetectionDataset) -> DetectionDataset:
    """The unlabelled images of a section, without those of ``labeled``; with labels where the section has some.

    Raises:
        MixdetError: any defect, in one line; nothing left.
    """
    pool = open_unlabeled(section.path, section.images)
    if section.labels is not None:
        pool = read_labels(section.labels, pool, labeled.classes, labeled.category_ids)
    rest = left_out(pool, labeled)
    if len(rest) == 0:
        raise MixdetError(f"{section.path}: all {len(pool)} images are labelled ones (data.labeled); give more images")
    defects = image_defects(rest, decode=_is_small(rest))
    if len(defects) == len(rest):
        raise MixdetError(f"{section.path}: no image is readable: {next(iter(defects.values()))}")
    return passed_over(rest.subset([i for i in range(len(rest)) if i not in defects]), len(rest), [*defects.values()])


def _measured_on(labeled: DetectionDataset, name: str, section: SourceSection | None) -> DetectionDataset | None:
    if section is None:
        return None
    with naming(f"data.{name}"):
        dataset = build_dataset(section)
    try:
        match_classes(labeled.classes, dataset.classes)
    except MixdetError as fault:
        raise MixdetError(
            f"data.{name}={section.path} does not go with data.labeled={labeled.name}; set data.{name}=FILE, or "
            f"data.{name}=null for none ({fault})"
        ) from None
    return dataset
