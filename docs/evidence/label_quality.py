"""What a run's teacher would label in images whose boxes we know but did not use: how many boxes, and how many right.

    python docs/evidence/label_quality.py RUN --data DATA.json --files LIST.txt --count 200
    python docs/evidence/label_quality.py RUN --data DATA.json --files LIST.txt --count 200 --stage second

The second form asks it of the labels that a stage of the run was given.
A box is located if it overlaps a real one by half or more (IoU), right if that one's class is its own too.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from torchvision.ops import box_convert, box_iou

from mixdet import DetectionDataset, Detections
from mixdet.data import open_dataset, select_files
from mixdet.runs.data import build_dataset
from mixdet.runs.folder import RunFolder
from mixdet.runs.infer import load_trained

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--data", required=True, help="COCO file with the boxes")
    parser.add_argument("--files", type=Path, required=True, help="images of it; the run's labelled ones are left out")
    parser.add_argument("--count", type=int, default=200, help="the first so many")
    parser.add_argument("--stage", help="stage whose labels are asked, not the last step's teacher")
    args = parser.parse_args()
    torch.set_num_threads(1)
    run, recipe = RunFolder.open(args.run)
    known = build_dataset(recipe.data.labeled).images
    labelled = {known.name(i) for i in range(len(known))}
    names = [name for name in args.files.read_text("utf-8").splitlines() if name not in labelled]
    whole = open_dataset(args.data)
    dataset = whole.subset(select_files(whole, names[: args.count]))
    print(f"{len(dataset)} images, {len(dataset.boxes) / len(dataset):.2f} boxes an image")
    if args.stage:
        labels = stored(args.run / "labels" / f"{args.stage}.json", dataset)
        print(f"labels of {args.stage}: {quality(labels, dataset)}")
        return
    trained = load_trained(run.last(), torch.device("cpu"))
    found = list(trained.detect(dataset))
    for threshold in THRESHOLDS:
        chosen = [detections.select(detections.scores > threshold) for detections in found]
        print(f"score > {threshold:g}: {quality(chosen, dataset)}")


def stored(file: Path, dataset: DetectionDataset) -> list[Detections]:
    """The boxes of a COCO file for each image of ``dataset``, by file name alone; none where it has no such."""
    content = json.loads(file.read_text("utf-8"))
    classes = {category["id"]: dataset.classes.index(category["name"]) for category in content["categories"]}
    names = {image["id"]: Path(image["file_name"]).name for image in content["images"]}
    of_name = defaultdict[str, list[tuple[list[float], int, float]]](list)
    for found in content["annotations"]:
        label, score = classes[found["category_id"]], found["score"]
        of_name[names[found["image_id"]]].append((found["bbox"], label, score))
    return [_detections(of_name[Path(dataset.images.name(i)).name]) for i in range(len(dataset))]


def _detections(found: list[tuple[list[float], int, float]]) -> Detections:
    boxes = torch.tensor([box for box, _, _ in found]).reshape(-1, 4)
    labels = torch.tensor([label for _, label, _ in found], dtype=torch.int64)
    return Detections(box_convert(boxes, "xywh", "xyxy"), labels, torch.tensor([score for _, _, score in found]))


def quality(found: Sequence[Detections], dataset: DetectionDataset) -> str:
    """How many boxes, the share of them located and right, and the share of images without any."""
    kept = located = right = empty = 0
    boxes = torch.from_numpy(dataset.boxes)
    for i, chosen in enumerate(found):
        own = slice(dataset.offsets[i], dataset.offsets[i + 1])
        kept += len(chosen)
        empty += not len(chosen)
        if len(chosen) and own.start < own.stop:
            overlap, nearest = box_iou(chosen.boxes, boxes[own].to(chosen.boxes)).max(dim=1)
            same = torch.from_numpy(dataset.labels[own])[nearest] == chosen.labels
            located += int((overlap >= 0.5).sum())
            right += int(((overlap >= 0.5) & same).sum())
    shares = f"{located / max(kept, 1):.0%} located, {right / max(kept, 1):.0%} right"
    return f"{kept / len(found):.2f} boxes an image, {shares}; {empty / len(found):.0%} of the images without one"


if __name__ == "__main__":
    main()
