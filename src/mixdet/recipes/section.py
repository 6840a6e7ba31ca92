"""What every section of a recipe has in common, and what the schema says about one key of it.

Nothing here or elsewhere in ``mixdet.recipes`` imports torch or numpy: a recipe is read in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, model_validator
from pydantic_core import PydanticCustomError

T = TypeVar("T")


def _refuse_bool(value: T) -> T:
    """``seed: true`` is a mistake, although Python counts True as 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("bool_as_number", "needs a number")
    return value


Count = Annotated[int, BeforeValidator(_refuse_bool), Field(ge=1)]  # 1, 2, ...
Whole = Annotated[int, BeforeValidator(_refuse_bool), Field(ge=0)]  # 0, 1, ...
Positive = Annotated[float, BeforeValidator(_refuse_bool), Field(gt=0)]
NonNegative = Annotated[float, BeforeValidator(_refuse_bool), Field(ge=0)]
Unit = Annotated[float, BeforeValidator(_refuse_bool), Field(ge=0, le=1)]  # [0, 1]
Share = Annotated[float, BeforeValidator(_refuse_bool), Field(gt=0, le=1)]  # (0, 1]
DecayValue = Annotated[float, BeforeValidator(_refuse_bool), Field(ge=0, lt=1)]  # [0, 1)
Text = Annotated[str, Field(min_length=1)]


def disagreement(keys: tuple[str, ...], value: object, problem: str, more: int = 0) -> PydanticCustomError:
    """The error of a validator that looks at several keys.

    Args:
        keys: dotted, from the root; the first is the one to look at.
        value: what stands at the first.
        problem: the rest of the sentence, with the fix.
        more: further disagreements that are not told.
    """
    context = {"keys": keys, "value": value, "problem": problem, "more": more}
    return PydanticCustomError("disagreement", "{problem}", context)


class Section(BaseModel):
    """A frozen set of keys; an unknown key, NaN and infinity are errors.

    Attributes:
        bare: key that a bare string in the section's place stands for ("" for none).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    bare: ClassVar[str] = ""

    @classmethod
    def expand(cls, text: str) -> dict[str, Any] | None:
        """The section a string in its place is short for; None if it is short for nothing."""
        return {cls.bare: text} if cls.bare else None

    def stated(self) -> dict[str, Any]:
        """The keys that are not at their defaults, and the names that tell sections apart, as JSON has them."""
        whole: dict[str, Any] = self.model_dump(mode="json")
        found: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name != "name" and value == field.get_default(call_default_factory=True):
                continue
            if isinstance(value, Section):
                found[name] = value.stated()
            elif isinstance(value, tuple) and any(isinstance(item, Section) for item in value):
                found[name] = [item.stated() for item in value]
            else:
                found[name] = whole[name]
        return found

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        keys = cls.expand(value) if isinstance(value, str) else None
        return value if keys is None else keys


class Choice(Section):
    """One of several sections told apart by ``name``: naming another on the command line starts the section afresh."""


def told_by_name(default: str) -> Discriminator:
    """How pydantic finds the section that is meant: by its ``name``, ``default`` where none is written."""

    def name_of(value: Any) -> str:
        if isinstance(value, str):  # short for the name
            return value
        name = value.get("name", default) if isinstance(value, dict) else getattr(value, "name", None)
        return name if isinstance(name, str) else default

    return Discriminator(name_of)


@dataclass(frozen=True)
class Key:
    """What may stand at one key, or one place, of a recipe.

    Attributes:
        sections: the sections that may stand there (several: told apart by ``name``).
        values: the words that may stand there, where only some may.
        text: whether a string is meant literally there, not read as YAML.
        null: whether ``null`` may stand there.
        lists: what may stand in a list there.
        tagged: whether pydantic names the chosen alternative in the location of an error below this key.
    """

    sections: tuple[type[Section], ...] = ()
    values: tuple[str, ...] = ()
    text: bool = False
    null: bool = False
    lists: tuple[Any, ...] = ()
    tagged: bool = False

    @classmethod
    def of(cls, *annotations: Any) -> Key:
        """What the annotations allow, taken together."""
        kinds = [kind for annotation in annotations for kind in _kinds(annotation)]
        sections = tuple(k for k in kinds if isinstance(k, type) and issubclass(k, Section))
        literals = [k for k in kinds if get_origin(k) is Literal]
        values = tuple(dict.fromkeys(v for k in literals for v in get_args(k)))
        text = bool(values) or str in kinds or any(s.bare for s in sections)
        lists = tuple(argument for k in kinds if get_origin(k) is tuple for argument in get_args(k)[:1])
        return cls(sections, values, text, NoneType in kinds, lists, len(kinds) - kinds.count(NoneType) > 1)

    def names(self) -> tuple[str, ...]:
        """The keys of the section that stands here."""
        return tuple(dict.fromkeys(name for section in self.sections for name in section.model_fields))

    def child(self, name: str) -> Key | None:
        """What may stand at ``name`` in the section here; None if there is no such key."""
        fields = [s.model_fields[name] for s in self.sections if name in s.model_fields]
        return Key.of(*(field.annotation for field in fields)) if fields else None

    def at(self, path: Iterable[str]) -> Key | None:
        """What may stand at a dotted path below."""
        key: Key | None = self
        for name in path:
            key = key.child(name) if key else None
        return key

    def element(self) -> Key:
        """What may stand in the list here."""
        return Key.of(*self.lists)

    def default(self, name: str) -> dict[str, Any]:
        """The keys of the section that stands at ``name`` where a recipe does not mention it; {} if none does."""
        for section in self.sections:
            if name in section.model_fields:
                value = section.model_fields[name].get_default(call_default_factory=True)
                return value.model_dump(mode="json") if isinstance(value, Section) else {}
        return {}

    def expand(self, text: str) -> dict[str, Any] | None:
        """The section that ``text`` is short for here."""
        return next((keys for s in self.sections if (keys := s.expand(text)) is not None), None)

    def narrowed(self, tag: str) -> Key:
        """This key once pydantic has chosen the alternative ``tag``."""
        chosen = [s for s in self.sections if tag in (*_names_of(s), s.__name__)]
        return Key.of(*chosen) if chosen else Key((), self.values, self.text, self.null)


def leaves(schema: type[Section], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every path of the schema, sections before their keys."""
    for name in schema.model_fields:
        yield (*path, name)
        key = Key.of(schema.model_fields[name].annotation)
        for section in key.sections:
            yield from leaves(section, (*path, name))


def _kinds(annotation: Any) -> Sequence[Any]:
    """The alternatives of an annotation, unions and ``Annotated`` taken apart."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [kind for argument in get_args(annotation) for kind in _kinds(argument)]
    return [annotation]


def _names_of(section: type[Section]) -> tuple[str, ...]:
    field = section.model_fields.get("name")
    return get_args(field.annotation) if field is not None else ()
