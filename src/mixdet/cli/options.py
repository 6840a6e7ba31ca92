"""The options of each command, and what their words are read as."""

from __future__ import annotations

import argparse


def add_options(name: str, parser: argparse.ArgumentParser) -> None:
    """Give the parser of the command ``name`` its options."""
    if name in ("train", "compare"):
        parser.add_argument("--dry-run", action="store_true", help="only try it, on small drawn data")
    if name == "eval":
        parser.add_argument("--split", choices=("val", "test"), default="val", help="what to measure on (default val)")
    elif name == "predict":
        parser.add_argument("--out", metavar="DIR", required=True, help="folder to write to")
        parser.add_argument("--score", type=_score, default=0.5, help="lowest score that is kept (default 0.5)")
        parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    elif name == "split":
        parser.add_argument("--labeled", type=_amount, metavar="N|N%", required=True, help="images, or percent of them")
        parser.add_argument(
            "--val", type=_amount, metavar="N|N%", help="more images, or percent of all, to validate on"
        )
        parser.add_argument("--images", metavar="DIR", help="folder of the images, if they are not beside DATA")
        parser.add_argument("--seeds", type=_seeds, default=(0,), help="one split for each (default 0)")
        parser.add_argument("--folds", type=_count, default=0, metavar="K", help="also cut the labelled images into K")
        parser.add_argument("--rule", choices=("cover", "uniform"), default="cover", help="every class, or uniform")
        parser.add_argument("--out", metavar="DIR", default="split", help="folder to write to (default split)")
    elif name == "tiles":
        parser.add_argument("--images", metavar="DIR", help="folder of the images, if they are not beside DATA")
        parser.add_argument("--num-tiles", type=_counts, default=(1, 2, 4, 8, 16), help="N_T to look at (1,2,4,8,16)")
    elif name == "preview":
        parser.add_argument("--out", metavar="FILE", default="preview.png", help="picture to write (preview.png)")
        parser.add_argument("--count", type=_count, default=8, help="images on it (default 8)")
    elif name == "gradcam":
        parser.add_argument("--beside", metavar="RUN|WEIGHTS", action="append", default=[], help="one more detector")
        parser.add_argument("--out", metavar="FILE", default="gradcam.png", help="picture to write (gradcam.png)")
        parser.add_argument("--class", dest="class_name", metavar="NAME", help="only detections of this class")
        parser.add_argument("--rank", type=_count, default=1, help="which detection, from the best score (default 1)")
        parser.add_argument("--layer", metavar="NAME", help="stage or level to look at (default: the last stage)")
        parser.add_argument("--count", type=_count, default=8, help="images looked at, at most (default 8)")
        parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    elif name == "compare":
        parser.add_argument("--seeds", type=_seeds, help="such as 0,1,2 (default: the study's; 0 for recipes)")
        parser.add_argument("--rows", type=_rows, help="names of the rows to run (default all)")
        parser.add_argument(
            "--results", metavar="FILE", help="file the numbers are appended to (runs/compare/NAME.jsonl)"
        )


def _score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a score; use a number from 0 to 1")
    return value


def _amount(text: str) -> tuple[float | None, int | None]:
    """``10%`` or ``0.5%`` as a share, ``120`` as a number of images."""
    number = text.removesuffix("%")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if text.endswith("%") and 0 < value <= 100:
        return value / 100, None
    if number == text and text.isdecimal() and value >= 1:
        return None, int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number of images such as 120 nor a share such as 10%")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a count; use 1, 2, ...")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(part) for part in text.split(","))


def _seeds(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of seeds; write different ones such as 0,1,2")
    return tuple(int(part) for part in parts)


def _rows(text: str) -> tuple[str, ...]:
    rows = tuple(part.strip() for part in text.split(","))
    if not all(rows):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of rows; write names such as union,lossmix")
    return rows
