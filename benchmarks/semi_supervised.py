"""Steps with unlabelled images: MUM, Unbiased Teacher, what its teacher costs, and the supervised step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from benchmarks.harness import Row, Work, interleaved, milliseconds
from benchmarks.setups import method_step, resnet50, scene_batch, tiny_detector
from mixdet.data.photometric import Photometric, PhotometricView
from mixdet.detectors import PRESETS, FasterRCNN
from mixdet.methods import MUM, Method, Supervised, UnbiasedTeacher
from mixdet.mixing import TileMix
from mixdet.structures import Batch, Step, Views, keyed_generator
from mixdet.teaching import Decay
from mixdet.training.optim import build_optimizer

IMAGES = 8  # labelled, and as many unlabelled
PSEUDO_BOXES = 5  # an image: what the teacher's threshold is set to give with these weights
BEGUN = Decay(0.99)


def two_views(batch: Batch) -> Views:
    """The batch and a strong view of it."""
    view, generator = PhotometricView(), keyed_generator(0, "strong")
    drawn = Photometric.stack([view.draw(*size, generator) for size in batch.sizes.tolist()])
    return Views(weak=batch, strong=drawn.apply(batch))


def threshold(detector: FasterRCNN, batch: Batch) -> float:
    """The score that ``PSEUDO_BOXES`` detections an image exceed."""
    with torch.no_grad():
        found = detector.eval().predict(detector.features(batch.images), batch)
    detector.train()
    scores = torch.cat([f.scores for f in found]).sort(descending=True).values
    return float(scores[PSEUDO_BOXES * len(batch)])


def step_of(method: Method, labeled: Views, unlabeled: Views) -> Callable[[], None]:
    """Forward, backward, optimizer and teacher of one step, the same draws in every call; rate 0."""
    optimizer = build_optimizer(method, "sgd", lr=0.0)
    method.train()
    step = Step(0, 1, keyed_generator(0, "mix"))

    def run() -> None:
        torch.manual_seed(0)
        step.generator.manual_seed(0)
        optimizer.zero_grad(set_to_none=True)
        method(step=step, labeled=labeled, unlabeled=unlabeled).total.backward()
        optimizer.step()
        method.after_step(step)

    return run


def teacher_forward(method: UnbiasedTeacher, batch: Batch) -> Work:
    network = method.teacher.network

    @torch.no_grad()
    def run() -> None:
        network.predict(network.features(batch.images), batch)

    return run


def rows(rounds: int | None) -> Iterator[Row]:
    detector = tiny_detector(PRESETS["tiny"])
    batch = scene_batch(detector, 2 * IMAGES)
    labeled = two_views(batch.select(range(IMAGES)))
    pool = batch.select(range(IMAGES, 2 * IMAGES)).with_instances(None)
    unlabeled, score = two_views(pool), threshold(detector, pool)
    settings = {"score_threshold": score, "decay": BEGUN}
    lean = UnbiasedTeacher(detector, labeled_views="strong", **settings)
    both = UnbiasedTeacher(detector, labeled_views="both", **settings)
    mum = MUM(detector, TileMix(), labeled_views="strong", **settings)
    supervised = method_step(Supervised(detector), labeled.weak)
    steps = {name: step_of(m, labeled, unlabeled) for name, m in (("lean", lean), ("both", both), ("mum", mum))}
    for name, ours, theirs, goal in (
        ("MUM / Unbiased Teacher step", steps["mum"], steps["lean"], 1.05),
        ("lean / supervised step", steps["lean"], supervised, 2.3),
        ("lean / both-views step", steps["lean"], steps["both"], 0.75),
        ("teacher forward / supervised step", teacher_forward(lean, unlabeled.weak), supervised, 0.42),
    ):
        ratios, a, b = interleaved(ours, theirs, rounds or 15)
        yield Row(f"{name}, tiny, {IMAGES} + {IMAGES} images", ratios, goal, note=milliseconds(a, b))
    yield large_row(rounds)


def large_row(rounds: int | None) -> Row:
    """The lean step of R50-FPN, of which a teacher's forward pass is a larger share: no goal."""
    detector = resnet50()
    batch = scene_batch(detector, 4, size=224)
    pool = batch.select(range(2, 4)).with_instances(None)
    labeled, unlabeled, score = two_views(batch.select(range(2))), two_views(pool), threshold(detector, pool)
    lean = UnbiasedTeacher(detector, labeled_views="strong", score_threshold=score, decay=BEGUN)
    ratios, a, b = interleaved(
        step_of(lean, labeled, unlabeled), method_step(Supervised(detector), labeled.weak), rounds or 15, warmup=1
    )
    return Row("lean / supervised step, R50-FPN, 2 + 2 images at 224 px", ratios, None, note=milliseconds(a, b))
