"""Several processes of one command on this machine: started, told of signals, and ended together."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO

PATIENCE = 15.0  # seconds: for the others to end by themselves once one has failed; then again until they are killed
NAMED = (2, 3)  # exit codes of errors that say what to do
PASSED_ON = [s for s in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, s)]


def spawn(arguments: Sequence[str], devices: int) -> int:
    """Run ``mixdet`` with ``arguments`` in ``devices`` processes of this machine; several nodes are torchrun's affair.

    The processes see what torchrun would tell them. Signals are passed on, so that all stop after the step, with a
    checkpoint; where one fails the others are ended. One process has its say on stderr: the one whose error counts.

    Returns:
        0, or the exit code of the process that failed.
    """
    with contextlib.ExitStack() as stack:
        errors, port = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(devices)], _free_port()
        processes: list[subprocess.Popen[bytes]] = []
        stack.enter_context(_passing_on(processes))  # from before the first, so that none is left behind
        for rank, file in enumerate(errors):
            processes.append(_start(arguments, rank, devices, port, file))
        codes = _wait(processes)
        failed = [rank for rank, code in enumerate(codes) if code]
        speaker = min(failed, key=lambda rank: (codes[rank] not in NAMED, rank), default=0)
        errors[speaker].seek(0)
        sys.stderr.write(errors[speaker].read().decode("utf-8", "replace"))
        sys.stderr.flush()
    code = codes[speaker] or 0
    return code if code >= 0 else 128 - code  # killed by a signal, as a shell says it


def _start(arguments: Sequence[str], rank: int, size: int, port: int, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "MASTER_ADDR": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, "-m", "mixdet", *arguments],
        env=environment | {name: str(value) for name, value in places.items()},
        stderr=errors,
        start_new_session=True,  # Ctrl-C reaches them through us, once
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def _passing_on(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Signals go to the processes meanwhile, and do nothing here."""

    def pass_on(number: int, frame: object) -> None:
        for process in processes if os.name == "posix" else ():  # a console of Windows tells all by itself
            process.send_signal(number)

    previous = {}
    try:
        for name in PASSED_ON:
            number = getattr(signal, name)
            with contextlib.suppress(ValueError):  # not in the main thread: its owner deals with signals
                previous[number] = signal.signal(number, pass_on)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for process in processes:
            process.kill()  # of those that have ended, nothing


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """Exit codes; once one has failed the others have ``PATIENCE``, are told to end, and are killed: None for those."""
    ended: set[int] = set()
    measures: list[tuple[float, str]] = []
    while any(process.poll() is None for process in processes):
        if not measures and any(process.poll() for process in processes):
            now = time.monotonic()
            measures = [(now + PATIENCE, "terminate"), (now + 2 * PATIENCE, "kill"), (math.inf, "")]
        if measures and time.monotonic() > measures[0][0]:
            _, measure = measures.pop(0)
            late = {rank for rank, process in enumerate(processes) if process.poll() is None}
            ended |= late
            for rank in late:
                getattr(processes[rank], measure)()
        time.sleep(0.1)
    return [None if rank in ended else process.returncode for rank, process in enumerate(processes)]
