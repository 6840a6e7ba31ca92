"""The schema of a recipe's ``method``: a section for each method, with the keywords of its constructor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Tag

from mixdet.recipes.decay import DecaySection, ISMTDecay, MUMDecay, UnbiasedTeacherDecay
from mixdet.recipes.mix import MixChoice, MixPreset, MixSection, TilesSection
from mixdet.recipes.section import Choice, Count, DecayValue, NonNegative, Share, Unit, Whole, told_by_name

LabeledViews = Literal["weak", "strong", "both"]
VIEWS: dict[str, int] = {"weak": 1, "strong": 1, "both": 2}
"""How many images a student sees for each labelled one."""


class Mixed(NamedTuple):
    """A key of a method that asks for mixed images.

    Attributes:
        key: its name within ``method``.
        mix: what stands there.
        images: images of ``batch`` in a shard -> how many of them are mixed with each other.
    """

    key: str
    mix: MixPreset | MixSection
    images: Callable[[int], int]


class MethodSection(Choice):
    """What all methods have in common.

    Attributes:
        unlabeled: whether unlabelled images are read.
        offline: whether these carry labels, which an earlier stage gave.
        labels: whether the method labels them itself while it trains.
        two_heads: whether the detector must have two RoI heads.
        regions: whether the method goes through the detector's region steps itself, and so knows one head.
        focal: whether it was published with a focal RoI loss.
    """

    unlabeled: ClassVar[bool] = False
    offline: ClassVar[bool] = False
    labels: ClassVar[bool] = False
    two_heads: ClassVar[bool] = False
    regions: ClassVar[bool] = False
    focal: ClassVar[bool] = False

    @property
    def views(self) -> LabeledViews:
        """Views of labelled images that are trained on."""
        return "weak"

    def mixed_labeled(self) -> Mixed | None:
        """How labelled images are mixed."""
        return None

    def mixed_unlabeled(self) -> Mixed | None:
        """How unlabelled images are mixed."""
        return None

    def mixed_tiles(self) -> TilesSection | None:
        """How the student's tiles are mixed."""
        return None

    def matched(self) -> bool | None:
        """Whether thresholds follow the teacher; None where they cannot."""
        return getattr(self, "matched_thresholds", None)

    def teacher_decay(self) -> DecaySection | None:
        """How a teacher that labels images follows; None without one."""
        return None

    def changes(self) -> tuple[tuple[str, int], ...]:
        """Keys that name a step at which the method does something else from then on, with the step."""
        return ()

    def rescheduled(self, moved: Callable[[int], int]) -> dict[str, Any]:
        """The keys that ``changes`` is made of, with ``moved`` steps."""
        return {}


class SupervisedSection(MethodSection):
    """Training on labelled images, mixed or not."""

    name: Literal["supervised"] = "supervised"
    """The method."""
    mix: MixChoice | None = None
    """A preset, a section, or null for no mixing."""
    mixed_fraction: Share = 1.0
    """Part of a batch, of each view, that is mixed within itself; 0.5 is LossMix-Reg."""
    mix_until_step: Whole | None = None
    """Mixing stops at this step; LossMix-Partial."""
    two_targets: bool = False
    """Eq. 6 to the letter, one loss for each source image, in place of the weighted union."""
    ema_decay: DecayValue | None = None
    """Decay of an EMA teacher beside the student; null for none."""
    labeled_views: LabeledViews = "weak"
    """Views that are trained on."""
    tiles: TilesSection | None = None
    """Mix tiles, un-mix features (MUM section 5); null for not."""

    @property
    def views(self) -> LabeledViews:
        return self.labeled_views

    def mixed_labeled(self) -> Mixed | None:
        views, p, mix = VIEWS[self.labeled_views], self.mixed_fraction, self.mix
        # one image alone would meet only its own other view
        return None if mix is None else Mixed("mix", mix, lambda n: views * k if (k := round(n * p)) > 1 else k)

    def changes(self) -> tuple[tuple[str, int], ...]:
        return () if self.mix_until_step is None else (("mix_until_step", self.mix_until_step),)

    def rescheduled(self, moved: Callable[[int], int]) -> dict[str, Any]:
        return {} if self.mix_until_step is None else {"mix_until_step": moved(self.mix_until_step)}

    def mixed_tiles(self) -> TilesSection | None:
        return self.tiles


class TeacherSection(MethodSection):
    """What the methods of a student and its moving average have in common."""

    unlabeled: ClassVar[bool] = True
    labels: ClassVar[bool] = True

    score_threshold: Unit = 0.7
    """Detections of the teacher above it become labels."""
    unsup_weight: NonNegative = 4.0
    """Weight of the losses on unlabelled images; 1 is a safe start outside COCO."""
    decay: DecaySection = DecaySection()
    """How the teacher follows the student."""
    labeled_views: LabeledViews = "both"
    """Views of labelled images: both is the papers' form, strong alone costs half."""
    unsup_box_loss: bool = False
    """Also learn boxes, not only classes, from the teacher's labels."""
    skip_empty: bool = False
    """true: unlabelled images without a label are left out; false: they are taught as background."""
    mix_labeled: MixChoice | None = None
    """Mix labelled images: a preset, a section, or null."""
    mix_unlabeled: MixChoice | None = None
    """Mix unlabelled images with the teacher's labels: a preset, a section, or null."""

    @property
    def views(self) -> LabeledViews:
        return self.labeled_views

    def mixed_labeled(self) -> Mixed | None:
        times = VIEWS[self.labeled_views]
        return None if self.mix_labeled is None else Mixed("mix_labeled", self.mix_labeled, lambda n: times * n)

    def teacher_decay(self) -> DecaySection | None:
        return self.decay

    def mixed_unlabeled(self) -> Mixed | None:
        return None if self.mix_unlabeled is None else Mixed("mix_unlabeled", self.mix_unlabeled, lambda images: images)

    def changes(self) -> tuple[tuple[str, int], ...]:
        begins = self.decay.burn_in_steps
        steps = {"decay.burn_in_steps": begins, "decay.ramp_steps": begins + self.decay.ramped}
        return tuple((key, step) for key, step in steps.items() if step)

    def rescheduled(self, moved: Callable[[int], int]) -> dict[str, Any]:
        begins, ramped = moved(self.decay.burn_in_steps), moved(self.decay.burn_in_steps + self.decay.ramped)
        steps = {"burn_in_steps": begins, "ramp_steps": ramped - begins}
        return {"decay": self.decay.model_dump(mode="json") | steps}


