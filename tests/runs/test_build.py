"""The schema and the constructors say the same: keywords, defaults, and every choice."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import pytest
import torch
from timm.layers.drop import DropPath
from torch import nn

from mixdet.data import open_dataset
from mixdet.data.dataset import DetectionDataset
from mixdet.data.dataset import Policy as DataPolicy
from mixdet.data.geometry import WeakView
from mixdet.data.light_augment import LightAugmentView
from mixdet.data.photometric import PhotometricView
from mixdet.data.rand_augment import RandAugmentView
from mixdet.data.splits import SplitRule
from mixdet.data.streams import WorkerStart
from mixdet.detectors import BODIES, DETECTORS, MIXED_TERMS, ROI_CLS_LOSSES, FasterRCNN, TwoHeadRCNN, build_backbone
from mixdet.detectors import PRESETS as DETECTOR_PRESETS
from mixdet.detectors.backbones import NORMS
from mixdet.detectors.swin import SwinTinyBody
from mixdet.errors import EnvironmentFault, MixdetError
from mixdet.evaluation.evaluate import MetricName
from mixdet.methods import ISMT, METHODS, MUM, STAC, InstantTeaching, MultiPhase, Supervised
from mixdet.methods.method import LABELED_VIEWS
from mixdet.mixing import INPUTS, PAIRINGS, PRESETS, RULES, Beta, Fixed, Mix, TileMix, Uniform
from mixdet.mixing.mix import _LAMS
from mixdet.mixing.tiles import TileMode
from mixdet.recipes import Recipe, load_recipe
from mixdet.recipes.detector import DetectorSection
from mixdet.recipes.method import (
    DecaySection,
    InstantTeachingSection,
    MethodSection,
    MultiPhaseSection,
    MUMSection,
    STACSection,
    SupervisedSection,
)
from mixdet.recipes.mix import BetaLam, FixedLam, MixPreset, MixSection, TilesSection, UniformLam
from mixdet.recipes.recipe import (
    DataSection,
    EvaluationSection,
    LightAugmentSection,
    OptimSection,
    PhotometricSection,
    Policy,
    RandAugmentSection,
    ScheduleSection,
    SourceSection,
)
from mixdet.recipes.section import Key, Section
from mixdet.runs.build import (
    build_augmentation,
    build_detector,
    build_method,
    build_mix,
    build_schedule,
    build_tiles,
    training_view,
)
from mixdet.runs.data import Data, build_dataset, naming
from mixdet.teaching import Decay
from mixdet.teaching.decay import Ramp
from mixdet.training.optim import build_optimizer
from mixdet.training.schedules import Schedule
from recipes_for_tests import quick_recipe

METHOD_SECTIONS = Key.of(Recipe).child("method").sections  # type: ignore[union-attr]


def _keywords(function: Callable[..., Any]) -> dict[str, Any]:
    """Parameter -> default, those without one left out of the values as ``...``."""
    found = inspect.signature(function).parameters.values()
    return {p.name: ... if p.default is p.empty else p.default for p in found if p.name != "self"}


def _defaults(section: type[Section]) -> dict[str, Any]:
    return {name: ... if f.is_required() else f.default for name, f in section.model_fields.items()}


def _choices(section: type[Section], key: str) -> set[str]:
    found = Key.of(section).child(key)
    assert found is not None
    return set(found.values) or set(found.element().values)


def test_supervised() -> None:
    keywords = _keywords(Supervised.__init__)
    assert keywords.pop("detector") is ...
    section = _defaults(SupervisedSection)
    assert section.pop("name") == "supervised"
    assert section == keywords


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_section(name: str) -> None:
    assert _choices(Recipe, "method") == set()
    sections = {get_args(s.model_fields["name"].annotation)[0]: s for s in Key.of(Recipe).child("method").sections}  # type: ignore[union-attr]
    assert set(sections) == set(METHODS)
    assert set(sections[name].model_fields) - {"name"} == set(_keywords(METHODS[name].__init__)) - {"detector"}


@pytest.mark.parametrize("section", METHOD_SECTIONS, ids=lambda section: section.__name__)
def test_the_defaults_of_a_section_build_the_methods_own(section: type[MethodSection]) -> None:
    heads = {"name": "two_head_rcnn"} if section.two_heads else {}
    detector = build_detector(DetectorSection.model_validate({"body": "tiny", "weights": "none", **heads}), 3)
    name = section.model_fields["name"].default
    built, own = build_method(section(), detector), METHODS[name](detector)  # type: ignore[call-arg]
    assert type(built) is METHODS[name]
    settings = [{k: v for k, v in vars(method).items() if not k.startswith("_")} for method in (built, own)]
    assert settings[0] == settings[1]
    if isinstance(built, ISMT) and isinstance(own, ISMT):
        assert built.store.decay == own.store.decay
        assert built.store.score_threshold == own.store.score_threshold == own.threshold.score
    assert [key for key, _ in built.named_modules()] == [key for key, _ in own.named_modules()]


def test_tiles_and_decay_have_the_keys_of_their_classes() -> None:
    assert _defaults(TilesSection) == {f.name: getattr(TileMix(), f.name) for f in fields(TileMix)}
    assert list(DecaySection.model_fields) == [f.name for f in fields(Decay)]
    assert {**_defaults(DecaySection), "value": ...} == _keywords(Decay)
    own = {f.name: getattr(PhotometricView(), f.name) for f in fields(PhotometricView)} | {"erase": True}
    shown = {key: value for key, value in _defaults(PhotometricSection).items() if key not in ("name", "own_geometry")}
    assert shown == {key: value for key, value in own.items() if key != "sigma"}
    assert build_augmentation(PhotometricSection()) == PhotometricView()
    assert build_augmentation(PhotometricSection(erase=False, hue=0.2)) == PhotometricView(hue=0.2, erase=())
    assert build_augmentation(RandAugmentSection()) == RandAugmentView()
    assert build_augmentation(LightAugmentSection()) == LightAugmentView()


def test_mix() -> None:
    assert list(MixSection.model_fields) == [f.name for f in fields(Mix)]
    assert build_mix(MixSection()) == Mix() == PRESETS["lossmix"]
    assert {**_defaults(MixSection), "lam": Beta()} == {f.name: getattr(Mix(), f.name) for f in fields(Mix)}


@pytest.mark.parametrize(("section", "sampler"), [(BetaLam, Beta), (UniformLam, Uniform), (FixedLam, Fixed)])
def test_lam(section: type[Section], sampler: type) -> None:
    own = _defaults(section)
    assert own.pop("name") == sampler.__name__.lower()
    assert own == _keywords(sampler)


def test_mix_presets() -> None:
    assert set(get_args(MixPreset)) == set(MixSection.presets) == set(PRESETS)
    for name, preset in PRESETS.items():
        assert build_mix(name) is preset
        assert build_mix(MixSection(**MixSection.expand(name) or {})) == preset
    assert build_mix(MixSection(**MixSection.presets["mosaic"])) == Mix("mosaic", "union", Fixed(1.0))


@pytest.mark.parametrize("words", [["method.mix.input=mosaic"], ["method.mix=mosaic", "method.mix.supervision=half"]])
def test_mosaic_counts_every_object_fully(words: list[str]) -> None:
    with pytest.raises(MixdetError, match=r"method\.mix\.input=mosaic, in which every object counts fully; use union$"):
        load_recipe("lossmix_small", words)
    with pytest.raises(ValueError, match="its supervision is union"):
        Mix("mosaic", "half")


def test_faster_rcnn_and_its_backbone() -> None:
    """Keys map to keywords of either constructor; what is not a number of the preset has the same default."""
    own = _defaults(DetectorSection)
    detector, backbone = _keywords(FasterRCNN.__init__), _keywords(build_backbone)
    assert {"name", "body"} | own.keys() - detector.keys() - backbone.keys() == {"name", "body"}
    assert backbone.keys() - own.keys() == {"channels"}  # the preset's
    assert detector.keys() - own.keys() == {"num_classes", "backbone"}
    for key in ("mixed_terms", "background_pull"):
        assert own[key] == detector[key]
    assert ROI_CLS_LOSSES[own["roi_cls_loss"]] is detector["roi_cls_loss"]
    assert all(_keywords(kind.__init__) == detector for kind in DETECTORS.values())
    for key in ("weights_sha256", "norm", "frozen_stages"):
        assert own[key] == backbone[key]


def test_schedule_and_optimizer() -> None:
    own, keywords = _defaults(ScheduleSection), _keywords(Schedule)
    assert own.keys() == keywords.keys()
    for key in ("warmup_factor", "milestones", "gamma"):
        assert own[key] == keywords[key]
    own, keywords = _defaults(OptimSection), _keywords(build_optimizer)
    assert own.keys() - keywords.keys() == {"reference_batch_size", "clip_norm"}  # the linear rule's and the loop's
    assert keywords.keys() - own.keys() == {"method"}
    assert {k: own[k] for k in ("momentum", "weight_decay")} == {k: keywords[k] for k in ("momentum", "weight_decay")}


def test_view_and_policies() -> None:
    data = DataSection(short_sides=(64, 96), long_side=128, flip=0.25)
    assert training_view(data) == WeakView((64, 96), 128, 0.25)
    assert set(get_args(Policy)) == set(get_args(DataPolicy))
    assert set(_keywords(DetectionDataset.with_policy)) == {"crowd", "difficult"} <= SourceSection.model_fields.keys()
    assert {"path", "images"} == set(_keywords(open_dataset)) <= SourceSection.model_fields.keys()


@pytest.mark.parametrize(
    ("section", "key", "known"),
    [
        (DetectorSection, "name", DETECTORS),
        (DetectorSection, "body", BODIES),
        (DetectorSection, "preset", DETECTOR_PRESETS),
        (DetectorSection, "norm", NORMS),
        (DetectorSection, "mixed_terms", MIXED_TERMS),
        (DetectorSection, "roi_cls_loss", ROI_CLS_LOSSES),
        (MixSection, "input", INPUTS),
        (MixSection, "supervision", RULES),
        (MixSection, "per", _LAMS),
        (MixSection, "pairing", PAIRINGS.keys() - {"aligned"}),  # pairs two different batches; a recipe has one
        (SupervisedSection, "mix", PRESETS),
        (MUMSection, "mix_labeled", PRESETS),
        (MUMSection, "mix_unlabeled", PRESETS),
        (MUMSection, "labeled_views", LABELED_VIEWS),
        (TilesSection, "mode", get_args(TileMode)),
        (DecaySection, "ramp", get_args(Ramp)),
        (SourceSection, "fraction_rule", get_args(SplitRule)),
        (DataSection, "worker_start", get_args(WorkerStart)),
        (EvaluationSection, "metric", get_args(MetricName)),
        (ScheduleSection, "name", get_args(inspect.signature(Schedule, eval_str=True).parameters["name"].annotation)),
        (
            OptimSection,
            "name",
            get_args(inspect.signature(build_optimizer, eval_str=True).parameters["name"].annotation),
        ),
    ],
)
def test_the_choices_are_those_there_are(section: type[Section], key: str, known: Any) -> None:
    assert _choices(section, key) == set(known)


def test_every_choice_of_a_recipe_is_among_those_above() -> None:
    """No word list of the schema goes untested: lists here, or names of sections and policies elsewhere."""
    tested = {"body", "preset", "norm", "mixed_terms", "roi_cls_loss", "input", "supervision", "per", "pairing", "mix"}
    tested |= {"metric", "crowd", "difficult", "mix_labeled", "mix_unlabeled", "labeled_views", "mode", "ramp"}
    tested |= {"fraction_rule", "worker_start"}
    other = {"name", "device", "precision", "select_by"}  # of sections, torch, and numbers that checks looks at
    found: set[str] = set()
    todo = [Recipe]
    while todo:
        section = todo.pop()
        for key, field in section.model_fields.items():
            what = Key.of(field.annotation)
            if what.values or what.element().values:
                found.add(key)
            todo += [s for s in what.sections if s is not NoneType]  # type: ignore[misc]
    assert found == tested | other


@pytest.mark.parametrize(("metric", "numbers"), [("coco", {"AP", "AP50", "AP75"}), ("voc07", {"AP", "AP50", "AP75"})])
def test_select_by_names_numbers_that_the_metric_has(metric: str, numbers: set[str]) -> None:
    from mixdet.evaluation import evaluate
    from mixdet.structures import Detections

    dataset = open_dataset("scenes:photo/val,count=1,size=64")
    empty = Detections(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    found = evaluate([empty], dataset, metric)  # type: ignore[arg-type]
    assert numbers <= found.numbers.keys()


def test_a_detector_as_its_section_says() -> None:
    section = DetectorSection(
        body="tiny",
        weights="none",
        norm="live",
        frozen_stages=2,
        mixed_terms=("roi_cls",),
        background_pull=0.5,
        roi_cls_loss="focal",
    )
    detector = build_detector(section, 7)
    assert detector.preset is DETECTOR_PRESETS["tiny"]
    assert detector.num_classes == 7
    assert detector.roi_heads.mixed_terms == {"roi_cls"}
    assert detector.rpn.background_pull == detector.roi_heads.background_pull == 0.5
    assert detector.roi_heads.cls_loss is ROI_CLS_LOSSES["focal"]
    assert [p.requires_grad for p in detector.backbone.body.stride4.parameters()].count(True) == 0
    assert all(p.requires_grad for p in detector.backbone.body.stride8.parameters())
    assert any(isinstance(m, nn.BatchNorm2d) for m in detector.backbone.body.stride8.modules())


def test_two_heads_as_their_section_says() -> None:
    section = DetectorSection(
        name="two_head_rcnn", body="tiny", weights="none", mixed_terms=("roi_cls",), background_pull=0.5
    )
    detector = build_detector(section, 7)
    assert isinstance(detector, TwoHeadRCNN)
    for head in detector.heads:
        assert head.preset is DETECTOR_PRESETS["tiny"]
        assert head.mixed_terms == {"roi_cls"}
        assert head.background_pull == 0.5
        assert head.cls_loss is ROI_CLS_LOSSES["cross_entropy"]
        assert head.box_predictor.cls_score.out_features == 8


def test_a_method_as_its_section_says() -> None:
    detector = build_detector(DetectorSection(body="tiny", weights="none"), 3)
    section = SupervisedSection(
        mix="half", mixed_fraction=0.5, mix_until_step=9, two_targets=True, ema_decay=0.25, labeled_views="both"
    )
    method = build_method(section, detector)
    assert isinstance(method, Supervised)
    own = {key: getattr(method, key) for key in SupervisedSection.model_fields if key != "name"}
    assert own == {
        **section.model_dump(exclude={"name"}),
        "mix": PRESETS["half"],
        "labeled_views": ("weak", "strong"),
    }
    tiled = build_method(SupervisedSection(tiles=TilesSection(num_tiles=3, mode="reference")), detector)
    assert isinstance(tiled, Supervised)
    assert tiled.tiles == TileMix(num_tiles=3, mode="reference")
    stac = build_method(STACSection(tiles=TilesSection(num_tiles=3, unmix_at="backbone")), detector)
    assert isinstance(stac, STAC)
    assert stac.tiles == TileMix(num_tiles=3, unmix_at="backbone")
    assert method.teacher is not None
    words = ["schedule={name: step, steps: 9, warmup_steps: 2, milestones: [4, 6], gamma: 0.5, warmup_factor: 0.25}"]
    assert build_schedule(load_recipe("lossmix_small", words)) == Schedule("step", 9, 2, 0.25, (4, 6), 0.5)


def test_mum_on_swin_is_built_as_its_recipe_says() -> None:
    recipe = load_recipe("mum_swin")
    with torch.device("meta"):  # no memory, no initialisation: only what is where
        method = build_method(recipe.method, build_detector(recipe.detector, 80, weights=False))
    assert isinstance(method, MUM)
    assert isinstance(method.student.backbone.body, SwinTinyBody)  # type: ignore[attr-defined]
    assert all(p.requires_grad for p in method.student.parameters())  # type: ignore[attr-defined]
    method.train()
    rates = {s: [m for m in getattr(method, s).modules() if isinstance(m, DropPath)] for s in ("student", "teacher")}
    assert {s: (len(found), {m.training for m in found}) for s, found in rates.items()} == {
        "student": (22, {True}),
        "teacher": (22, {False}),
    }


def test_each_weight_of_multi_phase_learning_on_its_own() -> None:
    detector = build_detector(DetectorSection(body="tiny", weights="none"), 3)
    for by_overlap, by_similarity in ((True, False), (False, True)):
        method = build_method(MultiPhaseSection(by_overlap=by_overlap, by_similarity=by_similarity), detector)
        assert isinstance(method, MultiPhase)
        assert (method.by_overlap, method.embedding is not None) == (by_overlap, by_similarity)


def test_instant_teaching_as_its_section_says() -> None:
    detector = build_detector(DetectorSection(body="tiny", weights="none"), 3)
    section = InstantTeachingSection(
        score_threshold=0.8, unsup_weight=2.0, mix_p=0.25, skip_empty=True, co_rectify=True
    )
    method = build_method(section, detector)
    assert isinstance(method, InstantTeaching)
    assert (method.threshold.score, method.unsup_weight, method.mix_p, method.skip_empty) == (0.8, 2.0, 0.25, True)
    assert list(method.detectors()) == ["student", "student2"]


def test_a_data_set_as_its_section_says(tmp_path: Path) -> None:
    source = "scenes:photo/train,count=40,size=64"
    whole = build_dataset(SourceSection(path=source))
    assert len(whole) == 40
    part = build_dataset(SourceSection(path=source, fraction=0.25, fraction_seed=1))
    again = build_dataset(SourceSection(path=source, fraction=0.25, fraction_seed=1))
    assert len(part) == 10
    assert part.image_ids.tolist() == again.image_ids.tolist()
    other = build_dataset(SourceSection(path=source, fraction=0.25, fraction_seed=2))
    assert part.image_ids.tolist() != other.image_ids.tolist()
    names = [whole.images.name(i) for i in (3, 1)]
    listed = tmp_path / "names.txt"
    listed.write_text("\n".join(names) + "\n\n")
    chosen = build_dataset(SourceSection(path=source, files=str(listed)))
    assert [chosen.images.name(i) for i in range(2)] == names
    with pytest.raises(MixdetError, match=r"gone\.txt: no such file; give a text file with one image name a line"):
        build_dataset(SourceSection(path=source, files="gone.txt"))
    listed.write_text("\n")
    with pytest.raises(MixdetError, match=r"no images; give a data set with at least one"):
        build_dataset(SourceSection(path=source, files=str(listed)))


def test_tiles_are_unmixed_where_the_body_has_a_place() -> None:
    detector = build_detector(DetectorSection(body="tiny", weights="none"), 3)
    for place in ("neck", "backbone", "stride8"):
        assert build_tiles(TilesSection(unmix_at=place), detector.stages).unmix_at == place
    with pytest.raises(MixdetError, match=r"method\.tiles\.unmix_at=fpn: must be one of neck, backbone, stem, stride4"):
        build_method(MUMSection(tiles=TilesSection(unmix_at="fpn")), detector)


def test_what_is_measured_on_and_was_trained_on_is_said(tmp_path: Path) -> None:
    pool = "data.unlabeled=scenes:photo/val,count=6,size=96"
    same = quick_recipe(tmp_path, pool, "method.name=mum", "data.val=scenes:photo/train,count=12,size=96")
    lines = Data.open(same).notes
    assert len(lines) == 1
    assert "data.val: 12 of its 12 images are trained on (data.labeled)" in lines[0]
    lines = Data.open(quick_recipe(tmp_path, pool, "method.name=mum")).notes
    assert len(lines) == 1
    assert "4 of its images are in data.val: what is measured there is not new to the student" in lines[0]
    assert Data.open(quick_recipe(tmp_path)).notes == ()


def test_an_error_keeps_its_kind_and_code_where_the_field_is_named() -> None:
    for fault in (EnvironmentFault("a.json: gone"), MixdetError("a.json: gone", exit_code=3)):
        with pytest.raises(type(fault), match=r"^data\.val: a\.json: gone$") as caught, naming("data.val"):
            raise fault
        assert caught.value.exit_code == 3
