"""What a recipe says of its data reaches the streams that are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mixdet.data.geometry import WeakView
from mixdet.recipes import Recipe
from mixdet.runs import streams
from mixdet.runs.data import Data
from mixdet.structures import Stream
from recipes_for_tests import quick_recipe

POOL = "data.unlabeled=scenes:photo/train,count=16,size=96"
STREAMS = (Stream("labeled", labeled=True), Stream("unlabeled", labeled=False, views=("strong",)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Recipe, str], list[Any]]:
    """What the labelled and the unlabelled stream are opened with, of one setting."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(streams, "stream_batches", lambda dataset, view, **others: found.update(others, view=view))

    def of(recipe: Recipe, key: str) -> list[Any]:
        data, values = Data.open(recipe, measured=False), []
        for stream in STREAMS:
            streams.open_stream(recipe, data, stream, own_shards=range(1), start=3, stride=32)
            values.append(found[key])
        return values

    return of


@pytest.mark.parametrize(
    ("word", "key", "plain", "expected"),
    [
        ("data.class_balanced=true", "balanced", [False, False], [True, False]),  # nobody knows the pool's classes
        ("data.aspect_grouping=false", "aspect_grouping", [True, True], [False, False]),
        ("data.crop=0.4", "view", [WeakView((64, 96), 96, 0.5)] * 2, [WeakView((64, 96), 96, 0.5, 0.4)] * 2),
        ("data.flip=0.25", "view", [WeakView((64, 96), 96, 0.5)] * 2, [WeakView((64, 96), 96, 0.25)] * 2),
        ("data.batch_size=6", "batch_size", [4, 4], [6, 6]),
        ("data.unlabeled_batch_size=8", "batch_size", [4, 4], [4, 8]),
        ("data.shards=2", "shards", [1, 1], [2, 2]),
        ("seed=5", "seed", [4, 4], [5, 5]),
    ],
)
def test_every_setting_reaches_its_streams(
    word: str, key: str, plain: list[Any], expected: list[Any], tmp_path: Path, asked: Callable[..., list[Any]]
) -> None:
    words = (tmp_path / "run", POOL, "method={name: mum}")
    assert asked(quick_recipe(*words), key) == plain
    assert asked(quick_recipe(*words, word), key) == expected
