"""What pydantic found wrong, as one line: where, which key, its value, and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from mixdet.errors import MixdetError
from mixdet.recipes.section import Key, Section, leaves
from mixdet.recipes.yaml_text import dump_value, printable

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from mixdet.recipes.overrides import Path, Tree

S = TypeVar("S", bound=Section)

_PROBLEMS = {  # pydantic's error type -> the sentence, with the error's context
    "missing": "is missing; give it a value",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be a finite number",
    "string_too_short": "must not be empty",
    "too_short": "needs at least {min_length}",
    "bool_as_number": "needs a number, not true or false",
    "string_pattern_mismatch": "must match {pattern}",
    "dict_type": "is a section; write its keys",
}
_KINDS = {  # beginning of pydantic's error type -> what is needed
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text; put it in quotes",
}


def validate(schema: type[S], tree: Tree) -> S:
    """The tree as ``schema``.

    Raises:
        MixdetError: the first thing wrong, and how many more there are.
    """
    try:
        return schema.model_validate(tree.values)
    except ValidationError as error:
        found = sorted(error.errors(include_url=False), key=lambda e: e["type"] == "missing")  # often a misspelt key
        more = len(found) - 1 + sum(e.get("ctx", {}).get("more", 0) for e in found)
        rest = f" (and {more} more)" if more else ""
        raise MixdetError(_line(found[0], schema, tree) + rest) from None


def closest(word: str, words: Iterable[str]) -> str:
    """``; did you mean 'x'?`` or nothing."""
    matches = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _line(error: ErrorDetails, schema: type[Section], tree: Tree) -> str:
    """``file.yaml:3: optim.lr='abc': needs a number``."""
    if error["type"] == "disagreement":
        return _disagreement(error, tree)
    path, key = _resolve(error, schema)
    word = tree.origin(path).word
    value = error["input"]
    shown = _shown(value["name"] if path[-1:] == ("name",) and isinstance(value, dict) else value, path)
    if error["type"] == "missing":
        shown = _dotted(path)
    elif word and len(word.partition("=")[0].split(".")) >= len(path):
        shown = printable(word)
    return f"{_place(tree, path)}: {shown}: {_problem(error, path, key, schema)}"


def _disagreement(error: ErrorDetails, tree: Tree) -> str:
    """Blames the first key that was written on the command line, else the first that was written at all."""
    keys = [tuple(key.split(".")) for key in error["ctx"]["keys"]]
    written = [key for key in keys if key in tree.origins]
    blamed = next((key for key in written if tree.origins[key].word), written[0] if written else keys[0])
    return f"{_place(tree, blamed)}: {_shown(error['ctx']['value'], keys[0])}: {error['msg']}"


def _resolve(error: ErrorDetails, schema: type[Section]) -> tuple[Path, Key]:
    """The dotted path of an error, without pydantic's tags of union members, and the section its last key is in."""
    path: list[str] = []
    section, key = Key.of(schema), Key.of(schema)
    for part in error["loc"]:
        if key.tagged:
            key = key.narrowed(str(part))
            continue
        section, key = key, key.element() if isinstance(part, int) else key.child(part) or Key()
        path.append(str(part))
    if error["type"].startswith("union_tag") and isinstance(error["input"], dict) and "name" in error["input"]:
        path, key = [*path, "name"], key.child("name") or Key()
    return tuple(path), (section if error["type"] in ("extra_forbidden", "missing") else key)


def _problem(error: ErrorDetails, path: Path, key: Key, schema: type[Section]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path, key, schema)
    if kind == "literal_error" or kind.startswith("union_tag"):
        return _unknown_word(error["input"], key)
    if kind in _PROBLEMS:
        return _PROBLEMS[kind].format(**context)
    if kind == "tuple_type":
        return f"needs a list; write [{_word(error['input'])}]"
    if kind.startswith("model"):
        return f"is a section; write {_dotted(path)}.KEY=VALUE with {', '.join(key.names())}"
    needed = _KINDS.get(kind.partition("_")[0])
    if needed is None:
        return str(error["msg"])
    return f"needs {needed}{', or null' if key.null else ''}"


def _unknown_key(path: Path, section: Key, schema: type[Section]) -> str:
    """Names the key meant: in this section, or anywhere if none here is close."""
    hint = closest(path[-1], section.names())
    if not hint:
        elsewhere = [".".join(leaf) for leaf in leaves(schema) if leaf[-1] == path[-1] and _moved(path, leaf)]
        hint = f"; did you mean {elsewhere[0]!r}?" if elsewhere else ""
    if ":" in path[-1]:
        hint = "; put a space after its colon"
    where = f"{_dotted(path[:-1])} has" if path[:-1] else "there are"
    return f"no such key{hint} ({where} {', '.join(section.names())})"


def _moved(path: Path, leaf: Path) -> bool:
    """Whether a key at ``path`` may have been meant for ``leaf``: in another section, or above or below in this one."""
    here, there = path[:-1], leaf[:-1]
    shorter = min(len(here), len(there))
    return here != there and (here[:1] != there[:1] or here[:shorter] == there[:shorter])


def _unknown_word(value: Any, key: Key) -> str:
    if key.sections and not key.values:  # several sections told apart by name
        named = key.child("name")
        return f"needs a name, one of {', '.join(named.values if named else ())}"
    value = value.get("name") if isinstance(value, dict) else value
    section = ", or a section" if key.sections else ""
    null = ", or null" if key.null else ""
    hint = closest(value, key.values) if isinstance(value, str) else ""
    return f"must be one of {', '.join(key.values)}{section}{null}{hint}"


def _place(tree: Tree, path: Path) -> str:
    origin = tree.origin(path)
    return origin.place if origin.line is None else f"{origin.place}:{origin.line}"


def _dotted(path: Path) -> str:
    """``a.b[0].c``."""
    return "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in path).removeprefix(".")


def _shown(value: Any, path: Path) -> str:
    return printable(f"{_dotted(path)}={_word(value) if not isinstance(value, str) else repr(value)}")


def _word(value: Any) -> str:
    """A value as one would write it in a recipe."""
    if isinstance(value, Section):
        value = value.model_dump(mode="json")
    return dump_value(list(value) if isinstance(value, tuple) else value)
