"""``key.sub=value`` laid over a recipe before it is validated.

The law: whole sections before their keys, a ``name`` before its neighbours, then in the order given, the last one of a
key winning. ``section=value`` replaces the section. Naming one of several sections (``method.name=…``,
``method.mix.lam.name=…``) starts it afresh, whatever name it had. A key within a section the recipe leaves out, or
writes in short (``mix: lossmix``, ``val: val.json``), changes the section that stands for.

``stages.NAME.key=value`` lays ``key=value`` over the stage of that name, ``stages.NAME.labels.key=value`` changes how
its images are labelled.

Values are YAML, except where the schema has text: there they are taken as they are, so that a path may be called
``1.0``. ``null`` is null wherever null is allowed; a file of that name is ``./null``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mixdet.errors import MixdetError
from mixdet.recipes.section import Choice, Key
from mixdet.recipes.yaml_text import parse, printable

COMMAND_LINE = "command line"
Path = tuple[str, ...]
_KEY = re.compile(r"[\w-]+(\.[\w-]+)*")


class Origin(NamedTuple):
    """Where a value was written.

    Attributes:
        place: the file's name, or "command line".
        line: line of the file, where it is one.
        word: the whole ``key=value``, where it is one.
    """

    place: str
    line: int | None = None
    word: str | None = None


class Override(NamedTuple):
    """One ``key=value``, the value not yet read."""

    path: Path
    text: str
    origin: Origin


@dataclass
class Tree:
    """Nested data on its way to a recipe.

    Attributes:
        values: the data; keys that are missing take the schema's defaults.
        origins: path of every section and value -> where it was written.
        place: name of the file it comes from.
    """

    values: dict[str, Any]
    origins: dict[Path, Origin] = field(default_factory=dict)
    place: str = COMMAND_LINE

    def put(self, section: dict[str, Any], path: Path, value: Any, origin: Origin) -> None:
        """Write ``value`` into its ``section``, forgetting where the parts of an older one came from."""
        self.origins = {p: o for p, o in self.origins.items() if p[: len(path)] != path}
        section[path[-1]] = value
        self.mark(path, value, origin)

    def mark(self, path: Path, value: Any, origin: Origin) -> None:
        """Note the origin of ``value`` and of everything in it."""
        self.origins[path] = origin
        if isinstance(value, dict):
            for key, part in value.items():
                self.mark((*path, key), part, origin)

    def at(self, path: Path) -> Any:
        """What is written at ``path``."""
        value: Any = self.values
        for name in path:
            value = value[int(name)] if isinstance(value, list) else value[name]
        return value

    def origin(self, path: Path) -> Origin:
        """Where the value at ``path``, or the nearest section around it, was written."""
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path, Origin(self.place))


def split_override(word: str, place: str = COMMAND_LINE) -> Override:
    """``a.b=value`` taken apart at its first ``=``.

    Raises:
        MixdetError: no ``=``, nothing after it, or a key that is none.
    """
    key, equals, text = word.partition("=")
    if not equals:
        raise MixdetError(f"{place}: {word!r} is not key=value; write for example optim.lr=0.01")
    if not _KEY.fullmatch(key):
        raise MixdetError(f"{place}: {word!r}: {key!r} is not a key; write for example optim.lr=0.01")
    if not text.strip():
        raise MixdetError(f"{place}: {word!r} has no value; write {key}=VALUE, or {key}=null for none")
    return Override(tuple(key.split(".")), text, Origin(place, word=word))


def apply_overrides(tree: Tree, root: Key, words: Iterable[str], place: str = COMMAND_LINE) -> None:
    """Lay ``key=value`` words over a tree, in place, by the law above.

    Args:
        tree: the data.
        root: what the schema says about it.
        words: the overrides of one place; the order matters only among those of the same key.
        place: where they were written, for errors.
    """
    overrides = [split_override(word, place) for word in words]
    for override in sorted(overrides, key=lambda o: (len(o.path), o.path[-1] != "name")):
        _apply(tree, root, override)


def _apply(tree: Tree, root: Key, override: Override) -> None:
    if override.path[0] == "stages" and len(override.path) > 2:
        _apply_to_stage(tree, root, override)
        return
    path, section, key = override.path, tree.values, root
    for depth, name in enumerate(path[:-1], start=1):
        section = _enter(tree, section, key, path[:depth], override)
        key = key.child(name) or Key()
    if path[-1] == "name" and any(issubclass(s, Choice) for s in key.sections):
        depth = len(path) - 1
        tree.origins = {p: o for p, o in tree.origins.items() if p[:depth] != path[:-1] or len(p) == depth}
        section.clear()
    tree.put(section, path, _read(key.child(path[-1]), override), override.origin)


def _apply_to_stage(tree: Tree, root: Key, override: Override) -> None:
    """Lay ``stages.NAME.key=value`` over that stage: at the end of its overrides, or into a setting of its own."""
    _, name, *path = override.path
    stages = tree.values.get("stages") or []
    names = [stage.get("name") if isinstance(stage, dict) else None for stage in stages]
    if name not in names:
        known = ", ".join(map(str, names))
        fix = f"its stages are {known}" if known else "it has none"
        word = printable(override.origin.word or "")
        raise MixdetError(f"{override.origin.place}: {word}: no stage of the recipe is called {name!r}; {fix}")
    stage, place = stages[names.index(name)], ("stages", str(names.index(name)))
    if path[0] in ("labels", "seed_offset"):
        key, own = (root.child("stages") or Key()).element(), Tree(stage, place=tree.place)
        _apply(own, key, override._replace(path=tuple(path)))
        tree.origins = {p: o for p, o in tree.origins.items() if p[: len(path) + 2] != (*place, *path)}
        tree.origins |= {(*place, *p): o for p, o in own.origins.items() if (*place, *p) not in tree.origins}
    else:
        stage["overrides"] = [*(stage.get("overrides") or []), f"{'.'.join(path)}={override.text}"]


def _enter(tree: Tree, section: dict[str, Any], key: Key, path: Path, override: Override) -> dict[str, Any]:
    """The section at ``path``, made if it is missing or written in short."""
    name, here = path[-1], key.child(path[-1])
    value = section.get(name)
    if name not in section:
        own = section.get("name")  # of several sections that may stand here, the one that does
        section[name] = (key.narrowed(own) if isinstance(own, str) and len(key.sections) > 1 else key).default(name)
        tree.origins.setdefault(path, override.origin)
    elif value is None:
        tree.put(section, path, {}, override.origin)
    elif isinstance(value, str) and here is not None and (keys := here.expand(value)) is not None:
        tree.put(section, path, keys, tree.origin(path))
    elif not isinstance(value, dict):
        found = f"{'.'.join(path)} is {value!r} in {tree.origin(path).place}, which is not a section"
        raise MixdetError(f"{override.origin.place}: {printable(override.origin.word or '')}: {found}")
    return section[name]  # type: ignore[no-any-return]


def _read(key: Key | None, override: Override) -> Any:
    """The value: text as it is where the schema has text, YAML elsewhere."""
    text = override.text
    if key is None or not key.text or (key.sections and text.lstrip().startswith("{")):
        return parse(text, f"{override.origin.place}: {printable(override.origin.word or '')}", numbered=False)[0]
    return None if text == "null" and key.null else text
