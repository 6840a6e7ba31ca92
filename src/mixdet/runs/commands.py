"""What mixdet does, as functions: the command line calls these, and so can any program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from mixdet.data.overlap import identities
from mixdet.data.sources import open_dataset
from mixdet.data.unlabeled import images_of_files
from mixdet.errors import MixdetError
from mixdet.evaluation import Evaluation
from mixdet.evaluation import evaluate as measure
from mixdet.recipes.load import QUICKSTART, load_recipe
from mixdet.recipes.recipe import Recipe
from mixdet.reports.tiles import TilesPerObject, tiles_per_object
from mixdet.runs.data import Data, build_dataset, naming
from mixdet.runs.destinations import check_apart, check_picture, check_unused, picture_names, save_picture
from mixdet.runs.fit import FitResult, fit
from mixdet.runs.folder import RunFolder
from mixdet.runs.grad_cam import draw_grad_cams
from mixdet.runs.infer import load_trained, write_detections
from mixdet.runs.pictures import draw_fed, draw_found
from mixdet.runs.pipeline import run_stages
from mixdet.structures import Detections
from mixdet.training.distributed import World, is_spawned, join_world, leave_world

PREVIEW_COUNT = 8
DETECTIONS = "detections.json"


def train(
    recipe: str | Path | Recipe | None = None, overrides: Sequence[str] = (), console: Console | None = None
) -> FitResult:
    """Train what a recipe says.

    Args:
        recipe: a shipped name, a path to a YAML file, or a ``Recipe``; None is the quickstart.
        overrides: "key.sub=value" words, as on the command line; not with a ``Recipe``.
        console: for progress; silent if not given.

    Raises:
        MixdetError: any defect of recipe or data, before step 1.
    """
    resolved = _resolved(recipe, overrides)
    name = resolved.method.name if isinstance(recipe, Recipe) else Path(recipe or QUICKSTART).stem
    _one_of_many(resolved)
    world = join_world(resolved.run.device)
    try:
        return _fitted(resolved, name, world, console or Console(quiet=True))
    finally:
        leave_world()


def resume(run: str | Path, overrides: Sequence[str] = (), console: Console | None = None) -> FitResult:
    """Go on with a run exactly where it stopped.

    Args:
        run: its folder.
        overrides: of the ``run`` section; another data set or network would be another run.
        console: for progress; silent if not given.
    """
    folder, recipe = interrupted(run, overrides)
    _one_of_many(recipe)
    world = join_world(recipe.run.device)
    try:
        return _fitted(recipe, folder.root.name, world, console or Console(quiet=True), folder)
    finally:
        leave_world()


def _resolved(recipe: str | Path | Recipe | None, overrides: Sequence[str]) -> Recipe:
    if isinstance(recipe, Recipe):
        if overrides:
            raise MixdetError(f"{overrides[0]}: overrides go with a recipe's name or file; change the Recipe itself")
        return recipe
    return load_recipe(recipe, [*overrides])


def _fitted(recipe: Recipe, name: str, world: World, console: Console, resume: RunFolder | None = None) -> FitResult:
    """One fit, or all stages of a recipe that has some."""
    return (run_stages if recipe.stages else fit)(recipe, name, world=world, console=console, resume=resume)


def _one_of_many(recipe: Recipe) -> None:
    """Only the command line starts processes; a program that asks for several must be started by torchrun."""
    if recipe.run.devices > 1 and not is_spawned():
        raise MixdetError(
            f"run.devices={recipe.run.devices}: this is one process; use the command line, or start it with torchrun"
        )


def interrupted(run: str | Path, overrides: Sequence[str] = ()) -> tuple[RunFolder, Recipe]:
    """The folder of a run, and its recipe as it is to go on; arguments as in ``resume``."""
    folder, recipe = RunFolder.open(Path(run))
    if other := [word for word in overrides if not word.startswith("run.")]:
        raise MixdetError(f"command line: {other[0]} would change the run; resume takes run.* settings only")
    return folder, load_recipe(str(folder.recipe), [*overrides]) if overrides else recipe


def evaluate(model: str | Path, overrides: Sequence[str] = (), split: str = "val") -> Evaluation:
    """Measure a run's weights, or a weights file, on a data set.

    Args:
        model: run folder or .safetensors file.
        overrides: of the run's recipe, "data.val=other.json" or "evaluation.metric=voc07"; a bare weights file has no
            recipe and needs the data set here.
        split: "val" or "test" of the recipe.
    """
    path = Path(model)
    if not path.exists():
        raise MixdetError(f"{model}: no such run folder or weights file; give what mixdet train named")
    home = path if path.is_dir() else path.parent.parent
    own = home / "recipe.yaml"
    if not own.is_file() and not any(word.startswith(f"data.{split}") for word in overrides):
        raise MixdetError(f"{model}: no recipe beside these weights; say what to measure on, data.{split}=PATH")
    recipe = load_recipe(str(own) if own.is_file() else None, [*overrides])
    section = recipe.data.val if split == "val" else recipe.data.test
    if section is None:
        raise MixdetError(f"data.{split}: the recipe has none; say what to measure on, data.{split}=PATH")
    with naming(f"data.{split}"):
        dataset = build_dataset(section)
    trained = load_trained(path, join_world(recipe.run.device).device)
    found = trained.detect(dataset, recipe.evaluation.batch_size, recipe.evaluation.score_threshold)
    with naming(f"data.{split}={section.path}"):
        return measure(found, dataset, recipe.evaluation.metric, classes=trained.card.classes)


@dataclass(frozen=True)
class Predicted:
    """What ``predict`` found: one ``Detections`` a file, in its pixels; labels index ``classes``."""

    files: tuple[str, ...]
    detections: tuple[Detections, ...]
    classes: tuple[str, ...]


def predict(
    model: str | Path,
    paths: Sequence[str | Path],
    out: str | Path | None = None,
    score: float = 0.5,
    device: str = "auto",
) -> Predicted:
    """Detect objects in images.

    Args:
        model: run folder or .safetensors file.
        paths: images, or folders that are searched for images.
        out: folder for drawn pictures and ``detections.json`` (COCO); None writes nothing.
        score: detections below it are left out.
        device: "auto", "cpu" or "cuda".

    Raises:
        MixdetError: no weights or images, or ``out`` holds what would be written over, or the images themselves.
    """
    trained = load_trained(Path(model), join_world(device).device)
    card = trained.card
    dataset = images_of_files([Path(p) for p in paths], classes=card.classes, category_ids=card.category_ids)
    names = tuple(dataset.images.name(i) for i in range(len(dataset)))
    drawn = picture_names(names)
    if out is not None:
        check_apart(Path(out), identities(dataset))
        check_unused(Path(out), [DETECTIONS, *drawn])
    found = [d.select(d.scores >= score) for d in trained.detect(dataset)]
    if out is not None:
        write_detections(Path(out) / DETECTIONS, dataset, found, card)
        for index, name in enumerate(drawn):
            picture = draw_found(dataset.subset([index]), [found[index]], card.classes, score)
            save_picture(picture, Path(out) / name)
    return Predicted(names, tuple(found), card.classes)


def preview(
    recipe: str | Path | Recipe | None,
    overrides: Sequence[str] = (),
    out: str | Path = "preview.png",
    count: int = PREVIEW_COUNT,
) -> Path:
    """Draw what training would be fed, in mixed tiles or each box as strong as its share; the file written.

    Raises:
        MixdetError: a defect of recipe or data, or ``out`` is a file that mixdet did not draw.
    """
    resolved = _resolved(recipe, overrides)
    check_picture(Path(out))
    data = Data.open(resolved, measured=False)
    save_picture(draw_fed(resolved, data, count), Path(out))
    return Path(out)


def gradcam(
    models: Sequence[str | Path],
    paths: Sequence[str | Path],
    out: str | Path = "gradcam.png",
    class_name: str | None = None,
    rank: int = 1,
    layer: str | None = None,
    count: int = PREVIEW_COUNT,
    device: str = "auto",
) -> Path:
    """Draw why detectors give a box its class, by Grad-CAM; the file written.

    Args:
        models: run folders or .safetensors files; the first one's detection is explained, by each.
        paths: images, or folders that are searched for images.
        out: picture to write.
        class_name: of the detection; None for any.
        rank: which detection of an image, from the best score.
        layer: stage of the backbone or level of the pyramid; None for the last stage.
        count: no more images than this are looked at.
        device: "auto", "cpu" or "cuda".

    Raises:
        MixdetError: as ``draw_grad_cams``; no weights or images; or ``out`` is a file that mixdet did not draw.
    """
    check_picture(Path(out))
    there = join_world(device).device
    names = [Path(model).name for model in models]
    if len(set(names)) < len(names):
        names = [str(model) for model in models]
    trained = [(name, load_trained(Path(model), there)) for name, model in zip(names, models, strict=True)]
    dataset = images_of_files([Path(p) for p in paths], classes=trained[0][1].card.classes)
    shown = dataset.subset(range(min(count, len(dataset))))
    picture = draw_grad_cams(trained, shown, class_name=class_name, rank=rank, layer=layer)
    save_picture(picture, Path(out))
    return Path(out)


def tiles(data: str, images: str | None = None, num_tiles: Sequence[int] = (1, 2, 4, 8, 16)) -> TilesPerObject:
    """In how many tiles the objects of a data set would lie (MUM, supplement B).

    Args:
        data: COCO file or VOC folder and split.
        images: folder of a COCO file's images, if not beside it.
        num_tiles: N_T to look at.
    """
    return tiles_per_object(open_dataset(data, images), num_tiles)
