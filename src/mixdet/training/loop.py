"""The training loop."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from mixdet.data.packing import PackedBatch
from mixdet.errors import NotFinite
from mixdet.methods import Method
from mixdet.structures import Losses, Step, Views, keyed_generator, keyed_seed
from mixdet.training.distributed import World
from mixdet.training.schedules import Schedule


@dataclass(frozen=True)
class StepReport:
    """What happened in one optimizer step of this process.

    Attributes:
        step: steps done, this one included.
        values: loss terms, their sum "loss", and notes, averaged over this process's shards; a note that is a vector as
            ``name[0]``, ``name[1]`` ...
        lr: learning rate of the first parameter group.
        gradient_norm: before any clipping.
        images: images seen by all processes together.
        seconds: of the step; ``waiting`` of them for data.
    """

    step: int
    values: dict[str, float]
    lr: float
    gradient_norm: float
    images: int
    seconds: float
    waiting: float


AfterStep = Callable[[StepReport], None]


def train(
    method: Method,
    streams: dict[str, Iterator[PackedBatch]],
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    *,
    seed: int,
    shards: int = 1,
    start: int = 0,
    clip_norm: float | None = None,
    bf16: bool = False,
    world: World | None = None,
    after_step: AfterStep = lambda report: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:
    """Train from step ``start`` to ``schedule.steps``.

    The global batch is cut into ``shards``; each process accumulates the gradients of its own. All randomness of a
    shard is keyed by (seed, step, shard), so that neither an interruption nor the number of processes changes a run.

    Args:
        method: on ``world.device``.
        streams: for each of the method's streams, this process's shards from ``start`` on.
        optimizer: over the method's parameters; groups carry ``base_lr``.
        schedule: of the learning rate.
        seed: of the run.
        shards: micro-batches a step, over all processes.
        start: steps done before.
        clip_norm: largest gradient norm, or None.
        bf16: forward under bfloat16 autocast; losses stay in float32.
        world: the processes.
        after_step: called after each step (logging, evaluation, checkpoints).
        should_stop: asked after each step; True ends the run there.

    Returns:
        Steps done.

    Raises:
        NotFinite: a loss or the gradient is not finite; names the term, the step and the images.
    """
    world = world or World()
    own = world.shards(shards)
    wrapped = world.wrap(method.train())
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    colour = next(iter(method.detectors().values())).pad_colour
    for index in range(start, schedule.steps):
        began, waiting, images = time.perf_counter(), 0.0, 0
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * schedule.factor(index)
        optimizer.zero_grad(set_to_none=True)
        values = {"loss": 0.0}
        for shard in own:
            asked = time.perf_counter()
            packed = {name: next(stream) for name, stream in streams.items()}
            waiting += time.perf_counter() - asked
            views = {name: p.to_views(world.device, colour) for name, p in packed.items()}
            step = Step(index, schedule.steps, keyed_generator(seed, index, shard, "method"))
            torch.manual_seed(keyed_seed(seed, index, shard, "global"))  # torchvision's samplers and dropout draw there
            last = shard == own[-1]
            with _no_sync(wrapped, not last):
                with torch.autocast(world.device.type, torch.bfloat16, enabled=bf16):
                    losses: Losses = wrapped(step=step, **views)
                _collect(values, losses, views, index, len(own))
                (losses.total * (world.size / shards)).backward()
            images += world.size * sum(len(p.weak.names) for p in packed.values())
        norm = _clipped(parameters, clip_norm, index)
        optimizer.step()
        method.after_step(step)
        seconds = time.perf_counter() - began
        lr = optimizer.param_groups[0]["lr"]
        after_step(StepReport(index + 1, values, lr, norm, images, seconds, waiting))
        if should_stop():
            return index + 1
    return schedule.steps


def _clipped(parameters: list[torch.Tensor], clip_norm: float | None, index: int) -> float:
    """The gradient's norm before clipping; stops the run before one that is not finite spoils student and teacher."""
    total = get_total_norm([p.grad for p in parameters if p.grad is not None])
    if not math.isfinite(norm := float(total)):
        other = ", or set optim.clip_norm" if clip_norm is None else ""
        raise NotFinite(
            f"step {index + 1}: gradient norm is {norm} although the losses are finite; lower optim.lr{other}"
        )
    if clip_norm is not None:
        clip_grads_with_norm_(parameters, clip_norm, total)
    return norm


def _no_sync(module: torch.nn.Module, active: bool) -> contextlib.AbstractContextManager[None]:
    """Gradients stay local until the last shard."""
    if active and isinstance(module, DistributedDataParallel):
        return module.no_sync()
    return contextlib.nullcontext()


def flattened(losses: Losses) -> tuple[list[str], torch.Tensor]:
    """Names and numbers of all terms and notes, on the device of the terms; vectors as ``name[0]``, ``name[1]`` ..."""
    named, device = {**losses.terms, **losses.notes}, losses.total.device  # notes may have been made on the host
    names = [
        name if value.dim() == 0 else f"{name}[{place}]"
        for name, value in named.items()
        for place in range(value.numel())
    ]
    return names, torch.cat([v.detach().to(device, torch.float32).reshape(-1) for v in named.values()])


def _collect(values: dict[str, float], losses: Losses, views: dict[str, Views], index: int, count: int) -> None:
    """Add a shard's numbers to ``values``; one transfer from the device. Stops the run at a loss that is not finite."""
    names, numbers = flattened(losses)
    for name, number in zip(names, numbers.tolist(), strict=True):
        if name in losses.terms and not abs(number) < float("inf"):
            images = ", ".join(sorted({source for v in views.values() for ids in v["weak"].ids for source in ids}))
            raise NotFinite(
                f"step {index + 1}: loss {name} is {number}; images: {images}; "
                "lower optim.lr, set optim.clip_norm, or look at these images' boxes"
            )
        values[name] = values.get(name, 0.0) + number / count
        if name in losses.terms:
            values["loss"] += number / count
