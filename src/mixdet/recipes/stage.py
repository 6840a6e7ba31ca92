"""The schema of a recipe's ``stages``: fits one after the other, with labelling between them (STAC, Multi Phase)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mixdet.recipes.section import Section, Share, Text, Unit, Whole


class LabelsSection(Section):
    """How the unlabelled images are labelled before a stage, once and for all of it."""

    by: Annotated[tuple[Text, ...], Field(min_length=1, max_length=2)]
    """Stages whose weights label; of two, the boxes on which they agree (Multi Phase)."""
    rule: Literal["threshold", "fallback", "matched"] = "threshold"
    """Kept: above score_threshold; the image's best too (STAC); or as many as labelled images have (Multi Phase)."""
    score_threshold: Unit = 0.9
    """Score a box needs; not for matched."""
    share: Share = 1.0
    """Share of the images that is used, those of the highest mean score."""
    empty: bool = False
    """Whether images without a box are kept, as background."""


class StageSection(Section):
    """One fit: the recipe with some overrides."""

    name: Annotated[str, Field(pattern=r"^[\w-]+$")]
    """Name of its folder within the run's."""
    overrides: tuple[Text, ...] = ()
    """``key=value`` words, laid over the recipe."""
    seed_offset: Whole = 0
    """Added to the run's seed: with another offset a stage begins with other heads and draws otherwise."""
    labels: LabelsSection | None = None
    """How data.unlabeled is labelled before; null for not."""