class CSDSection(MethodSection):
    """CSD: an image and its mirror image must be seen alike."""

    unlabeled: ClassVar[bool] = True
    regions: ClassVar[bool] = True

    name: Literal["csd"] = "csd"
    """The method."""
    consistency_weight: NonNegative = 1.0
    """Weight of the consistency losses, which ramp up and down over the schedule."""
    proposals: Count = 300
    """Regions compared in each image."""


class STACSection(MethodSection):
    """STAC: learn from labels that an earlier detector gave once, under strong augmentation."""

    unlabeled: ClassVar[bool] = True
    offline: ClassVar[bool] = True

    name: Literal["stac"] = "stac"
    """The method."""
    unsup_weight: NonNegative = 2.0
    """Weight of the losses on unlabelled images."""
    ema_decay: DecayValue | None = None
    """Decay of an EMA teacher beside the student; null for none."""
    tiles: TilesSection | None = None
    """Mix tiles of unlabelled images, un-mix features (MUM); null for not."""

    def mixed_tiles(self) -> TilesSection | None:
        return self.tiles


class InstantTeachingSection(MethodSection):
    """Instant Teaching: a student labels images for itself and learns from them mixed with labelled ones."""

    unlabeled: ClassVar[bool] = True
    regions: ClassVar[bool] = True
    labels: ClassVar[bool] = True

    name: Literal["instant_teaching"] = "instant_teaching"
    """The method."""
    score_threshold: Unit = 0.9
    """The student's detections with this score or more become labels."""
    unsup_weight: NonNegative = 1.0
    """Weight of the losses on unlabelled images."""
    mix_p: Unit = 0.5
    """Chance that an unlabelled image is mixed with a labelled one."""
    skip_empty: bool = False
    """true: unlabelled images without a label are left out; false: they are taught as background."""
    co_rectify: bool = False
    """Two students that correct each other's labels (Instant Teaching*), at twice the cost."""


class UnbiasedTeacherSection(TeacherSection):
    """Unbiased Teacher: a student and its moving average teach each other."""

    focal: ClassVar[bool] = True

    name: Literal["unbiased_teacher"] = "unbiased_teacher"
    """The method."""
    matched_thresholds: bool = False
    """A threshold for each class that keeps pseudo boxes as frequent as labelled ones; starts at score_threshold."""
    decay: UnbiasedTeacherDecay = UnbiasedTeacherDecay()
    """How the teacher follows the student."""


class MUMSection(TeacherSection):
    """MUM: Unbiased Teacher with the student's unlabelled images in mixed tiles."""

    focal: ClassVar[bool] = True

    name: Literal["mum"] = "mum"
    """The method."""
    matched_thresholds: bool = False
    """A threshold for each class that keeps pseudo boxes as frequent as labelled ones; starts at score_threshold."""
    tiles: TilesSection = TilesSection()
    """How tiles are mixed and un-mixed."""
    decay: MUMDecay = MUMDecay()
    """How the teacher follows the student."""

    def mixed_tiles(self) -> TilesSection | None:
        return self.tiles


class MultiPhaseSection(MethodSection):
    """Multi Phase Learning: a later phase, which trusts an earlier one's labels region by region."""

    unlabeled: ClassVar[bool] = True
    regions: ClassVar[bool] = True
    offline: ClassVar[bool] = True

    name: Literal["multi_phase"] = "multi_phase"
    """The method."""
    by_overlap: bool = True
    """Weigh regions of unlabelled images by their overlap with labels."""
    by_similarity: bool = True
    """Weigh negatives of unlabelled images by their likeness to positives, in a learned embedding."""


class ISMTSection(TeacherSection):
    """ISMT: two heads teach each other with what their mean teachers have found so far."""

    two_heads: ClassVar[bool] = True

    name: Literal["ismt"] = "ismt"
    """The method."""
    score_decay: Share = 0.99
    """What is left of a stored box's score after another visit of its image; 1 forgets nothing."""
    unsup_weight: NonNegative = 1.0
    """Weight of the losses on unlabelled images; 1 is a safe start outside COCO."""
    decay: ISMTDecay = ISMTDecay()
    """How the teacher follows the student."""
    unsup_box_loss: bool = True
    """Also learn boxes, not only classes, from the teacher's labels."""


MethodChoice = Annotated[
    Annotated[SupervisedSection, Tag("supervised")]
    | Annotated[CSDSection, Tag("csd")]
    | Annotated[STACSection, Tag("stac")]
    | Annotated[InstantTeachingSection, Tag("instant_teaching")]
    | Annotated[ISMTSection, Tag("ismt")]
    | Annotated[MultiPhaseSection, Tag("multi_phase")]
    | Annotated[UnbiasedTeacherSection, Tag("unbiased_teacher")]
    | Annotated[MUMSection, Tag("mum")],
    told_by_name("supervised"),
]
