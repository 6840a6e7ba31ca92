from __future__ import annotations

import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

import mixdet.data
from mixdet.data.dataset import DetectionDataset


@dataclass(frozen=True)
class FlatImages:
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, i: int) -> Tensor:
        return torch.full((3, 10, 20), i, dtype=torch.uint8)

    def name(self, i: int) -> str:
        return f"image{i}.png"


def small() -> DetectionDataset:
    """Four images; image 1 has none, image 2 three boxes: one plain, one crowd, one crowd and difficult."""
    return DetectionDataset.from_rows(
        "small",
        FlatImages(4),
        ["cat", "dog"],
        sizes=[[10, 20]] * 4,
        image_index=[2, 0, 3, 2, 2],
        boxes=[[0, 0, 2, 3], [1, 1, 3, 3], [2, 2, 5, 5], [4, 4, 6, 6], [7, 7, 9, 9]],
        labels=[0, 1, 0, 1, 0],
        crowd=[False, False, False, True, True],
        difficult=[False, True, False, False, True],
        image_ids=[10, 11, 12, 13],
        category_ids=[3, 90],
    )


def test_rows_are_sorted_by_image_and_keep_their_order() -> None:
    data = small()
    assert len(data) == 4
    assert data.offsets.tolist() == [0, 1, 1, 4, 5]
    assert data.boxes[:, 0].tolist() == [1, 0, 4, 7, 2]
    assert data.areas.tolist() == [4, 6, 4, 4, 9]
    assert data.image_index.tolist() == [0, 2, 2, 2, 3]
    assert data.ignored.tolist() == [True, False, True, True, False]


def test_instances() -> None:
    two = small().instances(2)
    assert two.boxes.tolist() == [[0, 0, 2, 3], [4, 4, 6, 6], [7, 7, 9, 9]]
    assert two.boxes.dtype == torch.float32
    assert two.labels.tolist() == [0, 1, 0]
    assert two.labels.dtype == torch.int64
    assert two.ignored.tolist() == [False, True, True]
    assert len(small().instances(1)) == 0
    assert small().instances(1).boxes.shape == (0, 4)


def test_instances_do_not_share_memory_with_the_data_set() -> None:
    data = small()
    data.instances(2).boxes.zero_()
    assert data.instances(2).boxes[1].tolist() == [4, 4, 6, 6]


@pytest.mark.parametrize("i", [-1, 4])
def test_positions_are_checked(i: int) -> None:
    for read in (small().instances, small().image):
        with pytest.raises(IndexError, match=f"small: image {i} of 4"):
            read(i)


def test_subset_in_its_own_order() -> None:
    part = small().subset([3, 1, 2])
    assert len(part) == 3
    assert [part.images.name(i) for i in range(3)] == ["image3.png", "image1.png", "image2.png"]
    assert part.image_ids.tolist() == [13, 11, 12]
    assert [len(part.instances(i)) for i in range(3)] == [1, 0, 3]
    assert part.instances(2).boxes.tolist() == small().instances(2).boxes.tolist()
    assert part.image(0)[0, 0, 0] == 3
    assert part.classes == small().classes
    again = part.subset(torch.tensor([2, 0]))
    assert [again.images.name(i) for i in range(2)] == ["image2.png", "image3.png"]
    assert isinstance(again.images.source, FlatImages)
    assert again.areas.tolist() == [6, 4, 4, 9]


def test_empty_subset() -> None:
    part = small().subset([])
    assert len(part) == 0
    assert len(part.boxes) == 0
    assert part.offsets.tolist() == [0]


def test_subset_refuses_repeats_and_strangers() -> None:
    with pytest.raises(ValueError, match="repeat"):
        small().subset([1, 1])
    for bad in ([4], [-1]):
        with pytest.raises(IndexError, match=r"small: subset positions must lie in \[0, 4\)"):
            small().subset(bad)


@pytest.mark.parametrize(
    ("crowd", "difficult", "boxes", "ignored"),
    [
        ("keep", "keep", [1, 0, 4, 7, 2], [0, 0, 0, 0, 0]),
        ("ignore", "keep", [1, 0, 4, 7, 2], [0, 0, 1, 1, 0]),
        ("ignore", "ignore", [1, 0, 4, 7, 2], [1, 0, 1, 1, 0]),
        ("drop", "keep", [1, 0, 2], [0, 0, 0]),
        ("drop", "ignore", [1, 0, 2], [1, 0, 0]),
        ("ignore", "drop", [0, 4, 2], [0, 1, 0]),
        ("drop", "drop", [0, 2], [0, 0]),
    ],
)
def test_policies(crowd, difficult, boxes: list[int], ignored: list[int]) -> None:
    data = small().with_policy(crowd=crowd, difficult=difficult)
    assert data.boxes[:, 0].tolist() == boxes
    assert data.ignored.tolist() == [bool(i) for i in ignored]
    assert len(data) == 4
    assert data.offsets[-1] == len(boxes)
    kept = small().boxes[:, 0].tolist()
    assert data.crowd.tolist() == [small().crowd[kept.index(b)] for b in boxes]
    assert data.difficult.tolist() == [small().difficult[kept.index(b)] for b in boxes]


def test_policies_are_named_in_errors() -> None:
    with pytest.raises(ValueError, match="crowd: 'hide' is not one of keep, drop, ignore"):
        small().with_policy(crowd="hide", difficult="keep")  # type: ignore[arg-type]


def test_pickles_small_and_equal() -> None:
    n, m = 1000, 5000
    data = DetectionDataset.from_rows(
        "many",
        FlatImages(n),
        ["a"],
        sizes=np.full((n, 2), 9),
        image_index=np.arange(m) % n,
        boxes=np.tile([0.0, 0, 1, 1], (m, 1)),
        labels=np.zeros(m),
    )
    dumped = pickle.dumps(data)
    assert len(dumped) < n * 24 + m * 31 + 4000
    back = pickle.loads(dumped)
    assert np.array_equal(back.offsets, data.offsets)
    assert len(back.instances(999)) == 5


def test_arrays_that_disagree_are_refused() -> None:
    data = small()
    for changes, words in [
        ({"areas": data.areas[:-1]}, "areas"),
        ({"labels": data.labels.astype(np.int32)}, "labels is int32"),
        ({"labels": data.labels + 1}, r"labels must lie in \[0, 2\)"),
        ({"offsets": data.offsets[::-1].copy()}, "offsets must ascend"),
        ({"sizes": data.sizes[:2]}, "sizes"),
    ]:
        with pytest.raises(ValueError, match=words):
            replace(data, **changes)


def test_repr_is_one_line() -> None:
    assert repr(small()) == "DetectionDataset(small: 4 images, 5 boxes, 2 classes)"


def test_public_names() -> None:
    assert sorted(mixdet.data.__all__, key=str.lower) == sorted(set(mixdet.data.__all__), key=str.lower)
    assert all(hasattr(mixdet.data, name) for name in mixdet.data.__all__)
