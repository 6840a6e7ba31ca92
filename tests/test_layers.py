"""The arrows of docs/design.md: who may import whom, read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mixdet

PACKAGE = Path(mixdet.__file__).parent
ROOMS = ("mixing", "detectors", "teaching", "data")
MAY_IMPORT: dict[str, set[str]] = {
    "structures": set(),
    **{room: {"structures"} for room in ROOMS},
    "methods": {"structures", *ROOMS},
    "training": {"structures", *ROOMS, "methods"},
    "evaluation": {"structures", "data"},
    "reports": {"structures", "data", "evaluation"},
    "recipes": set(),
    "studies": set(),
    "runs": {"structures", *ROOMS, "methods", "training", "evaluation", "reports", "recipes"},
    "cli": {"evaluation", "reports", "recipes", "runs", "training"},
    "": {"structures", *ROOMS, "methods", "training", "evaluation", "reports", "recipes", "runs", "cli"},
}
HEAVY = {"torch", "torchvision", "timm", "numpy", "rich", "PIL"}
LIGHT = (
    "__init__",
    "errors",
    "cli.__init__",
    "cli.arguments",
    "cli.options",
    "cli.main",
    "cli.config",
)  # and all of recipes

Import = tuple[str, bool]  # dotted name, and whether it is done when the module is loaded


def _modules() -> dict[str, Path]:
    """Dotted name below ``mixdet`` -> file; a package is ``name.__init__``."""
    return {".".join(p.relative_to(PACKAGE).with_suffix("").parts): p for p in sorted(PACKAGE.rglob("*.py"))}


def _layer(module: str) -> str:
    """The package a module of mixdet is in; "" for ``__init__``, ``__main__`` and ``errors``."""
    return module.split(".")[0] if "." in module else ""


def _imports(tree: ast.AST, loading: bool = True) -> Iterator[Import]:
    """What a module imports, except for type checking."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, loading) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield from ((f"{node.module}.{alias.name}", loading) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from _imports(ast.Module(node.orelse, []), loading)
        else:
            within = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(node, loading and not within)


def _own(name: str) -> str | None:
    """The layer that ``mixdet.x.y`` names; None if the name is of another package, or of the errors all may raise."""
    parts = name.split(".")
    if parts[0] != "mixdet" or parts[1:2] == ["errors"]:
        return None
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else ""


MODULES = {name: list(_imports(ast.parse(path.read_text("utf-8")))) for name, path in _modules().items()}


def test_every_package_has_its_place() -> None:
    assert {_layer(module) for module in MODULES} == set(MAY_IMPORT)


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_imports_follow_the_arrows(layer: str) -> None:
    allowed = {None, layer, *MAY_IMPORT[layer]}
    against = [
        f"{module} imports {name}"
        for module, imports in MODULES.items()
        if _layer(module) == layer
        for name, _ in imports
        if _own(name) not in allowed
    ]
    assert against == []


def test_errors_import_nothing_of_mixdet() -> None:
    assert [name for name, _ in MODULES["errors"] if name.startswith("mixdet")] == []


def test_what_is_loaded_to_read_a_recipe_or_a_command_line_is_light() -> None:
    """The closure of imports at load time; tests/cli/test_main.py measures the same in a fresh process."""
    todo = [module for module in MODULES if module in LIGHT or _layer(module) == "recipes"]
    seen: set[str] = set()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        loaded = {name for name, loading in MODULES[module] if loading}
        assert not HEAVY & {name.split(".")[0] for name in loaded}, module
        todo += [found for name in loaded for found in _files_of(name)]
    assert len(seen) < len(MODULES) / 3


def _files_of(name: str) -> list[str]:
    """The modules that are loaded by importing ``name`` of mixdet, packages around it included."""
    parts = name.split(".")
    if parts[0] != "mixdet":
        return []
    below = [".".join(parts[1:n]) for n in range(2, len(parts) + 1)]
    return [m for b in below for m in (b, f"{b}.__init__") if m in MODULES]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import torch", [("torch", True)]),
        ("from mixdet.data import a, b", [("mixdet.data.a", True), ("mixdet.data.b", True)]),
        ("def f():\n    import x", [("x", False)]),
        ("class A:\n    import x", [("x", True)]),
        ("if TYPE_CHECKING:\n    import x\nelse:\n    import y", [("y", True)]),
        ("try:\n    import x\nexcept ImportError:\n    import y", [("x", True), ("y", True)]),
    ],
)
def test_the_reading_of_imports(text: str, expected: list[Import]) -> None:
    assert list(_imports(ast.parse(text))) == expected


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("mixdet.data.voc.read_voc", "data"),
        ("mixdet.data", "data"),
        ("mixdet.errors.MixdetError", None),
        ("mixdet.Batch", ""),
        ("mixdet", ""),
        ("torch.nn", None),
    ],
)
def test_the_layer_of_a_name(name: str, layer: str | None) -> None:
    assert _own(name) == layer
