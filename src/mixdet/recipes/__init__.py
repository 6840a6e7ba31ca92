"""Recipes and studies: YAML into validated, frozen values, in a fraction of a second (no torch, no numpy)."""

from mixdet.recipes.detector import DetectorSection
from mixdet.recipes.load import Layer, Resolved, load_recipe, recipe_names, resolve
from mixdet.recipes.method import SupervisedSection
from mixdet.recipes.mix import BetaLam, FixedLam, MixSection, UniformLam
from mixdet.recipes.recipe import (
    DataSection,
    EvaluationSection,
    OptimSection,
    Recipe,
    RunSection,
    ScheduleSection,
    SourceSection,
)
from mixdet.recipes.remarks import remarks
from mixdet.recipes.study import Row, Study, load_study, study_names

__all__ = [
    "BetaLam",
    "DataSection",
    "DetectorSection",
    "EvaluationSection",
    "FixedLam",
    "Layer",
    "MixSection",
    "OptimSection",
    "Recipe",
    "Resolved",
    "Row",
    "RunSection",
    "ScheduleSection",
    "SourceSection",
    "Study",
    "SupervisedSection",
    "UniformLam",
    "load_recipe",
    "load_study",
    "recipe_names",
    "remarks",
    "resolve",
    "study_names",
]
