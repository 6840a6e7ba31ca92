"""SIGINT, SIGTERM and SIGUSR1 end a run at the end of the step, with a checkpoint."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

import torch

from mixdet.training.distributed import World

SIGNALS = [s for s in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, s)]


class StopRequest:
    """While active, the first signal is remembered and the second ends the process at once.

    Attributes:
        signal: number of the signal that came, or None.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.signal: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for name in SIGNALS:
            number = getattr(signal, name)
            try:
                self._previous[number] = signal.signal(number, self._note)
            except ValueError:  # not in the main thread: the owner of that thread deals with signals
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def came(self) -> bool:
        """Whether any process was told to stop; all processes agree on the answer."""
        if self.world.size == 1:
            return self.signal is not None
        told = torch.tensor(float(self.signal is not None), device=self.world.device)
        return bool(self.world.mean(told) > 0)

    @property
    def exit_code(self) -> int:
        """130 for SIGINT, 143 for the others."""
        return 130 if self.signal == signal.SIGINT else 143

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number
