"""The laws that make a detector acceptable, on batches of different image sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.misc import FrozenBatchNorm2d

from mixdet.detectors import PRESETS, FasterRCNN, TwoHeadRCNN, build_backbone, focal_loss
from mixdet.structures import Batch, Instances, Losses, Regions, Staged, TwoStage, supervise

SIZES = [(96, 125), (120, 90), (64, 64)]
CLASSES = 4
TERMS = ("rpn_cls", "rpn_box", "roi_cls", "roi_box")


def instances_in(height: int, width: int, count: int, generator: torch.Generator) -> Instances:
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width - 50.0, height - 50.0]).clamp(min=4)
    side = 20 + 30 * torch.rand(count, 2, generator=generator)
    limit = torch.tensor([width, height], dtype=torch.float32)
    boxes = torch.cat([corner, torch.minimum(corner + side, limit)], dim=1)
    return Instances(boxes, torch.randint(0, CLASSES, (count,), generator=generator))


@pytest.fixture(scope="module")
def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, h, w, generator=generator) for h, w in SIZES]


@pytest.fixture(scope="module")
def labels() -> list[Instances]:
    generator = torch.Generator().manual_seed(2)
    return [instances_in(h, w, n, generator) for (h, w), n in zip(SIZES, (3, 2, 0), strict=True)]


def make_batch(detector: FasterRCNN, images: list[Tensor], labels: list[Instances]) -> Batch:
    canvas = detector.pad_colour[None, :, None, None].expand(len(images), 3, 128, 128).clone()
    for target, image in zip(canvas, images, strict=True):
        target[:, : image.shape[1], : image.shape[2]] = image
    return Batch(canvas, torch.tensor([i.shape[1:] for i in images]), list(labels), pad_colour=detector.pad_colour)


@pytest.fixture(scope="module")
def stock() -> TorchvisionFasterRCNN:
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, trainable_layers=5, norm_layer=FrozenBatchNorm2d
    )
    return TorchvisionFasterRCNN(backbone, CLASSES + 1, _skip_resize=True).train()


@pytest.fixture(scope="module")
def detector(stock: TorchvisionFasterRCNN) -> FasterRCNN:
    ours = FasterRCNN(CLASSES, build_backbone("resnet18", 256), PRESETS["torchvision"])
    ours.load_state_dict(stock.state_dict())
    return ours


@pytest.fixture(scope="module")
def small() -> FasterRCNN:
    torch.manual_seed(3)
    return FasterRCNN(CLASSES, build_backbone("tiny", 64, norm="live"), PRESETS["tiny"])


def losses_of(detector: FasterRCNN, batch: Batch, seed: int = 5) -> Losses:
    torch.manual_seed(seed)
    return supervise(detector, batch)


def test_unit_weights_give_torchvisions_losses_and_gradients(
    stock: TorchvisionFasterRCNN, detector: FasterRCNN, images: list[Tensor], labels: list[Instances]
) -> None:
    torch.manual_seed(5)
    theirs = stock(list(images), [{"boxes": i.boxes, "labels": i.labels + 1} for i in labels])
    ours = losses_of(detector, make_batch(detector, images, labels))
    names = {
        "rpn_cls": "loss_objectness",
        "rpn_box": "loss_rpn_box_reg",
        "roi_cls": "loss_classifier",
        "roi_box": "loss_box_reg",
    }
    for name, their_name in names.items():
        torch.testing.assert_close(ours.terms[name], theirs[their_name], rtol=1e-6, atol=0)
    stock.zero_grad()
    detector.zero_grad()
    sum(theirs.values()).backward()
    ours.total.backward()
    gradients = dict(stock.named_parameters())
    compared = 0
    for name, parameter in detector.named_parameters():
        if (expected := gradients[name].grad) is not None:
            scale = expected.abs().max().item()
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-6, atol=1e-6 * scale)
            compared += scale > 0
    assert compared == len(list(detector.parameters()))


def test_predictions_are_torchvisions(
    stock: TorchvisionFasterRCNN, detector: FasterRCNN, images: list[Tensor], labels: list[Instances]
) -> None:
    batch = make_batch(detector, images, labels)
    with torch.no_grad():
        stock.eval()
        stock.transform.train()  # it resizes otherwise
        theirs = stock(list(images))
        stock.train()
        ours = detector.predict(detector.features(batch.images), batch.with_instances(None))
    assert sum(len(d) for d in ours) > 0
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.boxes, b["boxes"], rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(a.labels + 1, b["labels"])
        torch.testing.assert_close(a.scores, b["scores"])


def test_losses_and_predict_are_composed_of_the_public_steps(
    small: FasterRCNN, images: list[Tensor], labels: list[Instances]
) -> None:
    assert isinstance(small, TwoStage)
    assert isinstance(small, Staged)
    small.eval()  # live batch norm would move between two forwards
    batch = make_batch(small, images, labels)
    whole = losses_of(small, batch)
    torch.manual_seed(5)
    x, maps = small.normalize(batch.images), {}
    for name in small.stages:
        x = maps[name] = small.stage(name, x)
    features = small.neck(maps)
    outputs = small.rpn_outputs(features)
    rpn = small.rpn_losses(outputs, batch)
    regions = small.sample(small.propose(outputs, batch), batch)
    parts = rpn + small.region_losses(small.region_outputs(small.region_features(features, regions)), regions)
    assert list(whole.terms) == list(parts.terms) == list(TERMS)
    for name in TERMS:
        assert whole.terms[name].item() == parts.terms[name].item()
    regions = small.propose(outputs, batch, small.preset.test_limit)
    head = small.region_outputs(small.region_features(features, regions))
    for a, b in zip(small.predict(features, batch), small.detections(head, regions, batch), strict=True):
        assert torch.equal(a.boxes, b.boxes)
        assert torch.equal(a.scores, b.scores)


@pytest.mark.parametrize("preset", ["torchvision", "detectron2", "tiny", "two_heads"])
@pytest.mark.parametrize("roi_cls_loss", ["cross_entropy", "focal"])
def test_losses_are_linear_in_image_weights(
    preset: str, roi_cls_loss: str, images: list[Tensor], labels: list[Instances]
) -> None:
    detector = small_detector(preset, focal=roi_cls_loss == "focal")
    batch = make_batch(detector, images, labels)
    unit = [losses_of(detector, batch.with_weights(torch.eye(3)[i])) for i in range(3)]
    weights = torch.tensor([0.3, 2.0, 0.7])
    mixed = losses_of(detector, batch.with_weights(weights))
    for name in TERMS:
        expected = sum(w * u.terms[name] for w, u in zip(weights, unit, strict=True))
        torch.testing.assert_close(mixed.terms[name], expected, rtol=1e-5, atol=1e-7)
    assert all(mixed.terms[name] > 0 for name in TERMS)


@pytest.mark.parametrize("preset", ["torchvision", "detectron2", "tiny", "two_heads"])
@pytest.mark.parametrize("field", ["cls_weights", "box_weights", "shares"])
@pytest.mark.parametrize("background_pull", [0.0, 1.0])
def test_losses_are_affine_in_instance_weights(
    preset: str, field: str, background_pull: float, images: list[Tensor], labels: list[Instances]
) -> None:
    detector = small_detector(preset, background_pull=background_pull)

    def at(weight: Tensor) -> Losses:
        first = replace(labels[0], **{field: weight})
        return losses_of(detector, make_batch(detector, images, [first, *labels[1:]]))

    a, b = torch.tensor([0.9, 0.2, 0.5]), torch.tensor([0.1, 1.0, 0.4])
    for t in (0.25, 0.6):
        between, low, high = at(t * a + (1 - t) * b), at(a), at(b)
        for name in TERMS:
            torch.testing.assert_close(
                between.terms[name], t * low.terms[name] + (1 - t) * high.terms[name], rtol=1e-5, atol=1e-7
            )
    touched = {"cls_weights": ("rpn_cls", "roi_cls"), "box_weights": ("rpn_box", "roi_box"), "shares": TERMS}[field]
    for name in TERMS:
        assert (low.terms[name] != high.terms[name]).item() == (name in touched), name


@pytest.mark.parametrize("terms", [(), ("roi_cls",), ("rpn_box", "roi_box"), TERMS])
def test_mixed_terms_touch_nothing_but_shares(
    terms: tuple[str, ...], images: list[Tensor], labels: list[Instances]
) -> None:
    detector = small_detector("tiny", mixed_terms=terms)
    plain = losses_of(detector, make_batch(detector, images, labels))
    shared = losses_of(detector, make_batch(detector, images, [i.shared(0.3) for i in labels]))
    for name in TERMS:
        assert (plain.terms[name] == shared.terms[name]).item() == (name not in terms)
    pseudo = losses_of(detector, make_batch(detector, images, [i.without_box_loss().shared(0.3) for i in labels]))
    assert pseudo.terms["rpn_box"] == 0
    assert pseudo.terms["roi_box"] == 0


@pytest.mark.parametrize("empty", [(0,), (0, 1)])
def test_images_without_instances_are_pure_background(
    empty: tuple[int, ...], images: list[Tensor], labels: list[Instances]
) -> None:
    detector = small_detector("tiny")
    labels = [Instances.empty() if i in empty else one for i, one in enumerate(labels)]
    losses = losses_of(detector, make_batch(detector, images, labels))
    losses.total.backward()
    assert losses.total.isfinite()
    assert (losses.terms["roi_box"] == 0) == (len(empty) == 2)


def test_a_batch_without_any_region_has_finite_losses(
    images: list[Tensor], labels: list[Instances], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No instance, and no proposal that is finite: what a bad teacher and a bad start come to."""
    detector = small_detector("tiny")
    batch = make_batch(detector, images, [Instances.empty() for _ in labels])
    none = detector.propose(detector.rpn_outputs(detector.features(batch.images)), batch)
    none = replace(none, boxes=none.boxes[:0], image_index=none.image_index[:0])
    monkeypatch.setattr(detector, "propose", lambda *_: none)
    losses = losses_of(detector, batch)
    losses.total.backward()
    assert losses.total.isfinite()
    assert losses.terms["roi_cls"] == losses.terms["roi_box"] == 0


