"""What a teacher has found in each image so far, visit by visit: labels that outlive the step they were made in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mixdet.structures import Detections
from mixdet.teaching.labelling import suppress

SCORE, LABEL, HEAD, COLUMNS = 4, 5, 6, 7  # of a row, after the box
STATE = ("names", "counts", "rows")


class LabelStore(nn.Module):
    """Boxes of many images, in the pixels of the originals, for each head of a teacher.

    At each visit of image i head k's boxes become M_i^k <- NMS(decay * M_i^k u D_i^k), without those whose score has
    fallen to the threshold: what is found again stays, what is not dies in the end. Visits become known at the end of a
    step (``commit``), to all processes, so that labels do not depend on how shards are dealt to processes.

    The store is part of its method's ``state_dict``, of a size that grows with it; without an image it leaves no trace
    there. It stays on the CPU.

    Args:
        heads: of the teacher.
        score_threshold: boxes have a score above it.
        decay: of a score, each time its image is visited.
        iou: boxes of one class that overlap by more are one.
        limit: boxes of an image and head at the most.
    """

    def __init__(
        self, heads: int, score_threshold: float, decay: float = 0.99, iou: float = 0.5, limit: int = 100
    ) -> None:
        super().__init__()
        self.heads = heads
        self.score_threshold = score_threshold
        self.decay = decay
        self.iou = iou
        self.limit = limit
        self._rows: dict[str, Tensor] = {}  # image -> (M, 7) float32: box, score, label, head
        self._visited: dict[str, Tensor] = {}  # since the last commit

    def __len__(self) -> int:
        """Images with a box."""
        return len(self._rows)

    def of(self, image: str) -> list[Detections]:
        """What is known of an image as of the last ``commit``, a ``Detections`` a head."""
        rows = self._rows.get(image, torch.zeros(0, COLUMNS))
        parts = [rows[rows[:, HEAD] == head] for head in range(self.heads)]
        return [Detections(part[:, :SCORE], part[:, LABEL].long(), part[:, SCORE]) for part in parts]

    def visit(self, image: str, found: Sequence[Detections]) -> list[Detections]:
        """What is known of an image, new detections included; remembered until ``commit``.

        Of two visits in one step the later shard's counts.

        Args:
            image: its name.
            found: new detections of each head, on the CPU, in the pixels of the original.
        """
        limits = {"iou": self.iou, "score_threshold": self.score_threshold}
        merged = [
            merge(known, new, decay=self.decay, limit=self.limit, **limits)
            for known, new in zip(self.of(image), found, strict=True)
        ]
        self._visited[image] = _packed(merged)
        return merged

    def commit(self) -> None:
        """Make the visits of all processes known; each of them calls this once a step."""
        for visited in _of_all_processes(self._visited):
            for image, rows in visited.items():
                if len(rows):
                    self._rows[image] = rows
                else:
                    self._rows.pop(image, None)
        self._visited = {}

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        names = sorted(self._rows)
        if names:
            rows = [self._rows[name] for name in names]
            encoded = torch.frombuffer(bytearray(json.dumps(names).encode()), dtype=torch.uint8)
            state = (encoded, torch.tensor([len(part) for part in rows]), torch.cat(rows))
            destination.update({prefix + key: value for key, value in zip(STATE, state, strict=True)})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        self._rows, self._visited = {}, {}
        if prefix + STATE[0] in state_dict:
            encoded, counts, rows = (state_dict[prefix + key].cpu() for key in STATE)
            names = json.loads(encoded.numpy().tobytes())
            parts = rows.split(counts.tolist())
            self._rows = {name: part.clone() for name, part in zip(names, parts, strict=True)}


def merge(
    known: Detections, found: Detections, *, decay: float, iou: float, score_threshold: float, limit: int
) -> Detections:
    """NMS(decay * known u found) of one image, a class at a time; scores above the threshold, the ``limit`` best."""
    every = Detections.concat([replace(known, scores=known.scores * decay), found])
    return suppress(every.select(every.scores > score_threshold), iou, limit)


def _packed(of_heads: Sequence[Detections]) -> Tensor:
    """(M, 7) rows, heads in order."""
    parts = [
        torch.cat(
            [f.boxes, f.scores[:, None], f.labels[:, None], torch.full_like(f.labels[:, None], head)], dim=1
        )  # (M_k, 7)
        for head, f in enumerate(of_heads)
    ]
    return torch.cat(parts).float()


def _of_all_processes(visited: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """What each process has visited, in the order of their shards."""
    if not dist.is_available() or not dist.is_initialized():
        return [visited]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, visited)
    return gathered
