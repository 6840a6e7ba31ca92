"""Mixing in anybody's own loop: around a classifier, and around torchvision's Faster R-CNN."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import sigmoid_focal_loss

from mixdet.mixing import PAIRINGS, Beta, Mix, blend_images, from_torchvision, interpolate_losses, to_torchvision
from mixing.batches import generator
from oracles import mixing as oracle


def cross_entropy(output, target):
    return F.cross_entropy(output, target, reduction="none")


def binary_cross_entropy(output, target):
    return F.binary_cross_entropy_with_logits(output, target, reduction="none").mean(1)


def focal(output, target):
    return sigmoid_focal_loss(output, target).mean(1)


@pytest.fixture
def sample():
    draw = generator(0)
    output, labels = torch.randn(6, 5, generator=draw, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 4, 0])
    return output, labels, PAIRINGS["derangement"](6, draw), Beta().sample(6, draw).double()


def mixup_labels(labels, partner, lam):
    one_hot = F.one_hot(labels, 5).double()
    return lam[:, None] * one_hot + (1 - lam[:, None]) * one_hot[partner]


def test_cross_entropy_mixed_by_loss_is_mixup(sample):
    output, labels, partner, lam = sample
    mixed = interpolate_losses(cross_entropy, output, labels, partner, lam)
    soft = mixup_labels(labels, partner, lam)
    torch.testing.assert_close(mixed, cross_entropy(output, soft), atol=1e-6, rtol=0)
    expected = [oracle.soft_cross_entropy(o, y) for o, y in zip(output.numpy(), soft.numpy(), strict=True)]
    np.testing.assert_allclose(mixed.numpy(), expected, atol=1e-6)


def test_binary_cross_entropy_mixed_by_loss_is_mixup(sample):
    output, labels, partner, lam = sample
    hard = F.one_hot(labels, 5).double()
    mixed = interpolate_losses(binary_cross_entropy, output, hard, partner, lam)
    soft = mixup_labels(labels, partner, lam)
    expected = [oracle.soft_binary_cross_entropy(o, y) for o, y in zip(output.numpy(), soft.numpy(), strict=True)]
    np.testing.assert_allclose(mixed.numpy(), expected, atol=1e-6)


def test_focal_loss_mixed_by_loss_is_not_mixup(sample):
    output, labels, partner, lam = sample
    mixed = interpolate_losses(focal, output, F.one_hot(labels, 5).double(), partner, lam)
    assert (mixed - focal(output, mixup_labels(labels, partner, lam))).abs().max() > 1e-3


def test_gradients_are_mixups_too(sample):
    output, labels, partner, lam = sample
    output.requires_grad_()
    (one,) = torch.autograd.grad(interpolate_losses(cross_entropy, output, labels, partner, lam).sum(), output)
    (other,) = torch.autograd.grad(cross_entropy(output, mixup_labels(labels, partner, lam)).sum(), output)
    torch.testing.assert_close(one, other)


def test_a_loss_of_the_whole_batch_is_refused(sample):
    output, labels, partner, lam = sample
    with pytest.raises(ValueError, match="reduction='none'"):
        interpolate_losses(F.cross_entropy, output, labels, partner, lam)


def test_a_loss_of_several_values_a_sample_and_one_lam_for_all(sample):
    output, labels, partner, _ = sample
    hard = F.one_hot(labels, 5).double()
    every = lambda o, y: F.binary_cross_entropy_with_logits(o, y, reduction="none")  # noqa: E731
    mixed = interpolate_losses(every, output, hard, partner, 0.25)
    torch.testing.assert_close(mixed, 0.25 * every(output, hard) + 0.75 * every(output, hard[partner]))


def test_blend_images_is_the_equation():
    draw = generator(0)
    images, lam, partner = torch.rand(4, 3, 5, 6, generator=draw), Beta().sample(4, draw), PAIRINGS["roll"](4, draw)
    mixed = blend_images(images, lam, partner)
    for i in range(4):
        expected = oracle.blend(images[i].numpy(), images[partner[i]].numpy(), lam[i].item())
        np.testing.assert_allclose(mixed[i].numpy(), expected, atol=1e-6)
    torch.testing.assert_close(blend_images(images, 0.5, partner), (images + images[partner]) / 2)


def test_lossmix_around_a_classifier():
    draw = generator(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 5))
    images, labels = torch.rand(4, 3, 8, 8, generator=draw), torch.tensor([0, 1, 2, 3])

    partner, lam = PAIRINGS["shuffle"](len(images), draw), Beta(1.0).sample(len(images), draw)
    output = model(blend_images(images, lam, partner))
    loss = interpolate_losses(torch.nn.CrossEntropyLoss(reduction="none"), output, labels, partner, lam).mean()
    loss.backward()
    assert model[1].weight.grad.abs().sum() > 0


def annotated_images():
    draw = generator(0)
    images = [torch.rand(3, 48, 64, generator=draw), torch.rand(3, 56, 40, generator=draw)]
    targets = [
        {"boxes": torch.tensor([[4.0, 4.0, 30.0, 40.0]]), "labels": torch.tensor([1])},
        {"boxes": torch.tensor([[2.0, 8.0, 36.0, 50.0], [1.0, 1.0, 20.0, 20.0]]), "labels": torch.tensor([2, 1])},
    ]
    return images, targets


def tiny_faster_rcnn():
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 7, stride=8, padding=3), torch.nn.ReLU())
    backbone.out_channels = 8
    anchors = AnchorGenerator(sizes=((16, 32),), aspect_ratios=((1.0,),))
    return FasterRCNN(backbone, 3, min_size=48, max_size=64, rpn_anchor_generator=anchors)


def test_lossmix_around_torchvisions_faster_rcnn():
    model, generator_ = tiny_faster_rcnn(), generator(0)
    images, targets = annotated_images()
    mix = Mix(lam=Beta(1.0), per="batch", pairing="roll")

    batch = from_torchvision(images, targets)
    mixture = mix.draw(batch, batch, generator_)
    first, second = mix.components(batch, batch, mixture)
    lam = float(mixture.lam[0])
    loss_i = sum(model(*to_torchvision(first)).values())
    loss_j = sum(model(*to_torchvision(second)).values())
    loss = lam * loss_i + (1 - lam) * loss_j  # eq. 14

    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    mixed, boxes = to_torchvision(first)
    assert [image.shape for image in mixed] == [(3, 56, 64)] * 2
    assert boxes[0]["boxes"].tolist() == [[4.0, 8.0, 30.0, 44.0]]  # 56 - 48 = 8 pixels taller: 4 down
    other = to_torchvision(second)[1]
    assert other[0]["boxes"].tolist() == [[14.0, 8.0, 48.0, 50.0], [13.0, 1.0, 32.0, 20.0]]
    assert other[0]["labels"].tolist() == [2, 1]


def test_to_torchvision_gives_back_what_came():
    images, targets = annotated_images()
    targets[0]["iscrowd"] = torch.tensor([0])
    targets[1]["iscrowd"] = torch.tensor([0, 1])
    for first_label in (0, 1):
        back, annotations = to_torchvision(from_torchvision(images, targets, first_label), first_label)
        assert all(torch.equal(x, y) for x, y in zip(images, back, strict=True))
        assert torch.equal(annotations[0]["boxes"], targets[0]["boxes"])
        assert torch.equal(annotations[1]["boxes"], targets[1]["boxes"][:1])  # crowds are not learnt
        assert annotations[1]["labels"].tolist() == [2]
    labels = from_torchvision(images, targets).labels
    assert labels[1].labels.tolist() == [1, 0]
    assert labels[1].ignored.tolist() == [False, True]


def test_from_torchvision_takes_images_without_boxes_and_refuses_other_numbers_of_targets():
    images, targets = annotated_images()
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    assert len(from_torchvision(images, [targets[0], empty]).labels[1]) == 0
    with pytest.raises(ValueError, match="2 images and 1 targets"):
        from_torchvision(images, targets[:1])
    with pytest.raises(ValueError, match="0 images"):
        from_torchvision([], [])