def test_ignored_instances_are_neither_positive_nor_background(small: FasterRCNN, images: list[Tensor]) -> None:
    everything = Instances(torch.tensor([[0.0, 0, 125, 96]]), torch.tensor([1]), ignored=torch.tensor([True]))
    small.eval()
    one = [images[0]]
    losses = losses_of(small, make_batch(small, one, [everything]))
    assert losses.terms["roi_cls"] == 0
    assert losses.terms["roi_box"] == 0
    mixed = losses_of(small, make_batch(small, one, [everything.shared(0.3)]))
    negative = losses_of(small, make_batch(small, one, [Instances.empty()]))
    torch.testing.assert_close(mixed.terms["roi_cls"], 0.7 * negative.terms["roi_cls"], rtol=1e-5, atol=0)


def test_boxes_stay_float32_under_autocast(small: FasterRCNN, images: list[Tensor], labels: list[Instances]) -> None:
    batch = make_batch(small, images, labels)
    box = torch.tensor([[33.3, 41.7, 61.3, 70.1]])
    regions = Regions(box, torch.zeros(1, dtype=torch.int64), 3)
    levels = {name: level.detach().bfloat16() for name, level in small.features(batch.images).items()}
    pooled: list[Tensor] = []
    handle = small.roi_heads.box_head.register_forward_pre_hook(lambda module, inputs: pooled.append(inputs[0]))
    with torch.autocast("cpu", torch.bfloat16):
        small.region_features(levels, regions)
    small.region_features({name: level.float() for name, level in levels.items()}, regions)
    handle.remove()
    torch.testing.assert_close(pooled[0].float(), pooled[1], rtol=1e-2, atol=1e-2 * pooled[1].abs().max().item())


def test_a_network_of_nans_finds_nothing(images: list[Tensor], labels: list[Instances]) -> None:
    broken = small_detector("tiny")
    for parameter in broken.parameters():
        parameter.data.fill_(float("nan"))
    batch = make_batch(broken, images, labels)
    with torch.no_grad():
        found = broken.predict(broken.features(batch.images), batch)
    assert [len(d) for d in found] == [0, 0, 0]


def small_detector(
    preset: str,
    *,
    focal: bool = False,
    background_pull: float = 0.0,
    mixed_terms: tuple[str, ...] = TERMS,
) -> FasterRCNN:
    """Of a preset, or with the two heads that the tiny one gets."""
    torch.manual_seed(4)
    kind, preset = (TwoHeadRCNN, "tiny") if preset == "two_heads" else (FasterRCNN, preset)
    numbers = replace(PRESETS[preset], fpn_channels=32, head_channels=32, roi_samples=64)
    backbone = build_backbone("tiny", 32, norm="frozen")
    kwargs = {"roi_cls_loss": focal_loss} if focal else {}
    return kind(CLASSES, backbone, numbers, mixed_terms, background_pull, **kwargs).eval()
