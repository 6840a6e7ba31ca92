"""From a recipe to objects: the one place where configuration meets constructors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Generator

from mixdet.data.geometry import WeakView
from mixdet.data.light_augment import LightAugmentView
from mixdet.data.photometric import PhotometricView
from mixdet.data.rand_augment import RandAugmentView
from mixdet.data.streams import Workers
from mixdet.data.strong import Augmentation
from mixdet.detectors import DETECTORS, ROI_CLS_LOSSES, Ensemble, FasterRCNN, build_backbone
from mixdet.detectors import PRESETS as DETECTOR_PRESETS
from mixdet.errors import MixdetError
from mixdet.methods import METHODS, Method
from mixdet.methods.instant_teaching import mixed_with_labeled
from mixdet.mixing import PRESETS as MIX_PRESETS
from mixdet.mixing import Beta, Fixed, Mix, Sampler, TileMix, Uniform
from mixdet.mixing.tiles import BACKBONE, NECK
from mixdet.recipes.decay import DecaySection
from mixdet.recipes.detector import DetectorSection
from mixdet.recipes.ensemble import EnsembleSection
from mixdet.recipes.method import InstantTeachingSection, MethodSection
from mixdet.recipes.mix import BetaLam, FixedLam, MixSection, TilesSection, UniformLam
from mixdet.recipes.recipe import DataSection, PhotometricSection, RandAugmentSection, Recipe, StrongSection
from mixdet.structures import Batch
from mixdet.teaching import Decay
from mixdet.training.schedules import Schedule

MIX_KEYS = ("mix", "mix_labeled", "mix_unlabeled")


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


def build_unlabeled_mix(section: MethodSection) -> Callable[[Batch, Batch, Generator], Batch] | None:
    """How a method mixes unlabelled images, labels given: (they, labelled ones, generator) -> mixed; None for not."""
    if isinstance(section, InstantTeachingSection):
        return partial(mixed_with_labeled, mix_p=section.mix_p)
    if (mixed := section.mixed_unlabeled()) is None:
        return None
    mix = build_mix(mixed.mix)
    return lambda taught, known, generator: mix(taught, taught, generator)


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


def build_augmentation(section: StrongSection) -> Augmentation:
    """What the strong view of a section does to pixels."""
    if isinstance(section, PhotometricSection):
        view = PhotometricView()
        return PhotometricView(
            section.jitter_p,
            section.brightness,
            section.contrast,
            section.saturation,
            section.hue,
            section.grey_p,
            section.blur_p,
            view.sigma,
            view.erase if section.erase else (),
            section.exact,
        )
    return RandAugmentView() if isinstance(section, RandAugmentSection) else LightAugmentView()


def build_workers(data: DataSection) -> Workers:
    """The processes that read images."""
    return Workers(data.workers, data.worker_start)


def _sampler(section: BetaLam | UniformLam | FixedLam) -> Sampler:
    if isinstance(section, BetaLam):
        return Beta(section.alpha)
    if isinstance(section, UniformLam):
        return Uniform(section.low, section.high)
    return Fixed(section.value)
