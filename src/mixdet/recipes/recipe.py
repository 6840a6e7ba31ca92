"""The schema of a recipe: one YAML on one screen says everything a run depends on.

A class is one section; the keys of ``method`` and ``detector`` are the keywords of the constructors they are for.
What two sections must agree on is in ``mixdet.recipes.checks``.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, Tag, model_validator

from mixdet.recipes.checks import faults
from mixdet.recipes.detector import DetectorSection
from mixdet.recipes.method import MethodChoice, SupervisedSection
from mixdet.recipes.render import render
from mixdet.recipes.section import (
    Choice,
    Count,
    DecayValue,
    NonNegative,
    Positive,
    Section,
    Share,
    Text,
    Unit,
    Whole,
    disagreement,
    told_by_name,
)
from mixdet.recipes.stage import StageSection

Policy = Literal["keep", "drop", "ignore"]


class SourceSection(Section):
    """A data set; a bare string is short for its path."""

    bare: ClassVar[str] = "path"

    path: Text
    """COCO JSON, VOC folder (VOCdevkit/VOC2007:trainval) or drawn scenes (scenes:photo/train)."""
    images: Text | None = None
    """Folder of the images, where they are not beside the annotations."""
    crowd: Policy = "ignore"
    """Crowd boxes: keep, drop, or ignore (neither object nor background)."""
    difficult: Policy = "keep"
    """Boxes marked difficult: keep, drop, or ignore."""
    fraction: Share | None = None
    """Part of the images that is used, drawn with fraction_seed."""
    fraction_seed: Whole = 0
    """Seed of that draw."""
    fraction_rule: Literal["cover", "uniform"] = "cover"
    """Every class shown, or uniform among images with a box (COCO-Standard)."""
    files: Text | None = None
    """Text file naming the images that are used, one a line."""


class PoolSection(Section):
    """Images without annotations; a bare string is short for their path."""

    bare: ClassVar[str] = "path"

    path: Text
    """Folder of images, text file naming them, VOC folder and split, or scenes; those of data.labeled are left out."""
    images: Text | None = None
    """Folder that the lines of a text file are relative to; null for its own."""
    labels: Text | None = None
    """COCO file with labels of these images, as a recipe's stages write it; only the images in it are used."""


class StrongSection(Choice):
    """The strong view; a bare string is short for its name."""

    bare: ClassVar[str] = "name"

    own_geometry: bool = False
    """Resize, flip and crop anew, apart from the weak view; labels are moved from one to the other."""


class PhotometricSection(StrongSection):
    """Colours, blur and erased patches: Unbiased Teacher's strong view."""

    name: Literal["photometric"] = "photometric"
    """Which augmentation."""
    jitter_p: Unit = 0.8
    """Chance of colour jitter."""
    brightness: Unit = 0.4
    """Largest relative change."""
    contrast: Unit = 0.4
    """Largest relative change."""
    saturation: Unit = 0.4
    """Largest relative change."""
    hue: Annotated[Unit, Field(le=0.5)] = 0.1
    """Largest turn, in circles."""
    grey_p: Unit = 0.2
    """Chance of no colour."""
    blur_p: Unit = 0.5
    """Chance of Gaussian blur."""
    erase: bool = True
    """Three passes of erased patches (Cutout)."""
    exact: bool = False
    """torchvision's own operations, slower; hue differs from the default's."""


class RandAugmentSection(StrongSection):
    """A colour operation, an affine of the image or within an object, and squares: STAC's strong view."""

    name: Literal["rand_augment"] = "rand_augment"
    """Which augmentation."""


class LightAugmentSection(StrongSection):
    """Small holes and rare, mild changes of pixels: Instant Teaching's strong view."""

    name: Literal["light_augment"] = "light_augment"
    """Which augmentation."""


StrongChoice = Annotated[
    Annotated[PhotometricSection, Tag("photometric")]
    | Annotated[RandAugmentSection, Tag("rand_augment")]
    | Annotated[LightAugmentSection, Tag("light_augment")],
    told_by_name("photometric"),
]


