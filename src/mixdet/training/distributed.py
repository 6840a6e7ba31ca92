"""One process or many: what torchrun says, and the few collective calls the loop needs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mixdet.errors import EnvironmentFault, MixdetError
from mixdet.methods import Method

T = TypeVar("T")
CPU = torch.device("cpu")
TIMEOUT = timedelta(minutes=30)  # the others wait while the first process evaluates


@dataclass(frozen=True)
class World:
    """This process among its peers.

    Attributes:
        rank: of this process.
        size: number of processes.
        device: of this process.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def shards(self, count: int) -> range:
        """This process's shards of ``count``."""
        if count % self.size:
            raise MixdetError(f"data.shards: {count} shards cannot be dealt to {self.size} processes; use a multiple")
        each = count // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def wrap(self, method: Method) -> nn.Module:
        """The method under DDP (the method, not the detector: one wrapped forward a shard), or as it is.

        Raises:
            MixdetError: batch norm that is synchronised on GPUs only, without them.
        """
        if self.size == 1:
            return method
        if self.device.type == "cpu" and any(isinstance(m, nn.SyncBatchNorm) for m in method.modules()):
            raise MixdetError("detector.norm=sync: works between GPUs only; use run.devices=1, or detector.norm=frozen")
        return DistributedDataParallel(method, find_unused_parameters=method.idle_parameters)

    def mean(self, values: Tensor) -> Tensor:
        """``values`` averaged over all processes."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def holds(self, here: bool) -> bool:
        """What the first process found to be so, in all of them."""
        return self.shared(str(here)) == str(True)

    def shared(self, text: str) -> str:
        """``text`` of the first process, in all of them."""
        if self.size == 1:
            return text
        texts = [text]
        dist.broadcast_object_list(texts)
        return texts[0]

    def gathered(self, values: list[T]) -> list[list[T]]:
        """The lists of all processes, by rank."""
        if self.size == 1:
            return [values]
        lists: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(lists, values)
        return lists

    def barrier(self) -> None:
        """Wait for the others."""
        if self.size > 1:
            dist.barrier()


def takes_gpu(device: str) -> bool:
    """Whether ``device`` (auto, cpu or cuda) is a GPU here: auto takes CUDA where there is one."""
    return device == "cuda" or (device == "auto" and torch.cuda.is_available())


def join_world(device: str = "auto") -> World:
    """Join the processes that torchrun started, or stand alone.

    Args:
        device: "cpu", "cuda" or "auto" (a GPU where there is one).
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda" and not torch.cuda.is_available():
        raise EnvironmentFault("run.device: 'cuda' asked for, but torch sees no GPU; use cpu or auto")
    on_gpu = takes_gpu(device)
    if on_gpu and local_rank >= torch.cuda.device_count():
        raise EnvironmentFault(
            f"run.devices: process {local_rank} on this node, but torch sees {torch.cuda.device_count()} GPUs"
        )
    chosen = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(chosen)
    if size == 1:
        return World(device=chosen)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    return World(dist.get_rank(), size, chosen)


def leave_world() -> None:
    """Undo ``join_world``."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_spawned() -> bool:
    """Whether torchrun started this process."""
    return "WORLD_SIZE" in os.environ
