"""What a run's teacher would label in images whose boxes we know but did not use: how many boxes, and how many right.

    python docs/evidence/label_quality.py RUN --data DATA.json --files LIST.txt --count 200

A box is located if it overlaps a real one by half or more (IoU), right if that one's class is its own too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torchvision.ops import box_iou

from mixdet.data import open_dataset, select_files
from mixdet.runs.folder import RunFolder
from mixdet.runs.infer import load_trained

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--data", required=True, help="COCO file with the boxes")
    parser.add_argument("--files", type=Path, required=True, help="images of it to look at, one a line")
    parser.add_argument("--count", type=int, default=200, help="the first so many")
    args = parser.parse_args()
    torch.set_num_threads(1)
    whole = open_dataset(args.data)
    dataset = whole.subset(select_files(whole, args.files.read_text("utf-8").splitlines()[: args.count]))
    trained = load_trained(RunFolder(args.run).last(), torch.device("cpu"))
    found, boxes = list(trained.detect(dataset)), torch.from_numpy(dataset.boxes)
    print(f"{len(dataset)} images, {len(boxes) / len(dataset):.2f} boxes an image")
    for threshold in THRESHOLDS:
        kept = located = right = 0
        for i, detections in enumerate(found):
            chosen = detections.select(detections.scores > threshold)
            own = slice(dataset.offsets[i], dataset.offsets[i + 1])
            kept += len(chosen)
            if len(chosen) and own.start < own.stop:
                overlap, nearest = box_iou(chosen.boxes, boxes[own].to(chosen.boxes)).max(dim=1)
                same = torch.from_numpy(dataset.labels[own])[nearest] == chosen.labels
                located += int((overlap >= 0.5).sum())
                right += int(((overlap >= 0.5) & same).sum())
        shares = f"{located / max(kept, 1):.0%} located, {right / max(kept, 1):.0%} right"
        print(f"score > {threshold:g}: {kept / len(dataset):.2f} boxes an image, {shares}")


if __name__ == "__main__":
    main()