class DataSection(Section):
    """What is read, and how images are cut to size."""

    labeled: SourceSection = SourceSection(path="scenes:photo/train")
    """What is trained on."""
    unlabeled: PoolSection | None = None
    """Images without annotations, for the methods that learn from them."""
    val: SourceSection | None = SourceSection(path="scenes:photo/val")
    """What checkpoints are selected by; null for none."""
    test: SourceSection | None = None
    """What the selected checkpoint is measured on once, at the end."""
    batch_size: Count = 8
    """Labelled images a step, over all processes and shards."""
    unlabeled_batch_size: Count | None = None
    """Unlabelled images a step; null for as many as labelled ones."""
    shards: Count = 1
    """Parts the batch is cut into; images are mixed within a part, and a process takes its parts one by one."""
    short_sides: Annotated[tuple[Count, ...], Field(min_length=1)] = (160,)
    """Training: the shorter side, one drawn for each image."""
    long_side: Count = 213
    """Training: the longer side at most."""
    test_short_side: Count = 160
    """Evaluation: the shorter side."""
    test_long_side: Count = 213
    """Evaluation: the longer side at most."""
    flip: Unit = 0.5
    """Chance of a horizontal flip."""
    crop: Share = 1.0
    """Training: smallest share of either side that is left by a random crop; 1 for no crop."""
    strong: StrongChoice = PhotometricSection()
    """The strong view, for the methods that use one."""
    aspect_grouping: bool = True
    """Wide images in one batch, tall ones in another: less padding."""
    class_balanced: bool = False
    """Labelled images with rare classes more often (repeat factor sampling)."""
    workers: Whole = 0
    """Processes that read images, for each training process; 0 reads in the training process."""
    worker_start: Literal["spawn", "fork"] = "spawn"
    """How they start; fork is faster and not for every platform."""


class OptimSection(Section):
    """The optimizer."""

    name: Literal["adamw", "sgd"] = "adamw"
    """The optimizer."""
    lr: Positive = 1e-3
    """Learning rate, for a batch of reference_batch_size."""
    reference_batch_size: Count | None = None
    """Batch that lr is stated for; another data.batch_size scales lr in proportion. null: data.batch_size."""
    momentum: DecayValue = 0.9
    """Momentum; sgd only."""
    weight_decay: NonNegative = 1e-4
    """Weight decay."""
    clip_norm: Positive | None = None
    """Largest norm of the gradient; null for any."""


class ScheduleSection(Section):
    """How long, and the learning rate on the way."""

    name: Literal["constant", "step", "cosine"] = "constant"
    """What the learning rate does after the warm-up."""
    steps: Count = 300
    """Steps of the optimizer."""
    warmup_steps: Whole = 50
    """Steps in which the learning rate grows linearly to its value."""
    warmup_factor: Unit = 0.001
    """Part of the learning rate the warm-up starts from."""
    milestones: tuple[Count, ...] = ()
    """Steps at which the learning rate is multiplied by gamma; step only."""
    gamma: Share = 0.1
    """That factor."""


class EvaluationSection(Section):
    """How a checkpoint is measured."""

    metric: Literal["coco", "voc07", "voc12"] = "coco"
    """COCO's AP, or PASCAL VOC's of 2007 (11 points) or 2012 (area)."""
    every: Count | None = None
    """Steps between evaluations on data.val; null for the last step only."""
    select_by: Literal["ap", "ap50", "ap75"] = "ap50"
    """Number the best checkpoint is chosen by."""
    score_threshold: Unit | None = None
    """Only detections above it count; null for what comes with detector.preset."""
    batch_size: Count = 8
    """Images at a time."""
    visualize: Whole = 16
    """Images drawn with their detections."""


class RunSection(Section):
    """Where and on what."""

    out: Text | None = None
    """Folder of the run; null for a new one under runs/."""
    devices: Count = 1
    """Processes, one for each device."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA where there is one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the network's forward; losses and boxes are always fp32."""
    baseline: bool = False
    """Also train without the unlabelled images, from the end of the burn-in on, in a process of its own."""
    rollbacks: Whole = 0
    """Times that a loss which is not finite takes the run back to a checkpoint, at half the learning rate."""
    log_every: Count = 10
    """Steps between two lines of metrics."""
    checkpoint_every: Count = 100
    """Steps between two checkpoints."""


class Recipe(Section):
    """Everything a run depends on."""

    method: MethodChoice = SupervisedSection()
    """What is trained on which images, and how."""
    detector: DetectorSection = DetectorSection()
    """The network."""
    data: DataSection = DataSection()
    """What is read."""
    optim: OptimSection = OptimSection()
    """The optimizer."""
    schedule: ScheduleSection = ScheduleSection()
    """How long."""
    evaluation: EvaluationSection = EvaluationSection()
    """How it is measured."""
    run: RunSection = RunSection()
    """Where and on what."""
    seed: Whole = 0
    """Seed of every random draw."""
    stages: tuple[StageSection, ...] = ()
    """Fits one after the other, in place of a single one; the last one's weights are the run's."""
    ensemble: tuple[Positive, ...] = ()
    """How much each stage's detector counts in an ensemble of all, which is then what the run ships; [] for none."""

    @model_validator(mode="after")
    def _agreed(self) -> Self:
        if found := faults(self):
            first = found[0]
            value: object = self
            for name in first.keys[0].split("."):
                value = value[int(name)] if isinstance(value, tuple) else getattr(value, name)
            raise disagreement(first.keys, value, first.problem, len(found) - 1)
        return self

    def to_yaml(self) -> str:
        """The whole recipe, defaults included, as YAML that ``load_recipe`` reads back equal."""
        return render(self.model_dump(mode="json"))
