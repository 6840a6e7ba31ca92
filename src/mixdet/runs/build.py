"""From a recipe to objects: the one place where configuration meets constructors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixdet.data.check import check_images, image_defects
from mixdet.data.coco import read_labels
from mixdet.data.dataset import DetectionDataset
from mixdet.data.geometry import WeakView
from mixdet.data.overlap import left_out, shared
from mixdet.data.sources import open_dataset
from mixdet.data.splits import labeled_subset, select_files
from mixdet.data.streams import Workers
from mixdet.data.unlabeled import open_unlabeled, passed_over
from mixdet.detectors import DETECTORS, ROI_CLS_LOSSES, Ensemble, FasterRCNN, build_backbone
from mixdet.detectors import PRESETS as DETECTOR_PRESETS
from mixdet.errors import MixdetError
from mixdet.evaluation import match_classes
from mixdet.methods import METHODS, Method
from mixdet.mixing import PRESETS as MIX_PRESETS
from mixdet.mixing import Beta, Fixed, Mix, Sampler, TileMix, Uniform
from mixdet.mixing.tiles import BACKBONE, NECK
from mixdet.recipes.decay import DecaySection
from mixdet.recipes.ensemble import EnsembleSection
from mixdet.recipes.method import MethodSection
from mixdet.recipes.mix import BetaLam, FixedLam, MixSection, TilesSection, UniformLam
from mixdet.recipes.recipe import DataSection, DetectorSection, PoolSection, Recipe, SourceSection
from mixdet.teaching import Decay
from mixdet.training.schedules import Schedule

MIX_KEYS = ("mix", "mix_labeled", "mix_unlabeled")
DECODED_FIRST = 3e8  # pixels of a data set, about a thousand photos of 640 x 480: read whole before step 1, in seconds


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
        labeled = build_dataset(data.labeled)
        sections = {name: getattr(data, name) if measured else None for name in ("val", "test")}
        val, test = (_measured_on(labeled, name, section) for name, section in sections.items())
        notes = [note for dataset in (labeled, val, test) if dataset is not None for note in dataset.notes]
        unlabeled = None
        if data.unlabeled is not None and recipe.method.unlabeled:
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
        raise MixdetError(
            f"data.unlabeled={section.path}: all {len(pool)} images are labelled ones (data.labeled); give more images"
        )
    defects = image_defects(rest, decode=_is_small(rest))
    if len(defects) == len(rest):
        raise MixdetError(f"data.unlabeled={section.path}: no image is readable: {next(iter(defects.values()))}")
    return passed_over(rest.subset([i for i in range(len(rest)) if i not in defects]), len(rest), [*defects.values()])


def _measured_on(labeled: DetectionDataset, name: str, section: SourceSection | None) -> DetectionDataset | None:
    if section is None:
        return None
    dataset = build_dataset(section)
    try:
        match_classes(labeled.classes, dataset.classes)
    except MixdetError as fault:
        raise MixdetError(
            f"data.{name}={section.path} does not go with data.labeled={labeled.name}; set data.{name}=FILE, or "
            f"data.{name}=null for none ({fault})"
        ) from None
    return dataset


def build_detector(section: DetectorSection, num_classes: int, *, weights: bool = True) -> FasterRCNN:
    """The detector of a section.

    Args:
        section: of the recipe.
        num_classes: K.
        weights: whether pretrained weights are laid on (not when trained ones follow).
    """
    preset = DETECTOR_PRESETS[section.preset]
    backbone = build_backbone(
        section.body,
        preset.fpn_channels,
        weights=section.weights if weights else "none",
        weights_sha256=section.weights_sha256,
        norm=section.norm,
        frozen_stages=section.frozen_stages,
    )
    return DETECTORS[section.name](
        num_classes,
        backbone,
        preset,
        section.mixed_terms,
        section.background_pull,
        ROI_CLS_LOSSES[section.roi_cls_loss],
    )


def build_ensemble(section: EnsembleSection, num_classes: int) -> Ensemble:
    """The ensemble of a section; no pretrained weights are laid on, for trained ones follow."""
    members = [build_detector(member, num_classes, weights=False) for member in section.members]
    return Ensemble(members, section.weights, section.iou, section.skip)


def build_mix(section: MixSection | str) -> Mix:
    """The mix of a section, or the preset of that name."""
    if isinstance(section, str):
        return MIX_PRESETS[section]
    return Mix(section.input, section.supervision, _sampler(section.lam), section.per, section.pairing, section.p)


def build_tiles(section: TilesSection, stages: Sequence[str]) -> TileMix:
    """The tile mixing of a section, un-mixed at a place that a body with ``stages`` has."""
    places = (NECK, BACKBONE, *stages)
    if section.unmix_at not in places:
        raise MixdetError(f"method.tiles.unmix_at={section.unmix_at}: must be one of {', '.join(places)}")
    return TileMix(section.group_size, section.num_tiles, section.p, section.unmix_at, section.mode)


def build_method(section: MethodSection, detector: FasterRCNN) -> Method:
    """The method of a section around ``detector``; the section's keys are the constructor's keywords."""
    keywords = {key: _built(key, getattr(section, key), detector) for key in type(section).model_fields}
    return METHODS[keywords.pop("name")](detector, **keywords)


def _built(key: str, value: Any, detector: FasterRCNN) -> Any:
    """What the constructor takes for the value of a key."""
    if isinstance(value, TilesSection):
        return build_tiles(value, detector.stages)
    if isinstance(value, DecaySection):
        return Decay(value.value, value.burn_in_steps, value.ramp, value.ramp_steps)
    if key in MIX_KEYS and value is not None:
        return build_mix(value)
    return value


def build_schedule(recipe: Recipe) -> Schedule:
    """The learning-rate schedule."""
    s = recipe.schedule
    return Schedule(s.name, s.steps, s.warmup_steps, s.warmup_factor, s.milestones, s.gamma)


def training_view(data: DataSection) -> WeakView:
    """The weak view of training images."""
    return WeakView(tuple(data.short_sides), data.long_side, data.flip, data.crop)


def build_workers(data: DataSection) -> Workers:
    """The processes that read images."""
    return Workers(data.workers, data.worker_start)


def _sampler(section: BetaLam | UniformLam | FixedLam) -> Sampler:
    if isinstance(section, BetaLam):
        return Beta(section.alpha)
    if isinstance(section, UniformLam):
        return Uniform(section.low, section.high)
    return Fixed(section.value)
