"""A study: rows of a table, each a recipe with overrides, next to the numbers a paper prints for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from mixdet.errors import MixdetError
from mixdet.recipes.load import Layer, read_tree, resolve, shipped_names
from mixdet.recipes.messages import closest, validate
from mixdet.recipes.overrides import COMMAND_LINE
from mixdet.recipes.recipe import Recipe
from mixdet.recipes.section import Section, Text, Whole, disagreement

NUMBERS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ap_teacher", "ap_student")


class Row(Section):
    """One row of the table."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    """Name for ``--rows``; no spaces or commas."""
    like: Text | None = None
    """A row above, whose words come before ``overrides``."""
    overrides: tuple[Text, ...] = ()
    """``key=value`` words, laid over those of the study."""
    paper: dict[str, Annotated[float, Field(ge=0, le=100)]] = Field(default={})
    """The paper's numbers in percent, as printed, under names of NUMBERS; empty for a row the paper does not have."""
    note: Text | None = None
    """What a reader of the table should know."""


class Study(Section):
    """A table."""

    name: Text
    """Title."""
    source: Text
    """Paper and table."""
    recipe: Text
    """A shipped recipe, or the path of one."""
    overrides: tuple[Text, ...] = ()
    """``key=value`` words for every row."""
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    """The rows, in the table's order."""
    seeds: Annotated[tuple[Whole, ...], Field(min_length=1)] = (0,)
    """Seeds each row is run with."""

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        names = [row.name for row in self.rows]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise disagreement(("rows",), names, f"names must differ; {twice[0]!r} stands there twice")
        for index, row in enumerate(self.rows):
            if row.like is not None and row.like not in names[:index]:
                raise disagreement((f"rows.{index}.like",), row.like, "must be the name of a row above")
            if unknown := [name for name in row.paper if name not in NUMBERS]:
                problem = f"no such number {unknown[0]!r}{closest(unknown[0], NUMBERS)} ({', '.join(NUMBERS)})"
                raise disagreement((f"rows.{index}.paper",), row.paper, problem)
        return self

    def row(self, name: str) -> Row:
        """The row of that name.

        Raises:
            MixdetError: there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        names = [row.name for row in self.rows]
        raise MixdetError(f"{name!r}: {self.name} has no such row{closest(name, names)} ({', '.join(names)})")

    def words_of(self, row: Row) -> tuple[str, ...]:
        """The overrides of a row behind those of the row it is like."""
        return row.overrides if row.like is None else (*self.words_of(self.row(row.like)), *row.overrides)

    def recipe_of(self, row: Row, overrides: Sequence[str] = (), seed: int = 0) -> Recipe:
        """The recipe of a row with a seed: the study's overrides, then the row's, then ``overrides``.

        ``{seed}`` in an override of the study or the row becomes the seed: how each seed gets its own labelled images.

        Raises:
            MixdetError: one of them does not fit, in one line that names its place.
        """
        layers = [
            Layer(f"study {self.name!r}", [f"seed={seed}", *seeded(self.overrides, seed)]),
            Layer(f"study {self.name!r}, row {row.name}", seeded(self.words_of(row), seed)),
            Layer(COMMAND_LINE, overrides),
        ]
        return resolve(self.recipe, layers).recipe


def seeded(words: Sequence[str], seed: int) -> list[str]:
    """``words`` with ``{seed}`` replaced."""
    return [word.replace("{seed}", str(seed)) for word in words]


def study_names() -> tuple[str, ...]:
    """Names of the studies that come with mixdet."""
    return shipped_names("mixdet.studies")


def load_study(name: str | Path) -> Study:
    """Read a study.

    Args:
        name: a shipped study, or the path of a YAML file.

    Raises:
        MixdetError: anything wrong with it, in one line. The rows' overrides are read by ``Study.recipe_of``.
    """
    return validate(Study, read_tree(name, "mixdet.studies", "study"))
