"""From a recipe's name or file and a list of overrides to a validated ``Recipe``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from mixdet.errors import MixdetError
from mixdet.recipes.messages import closest, validate
from mixdet.recipes.overrides import COMMAND_LINE, Origin, Tree, apply_overrides, split_override
from mixdet.recipes.recipe import Recipe
from mixdet.recipes.render import render
from mixdet.recipes.section import Key
from mixdet.recipes.stage import StageSection
from mixdet.recipes.yaml_text import LONGEST, parse

QUICKSTART = "quickstart"


@dataclass(frozen=True)
class Layer:
    """Overrides written in one place; a later layer wins over an earlier one."""

    place: str
    overrides: Sequence[str]


@dataclass(frozen=True)
class Resolved:
    """A recipe and where each of its values was written.

    Attributes:
        recipe: the recipe.
        origins: path of each value that is not a default -> where it was written; where a section was written in
            short, its path.
    """

    recipe: Recipe
    origins: dict[tuple[str, ...], Origin]

    def annotated(self) -> str:
        """The whole recipe as YAML, with the origin of each value that is not a default behind it."""
        return render(self.recipe.model_dump(mode="json"), {p: o.place for p, o in self.origins.items()})


def stage_recipes(recipe: Recipe, root: Path) -> list[Recipe]:
    """What each of a recipe's ``stages`` runs: the recipe with the stage's overrides, in its folder below ``root``.

    Only the last one is measured on ``data.test``, and not even that one where an ensemble ships.

    Raises:
        MixdetError: an override that does not fit, in one line that names the stage; stages that cannot be fused.
    """
    found = [_stage_recipe(recipe, stage, root) for stage in recipe.stages]
    for key in ("detector.body", "data.test_short_side", "data.test_long_side") if recipe.ensemble else ():
        section, _, name = key.partition(".")
        values = [getattr(getattr(own, section), name) for own in found]
        if len(set(values)) > 1:
            raise MixdetError(f"ensemble: {key} differs between the stages ({', '.join(map(str, values))}); use one")
    return found


def _stage_recipe(recipe: Recipe, stage: StageSection, root: Path) -> Recipe:
    place = f"stage {stage.name}"
    for word in stage.overrides:
        path = split_override(word, place).path
        if path[0] in ("run", "stages", "ensemble") or path[:2] == ("data", "test"):
            raise MixdetError(f"{place}: {word!r}: belongs to the whole run; set it outside of the stages")
    values = recipe.model_dump(mode="json") | {"stages": [], "ensemble": [], "seed": recipe.seed + stage.seed_offset}
    values["run"] |= {"out": str(root / stage.name)}
    if stage is not recipe.stages[-1] or recipe.ensemble:
        values["data"]["test"] = None
    tree = Tree(values, place=place)
    apply_overrides(tree, Key.of(Recipe), stage.overrides, place)
    if stage.labels is not None:
        labels = f"data.unlabeled.labels={root / 'labels' / stage.name}.json"
        apply_overrides(tree, Key.of(Recipe), [labels], place)
    return validate(Recipe, tree)


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that come with mixdet."""
    return shipped_names("mixdet.recipes")


def load_recipe(name: str | Path | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        name: a shipped recipe, the path of a YAML file, or None for the quickstart.
        overrides: ``key.sub=value`` words of the command line.

    Raises:
        MixdetError: anything wrong with either, in one line.
    """
    return resolve(name, [Layer(COMMAND_LINE, overrides)]).recipe


def resolve(name: str | Path | None, layers: Sequence[Layer] = ()) -> Resolved:
    """``load_recipe`` with overrides from several places, and the origin of every value."""
    tree = read_tree(QUICKSTART if name is None else name, "mixdet.recipes", "recipe")
    for layer in layers:
        apply_overrides(tree, Key.of(Recipe), layer.overrides, layer.place)
    written = {p: o for p, o in tree.origins.items() if not isinstance(tree.at(p), dict)}
    recipe = validate(Recipe, tree)
    stage_recipes(recipe, Path())
    return Resolved(recipe, written)


def read_tree(name: str | Path, package: str, kind: str) -> Tree:
    """The data of a shipped YAML (``name`` is one of the package's) or of a file.

    Args:
        name: name or path.
        package: where the shipped ones are.
        kind: "recipe" or "study", for errors.
    """
    place, text = _text(str(name), package, kind)
    values, lines = parse(text, place)
    if values is None:
        raise MixdetError(f"{place}: the file is empty; write a {kind}, or {{}} for all defaults")
    if not isinstance(values, dict):
        raise MixdetError(f"{place}: holds a {type(values).__name__}, not the sections of a {kind}")
    return Tree(values, {path: Origin(place, line) for path, line in lines.items()}, place)


def _text(name: str, package: str, kind: str) -> tuple[str, str]:
    """Place (for errors) and text."""
    shipped = shipped_names(package)
    if name in shipped:
        return f"{name}.yaml", files(package).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    path = Path(name)
    if path.suffix == ".json":
        raise MixdetError(f"{name}: looks like data, not like a {kind}; write data.labeled={name}")
    if not path.is_file():
        if path.exists():
            raise MixdetError(f"{name}: is not a file; give the path of a {kind}'s YAML")
        if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
            raise MixdetError(f"{name}: there is no such {kind} file; check the path, seen from {str(Path.cwd())!r}")
        known = ", ".join(shipped)
        raise MixdetError(f"{name!r}: no such {kind}{closest(name, shipped)} ({known}; or the path of a YAML file)")
    try:
        with path.open(encoding="utf-8") as file:
            return name, file.read(LONGEST + 1)
    except UnicodeDecodeError as error:
        raise MixdetError(
            f"{name}: is not UTF-8 text ({error.reason} at byte {error.start}); is it a {kind}?"
        ) from error
    except OSError as error:
        raise MixdetError(f"{name}: cannot be read ({error.strerror}); check its permissions") from error


def shipped_names(package: str) -> tuple[str, ...]:
    """Names of the YAML files in a package, without the suffix."""
    folder: Traversable = files(package)
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))
