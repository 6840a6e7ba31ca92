"""N_O: its exact expectation, and the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mixdet.cli.main import main
from mixdet.data.scenes import scenes
from mixdet.data.stand_in import write_coco
from mixdet.errors import MixdetError
from mixdet.reports.tiles import tiles_per_object, tiles_touched


def expected(side: float, extent: float, num_tiles: int) -> float:
    """ssod.md 1.12, one axis: 1 + sum_k |[max(0, b_k - w), min(b_k, W - w)]| / (W - w), b_k = k W / N_T."""
    room = side - extent
    borders = [k * side / num_tiles for k in range(1, num_tiles)]
    return 1 + sum(max(0.0, min(b, room) - max(0.0, b - extent)) for b in borders) / room


@pytest.mark.parametrize("num_tiles", [1, 2, 4, 8])
@pytest.mark.parametrize(("width", "height"), [(30.0, 20.0), (200.0, 120.0), (500.0, 350.0)])
def test_the_mean_over_positions_is_the_exact_expectation(width: float, height: float, num_tiles: int) -> None:
    rng = np.random.default_rng(0)
    count, size = 200_000, np.array([480.0, 640.0])
    corners = rng.random((count, 2)) * (size[::-1] - [width, height])
    boxes = np.concatenate([corners, corners + np.array([width, height])], axis=1)
    found = tiles_touched(boxes, np.tile(size, (count, 1)), num_tiles).mean()
    assert found == pytest.approx(expected(640, width, num_tiles) * expected(480, height, num_tiles), rel=0.01)


def test_the_short_form_of_the_expectation_holds_for_boxes_smaller_than_a_tile() -> None:
    assert expected(640, 100, 4) == pytest.approx(1 + 3 * 100 / 540)


@given(st.integers(1, 20), st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_tiles_are_counted_one_by_one(num_tiles: int, corners: list[float]) -> None:
    (x1, x2), (y1, y2) = sorted(corners[:2]), sorted(corners[2:])
    box = np.array([[x1 * 64, y1 * 48, x2 * 64 + 1, y2 * 48 + 1]])
    box[:, 2:] = np.minimum(box[:, 2:], [64, 48])
    assume(((box[:, 2:] - box[:, :2]) > 0.01).all())
    count = 0
    for row in range(num_tiles):
        for column in range(num_tiles):
            left, top = max(box[0, 0], column * 64 / num_tiles), max(box[0, 1], row * 48 / num_tiles)
            right, bottom = min(box[0, 2], (column + 1) * 64 / num_tiles), min(box[0, 3], (row + 1) * 48 / num_tiles)
            count += right - left > 1e-9 and bottom - top > 1e-9
    found = int(tiles_touched(box, np.array([[48.0, 64.0]]), num_tiles)[0])
    assert found in (count, count + 1, count + 2) if _on_a_border(box, num_tiles) else found == count


def _on_a_border(box: np.ndarray, num_tiles: int) -> bool:
    cells = box[0] * num_tiles / [64, 48, 64, 48]
    return bool((np.abs(cells - cells.round()) < 1e-6).any())


def test_sizes_and_the_range() -> None:
    found = tiles_per_object(scenes("photo", count=40), (1, 2, 4))
    assert found.means["all"][0] == 1
    assert list(found.means["all"]) == sorted(found.means["all"])
    assert found.counts["all"] == sum(found.counts[size] for size in ("small", "medium", "large"))
    assert found.means["small"][2] < found.means["medium"][2]
    assert found.fitting("all") == tuple(
        n for n, m in zip((1, 2, 4), found.means["all"], strict=True) if 1.2 <= m <= 2.5
    )
    assert 1 not in found.fitting("all")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(tmp_path / "train.json", tmp_path / "train", 6)
    assert main(["tiles", str(tmp_path / "train.json"), "--num-tiles", "1,4"]) == 0
    said = capsys.readouterr().out
    assert "all: N_T that keeps N_O within 1.2 to 2.5:" in said
    assert main(["tiles", str(tmp_path / "train.json"), "--num-tiles", "0"]) == 2
    assert "'0' is not a count" in capsys.readouterr().err


def test_more_tiles_than_pixels_are_refused() -> None:
    with pytest.raises(MixdetError, match=r"num_tiles = 10\d{20}: the largest image is 64 pixels long"):
        tiles_per_object(scenes("photo", count=2, size=64), (1, 10**21))
