"""YAML as recipes use it: plain data, bounded, one reading of every word.

PyYAML reads YAML 1.1, in which ``1e-3`` is a string, ``no`` is false, ``010`` is 8, ``1:30`` is 90 and a date is a
date. Here ``1e-3`` is a number and the others are strings. Tags, aliases and duplicate keys are errors.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import yaml

from mixdet.errors import MixdetError

_FIXES = {
    "mapping values are not allowed here": "; quote a text that has a colon in it, or begin a new line",
    "found character '\\t' that cannot start any token": "; indent with spaces",
}
LONGEST = 200_000  # characters
DEEPEST = 20  # sections within sections

_WORDS = (  # (tag, pattern, first characters)
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*([eE][-+]?[0-9]+)?|\.[0-9]+[eE][-+]?[0-9]+|[0-9]+[eE][-+]?[0-9]+"
        r"|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise _refusal("aliases are not read; write the value out", self.current_event.start_mark)
        self.depth += 1
        if self.depth > DEEPEST:
            raise _refusal(f"nested deeper than {DEEPEST} levels", self.current_event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise _refusal("a key must be a word", key.start_mark)
            if key.value in seen:
                raise _refusal(f"the key {key.value!r} stands here twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _refusal(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


class _Dumper(yaml.SafeDumper):
    """Puts a string in quotes if YAML 1.1 or ``_Loader`` would read it as anything else."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)
_Loader.yaml_implicit_resolvers = {}  # not those of YAML 1.1
for _tag, _pattern, _first in _WORDS:
    _compiled = re.compile(f"^(?:{_pattern})$")
    _Loader.add_implicit_resolver(_tag, _compiled, _first)
    _Dumper.add_implicit_resolver(_tag, _compiled, _first)


def parse(text: str, where: str, numbered: bool = True) -> tuple[Any, dict[tuple[str, ...], int]]:
    """The data of a YAML text and the line each of its keys is on (first line 1).

    Args:
        text: the YAML.
        where: what an error begins with.
        numbered: whether an error names its line.

    Raises:
        MixdetError: not YAML, or more than a recipe needs; with the line.
    """
    if len(text) > LONGEST:
        raise MixdetError(f"{where}: {len(text)} characters long, at most {LONGEST} are read; is it a recipe?")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        return loader.construct_document(node), dict(_lines(node))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark and numbered else ""
        raise MixdetError(f"{where}{line}: {_one_line(error.problem)}{_FIXES.get(str(error.problem), '')}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise MixdetError(f"{where}: not YAML: {_one_line(error)}") from error


def dump_value(value: Any) -> str:
    """A number, a word or a list of them as YAML in one line."""
    text: str = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=sys.maxsize, allow_unicode=True)
    return text.removesuffix("...\n").rstrip("\n")


def printable(text: str) -> str:
    """At most 80 characters of a text, control characters escaped: what an error shows of it."""
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= 80 else f"{text[:77]}..."


def _lines(node: yaml.Node, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], int]]:
    found = []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found.append(((*path, key.value), key.start_mark.line + 1))
            found += _lines(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found += _lines(value, (*path, str(index)))
    return found


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
