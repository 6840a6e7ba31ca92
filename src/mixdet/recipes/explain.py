"""A recipe with what each of its settings means."""

from __future__ import annotations

from collections.abc import Iterator

from mixdet.recipes.section import Key, Section
from mixdet.recipes.yaml_text import dump_value


def explained(section: Section, indent: str = "") -> Iterator[str]:
    """Lines of YAML: every setting with its value, and before it what it means and which words it takes.

    What another method or kind of section takes is not among them: name it first (``method.name=stac``).
    """
    values = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        value, key = getattr(section, name), Key.of(field.annotation)
        named = Key(key.sections).child("name")
        words = [*key.values, *(named.values if named else ())]
        choice = f" One of {', '.join(words)}." if len(words) > 1 else ""
        if field.description:
            yield f"{indent}# {' '.join(field.description.split())}{choice}"
        if isinstance(value, Section):
            yield f"{indent}{name}:"
            yield from explained(value, f"{indent}  ")
        else:
            yield f"{indent}{name}: {dump_value(values[name])}"
