"""Streams: the same batches for any number of workers, processes and interruptions."""

from __future__ import annotations

from itertools import islice
from multiprocessing import get_all_start_methods
from pathlib import Path

import pytest
import torch
from PIL import Image

from mixdet.data import DetectionDataset, FileImages, opencv, streams
from mixdet.data.geometry import WeakView
from mixdet.data.packing import PackedBatch, PackedImages
from mixdet.data.photometric import PhotometricView
from mixdet.data.scenes import scenes
from mixdet.data.streams import Workers, evaluation_batches, stream_batches
from mixdet.data.strong import StrongView
from mixdet.data.unlabeled import open_unlabeled
from mixdet.errors import MixdetError
from mixdet.structures.boxes import transform_boxes

DATA = scenes("photo", count=10, size=64)
STRONG = StrongView(PhotometricView())
COLOUR = torch.tensor([0.485, 0.456, 0.406])


def batches(count: int, **changes: object) -> list[PackedBatch]:
    settings: dict[str, object] = {
        "name": "labeled",
        "labeled": True,
        "batch_size": 4,
        "shards": 2,
        "own_shards": range(2),
        "start": 0,
        "stride": 32,
        "seed": 7,
        "strong": {"strong": STRONG},
        **changes,
    }
    return list(islice(stream_batches(DATA, WeakView((32, 48), 64, 0.5), **settings), count))  # type: ignore[arg-type]


def same_images(a: PackedImages, b: PackedImages) -> bool:
    tensors = ("images", "sizes", "affines", "boxes", "labels", "ignored")
    return (
        a.names == b.names and a.counts == b.counts and all(torch.equal(getattr(a, t), getattr(b, t)) for t in tensors)
    )


def same(a: PackedBatch, b: PackedBatch) -> bool:
    views = [p.to_views("cpu", COLOUR) for p in (a, b)]
    return (
        same_images(a.weak, b.weak)
        and list(a.own) == list(b.own)
        and all(same_images(a.own[name], b.own[name]) for name in a.own)
        and list(views[0]) == list(views[1])
        and all(torch.equal(views[0][name].images, views[1][name].images) for name in views[0])
    )


@pytest.mark.skipif("fork" not in get_all_start_methods(), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.* may lead to deadlocks:DeprecationWarning")
@pytest.mark.parametrize("workers", [Workers(2, "spawn"), Workers(1, "fork"), Workers(2, "fork")])
def test_workers_change_nothing(workers: Workers) -> None:
    for here, there in zip(batches(8), batches(8, workers=workers), strict=True):
        assert same(here, there)


def test_an_unlabelled_image_that_cannot_be_read_has_a_stand_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(4):
        Image.fromarray(DATA.image(index).permute(1, 2, 0).numpy()).save(tmp_path / f"{index}.png")
    settings = {"labeled": False, "name": "unlabeled", "shards": 1, "own_shards": range(1)}
    read = {}
    for broken in (False, True):
        if broken:
            (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:200])  # its header is whole
        data = open_unlabeled(str(tmp_path))
        assert len(data) == 4
        stream = stream_batches(data, WeakView((48,), 64), batch_size=4, start=0, stride=32, seed=7, **settings)  # type: ignore[arg-type]
        read[broken] = [batch.weak.names for batch in islice(stream, 3)]
    assert read[True] == [["2.png" if name == "1.png" else name for name in names] for names in read[False]]
    said = capsys.readouterr().err
    assert said.count("another unlabelled image stands in for it") == 1
    assert said.startswith(f"mixdet: {tmp_path / '1.png'}: ")


def test_a_start_that_the_platform_has_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(MixdetError, match="worker_start: this platform has no 'fork'; use spawn"):
        Workers(1, "fork")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_named_by_any_number_of_workers(workers: int, tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(b"no image")
    images = FileImages.from_names(tmp_path, ["cut.jpg"])
    rows: dict[str, list[object]] = {"image_index": [], "boxes": [], "labels": []}
    data = DetectionDataset.from_rows("broken", images, ("cat",), sizes=[(64, 64)], **rows)  # type: ignore[arg-type]
    with pytest.raises(MixdetError) as fault:
        next(evaluation_batches(data, WeakView((48,), 64), batch_size=1, stride=32, workers=Workers(workers)))
    assert str(fault.value).startswith(f"{tmp_path / 'cut.jpg'}: the file is not an image")
    assert "Traceback" not in str(fault.value)


def test_processes_share_the_shards_of_a_step() -> None:
    whole = batches(8)
    for rank in range(2):
        own = batches(4, own_shards=range(rank, rank + 1))
        assert all(same(a, b) for a, b in zip(own, whole[rank::2], strict=True))


def test_a_later_start_goes_on_in_mid_epoch() -> None:
    assert all(same(a, b) for a, b in zip(batches(4, start=3), batches(10)[6:], strict=True))


def test_seeds_and_names_tell_streams_apart() -> None:
    plain = batches(6)
    assert not all(same(a, b) for a, b in zip(plain, batches(6, seed=8), strict=True))
    assert not all(same(a, b) for a, b in zip(plain, batches(6, name="unlabeled"), strict=True))


def test_an_unlabelled_stream_never_opens_an_annotation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(DATA), "instances", lambda self, index: pytest.fail("annotations were opened"))
    packed = batches(1, labeled=False)[0].weak
    assert packed.counts is None
    assert packed.to_batch("cpu", COLOUR).instances is None
    with pytest.raises(pytest.fail.Exception):
        batches(1)


