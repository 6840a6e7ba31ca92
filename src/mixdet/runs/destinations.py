"""Where commands write: never over what they did not write themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from mixdet.errors import MixdetError

_SOFTWARE = 0x0131  # EXIF: what made a picture
_NAME = "mixdet"
_ANOTHER = "name another folder with --out"


def check_folder(folder: Path, fix: str = _ANOTHER) -> None:
    """See that ``folder`` is one, or can be made.

    Args:
        folder: to be written to.
        fix: what to do else.

    Raises:
        MixdetError: it is a file, or would lie in one.
    """
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if there is not None and not there.is_dir():
        raise MixdetError(f"{folder}: {there} is a file, not a folder; {fix}")


def check_unused(folder: Path, names: Iterable[str], fix: str = _ANOTHER) -> None:
    """See that ``names`` can be written to ``folder``, and none is there; ``fix`` as in ``check_folder``.

    Raises:
        MixdetError: one is, or the folder cannot be.
    """
    check_folder(folder, fix)
    if there := next((name for name in names if (folder / name).exists()), None):
        raise MixdetError(f"{folder / there}: is there already; {fix}")


def check_apart(folder: Path, images: Iterable[str]) -> None:
    """See that none of the images that are read lies in ``folder``: what is drawn would be taken for one of them.

    Raises:
        MixdetError: one does.
    """
    home = folder.resolve()
    if any(Path(path).resolve().is_relative_to(home) for path in images):
        raise MixdetError(f"{folder}: holds the images themselves; {_ANOTHER}")


def check_picture(path: Path) -> None:
    """See that a picture can be written to ``path``; an earlier one of mixdet's is replaced, nothing else.

    Raises:
        MixdetError: a name that says no kind of picture, or that of something else.
    """
    fix = "name another file with --out"
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise MixdetError(f"{path}: its ending is of no kind of picture; write {path.stem}.png")
    check_folder(path.parent, fix)
    if path.exists() and not _is_ours(path):
        raise MixdetError(f"{path}: is there already, and not drawn by mixdet; {fix}")


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG (or what the name says), with its folder, and in it who drew it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[_SOFTWARE] = _NAME
    picture.save(path, exif=exif)


def picture_names(files: Sequence[str]) -> list[str]:
    """A PNG for each file: ``a.png`` for ``a.jpg``, but ``a.jpg.png`` where there is an ``a.bmp`` too."""
    names = [Path(file).with_suffix(".png").as_posix() for file in files]
    counts = Counter(names)
    return [name if counts[name] == 1 else f"{file}.png" for name, file in zip(names, files, strict=True)]


def _is_ours(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            return picture.getexif().get(_SOFTWARE) == _NAME
    except Exception:  # decoders raise anything
        return False
