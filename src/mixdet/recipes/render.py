"""A recipe as YAML text: sections indented, everything else in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mixdet.recipes.yaml_text import dump_value

Path = tuple[str, ...]


def render(sections: Mapping[str, Any], comments: Mapping[Path, str] | None = None) -> str:
    """YAML of nested mappings, with a comment behind the keys that have one.

    Args:
        sections: mappings of words to mappings, lists, words and numbers.
        comments: path of a key -> what to write behind it.
    """
    lines = [(line, (comments or {}).get(path, "")) for path, line in _lines(sections)]
    column = min(max((len(line) for line, comment in lines if comment), default=0), 48)
    return "".join(f"{line:<{column}}  # {comment}\n" if comment else f"{line}\n" for line, comment in lines)


def _lines(sections: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, str]]:
    for key, value in sections.items():
        here = (*path, key)
        indented = f"{'  ' * len(path)}{key}:"
        if isinstance(value, Mapping) and value:
            yield here, indented
            yield from _lines(value, here)
        else:
            yield here, f"{indented} {dump_value(value)}"