def test_a_batch_is_padded_with_the_colour_that_normalises_to_zero() -> None:
    packed = next(p.weak for p in batches(8) if len({tuple(s) for s in p.weak.sizes.tolist()}) > 1)
    batch = packed.to_batch("cpu", COLOUR)
    assert all(side % 32 == 0 for side in batch.canvas)
    for image, original, (height, width) in zip(batch.images, packed.images, batch.sizes.tolist(), strict=True):
        assert torch.equal(image[:, :height, :width], original[:height, :width].permute(2, 0, 1) / 255)
        assert not original[height:].any()
        assert not original[:, width:].any()
        for padding in (image[:, height:], image[:, :, width:]):
            assert torch.equal(padding, COLOUR[:, None, None].expand_as(padding))
    assert [len(i) for i in batch.labels] == packed.counts
    assert batch.ids == tuple(frozenset({name}) for name in packed.names)


def test_evaluation_reads_every_image_once_in_order() -> None:
    packed = [p.weak for p in evaluation_batches(DATA, WeakView((48,), 64), batch_size=4, stride=32)]
    assert [len(p.names) for p in packed] == [4, 4, 2]
    assert [name for p in packed for name in p.names] == [DATA.images.name(i) for i in range(10)]
    assert all(p.counts is None for p in packed)


def test_the_strong_view_shares_geometry_and_instances_with_the_weak_one() -> None:
    for packed in batches(4):
        views = packed.to_views("cpu", COLOUR)
        weak, strong = views.weak, views.strong
        assert torch.equal(strong.sizes, weak.sizes)
        assert torch.equal(strong.affines, weak.affines)  # type: ignore[arg-type]
        assert [(i.boxes.tolist(), i.labels.tolist()) for i in strong.labels] == [
            (i.boxes.tolist(), i.labels.tolist()) for i in weak.labels
        ]
        assert strong.ids == weak.ids
        assert not torch.equal(strong.images, weak.images)


@pytest.mark.parametrize("exact", [False, True])
def test_on_a_cpu_views_are_drawn_in_bytes_where_opencv_can(exact: bool) -> None:
    packed = batches(1, strong={"strong": StrongView(PhotometricView(exact=exact))})[0]
    changed = packed.changed_on_cpu()
    assert list(changed.own) == ([] if exact or opencv.cv2 is None else ["strong"])
    assert list(changed.own) + list(changed.drawn) == ["strong"]
    strong = packed.to_views("cpu", COLOUR).strong
    floats = packed.drawn["strong"].apply(packed.weak.to_batch("cpu", COLOUR))
    torch.testing.assert_close(strong.images, floats.images, rtol=0, atol=2 / 255)
    for image, (height, width) in zip(strong.images, strong.sizes.tolist(), strict=True):
        levels = 255 * image[:, :height, :width]
        in_levels = torch.allclose(levels, levels.round(), rtol=0, atol=1e-3)
        assert in_levels == ("strong" in changed.own)
    for image, (height, width) in zip(strong.images, strong.sizes.tolist(), strict=True):
        for padding in (image[:, height:], image[:, :, width:]):
            assert torch.equal(padding, COLOUR[:, None, None].expand_as(padding))


def test_several_views_of_a_position_are_drawn_apart() -> None:
    views = batches(1, strong={"strong": STRONG, "strong2": STRONG})[0].to_views("cpu", COLOUR)
    assert list(views) == ["weak", "strong", "strong2"]
    assert not torch.equal(views.strong.images, views.strong2.images)
    alone = batches(1)[0].to_views("cpu", COLOUR)
    assert torch.equal(alone.strong.images, views.strong.images)


def test_a_view_may_have_a_geometry_of_its_own() -> None:
    own = StrongView(PhotometricView(jitter_p=0, grey_p=0, blur_p=0, erase=()), WeakView((40,), 80, 0.5))
    flips = 0
    for packed in batches(8, strong={"strong": STRONG, "strong2": own}):
        views = packed.to_views("cpu", COLOUR)
        assert torch.equal(views.strong.sizes, views.weak.sizes)
        assert views.strong2.sizes.amin(1).tolist() == [40] * len(views.weak)
        assert views.strong2.ids == views.weak.ids
        names = [DATA.images.name(i) for i in range(len(DATA))]
        for i, seen in enumerate(views.strong2.labels):  # its boxes are the image's, under its own affine
            (name,) = views.strong2.ids[i]
            boxes = DATA.instances(names.index(name)).boxes
            assert views.strong2.affines is not None
            torch.testing.assert_close(seen.boxes, transform_boxes(boxes, views.strong2.affines[i]))
        assert views.weak.affines is not None
        flips += int(((views.weak.affines[:, 0, 0] < 0) != (views.strong2.affines[:, 0, 0] < 0)).sum())
    assert 0 < flips < 16  # flipped apart
    alone = batches(1)[0].to_views("cpu", COLOUR)
    assert torch.equal(batches(1, strong={"strong": STRONG, "strong2": own})[0].weak.images, batches(1)[0].weak.images)
    assert len(alone) == 2


def test_workers_change_nothing_of_a_view_with_its_own_geometry() -> None:
    own = StrongView(PhotometricView(), WeakView((40,), 80, 0.5))
    for here, there in zip(
        batches(3, strong={"strong": own}), batches(3, strong={"strong": own}, workers=Workers(1)), strict=True
    ):
        assert same(here, there)
