"""The process of a baseline: on until the end, or until the run beside it has gone (``-m`` and the folder)."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

import torch
from rich.console import Console

from mixdet.errors import MixdetError
from mixdet.runs.commands import resume


def main(root: Path) -> int:
    """Resume the run in ``root``; the exit code. The end of standard input is that of the run beside."""
    torch.set_num_threads(1)
    threading.Thread(target=end_with, args=(sys.stdin.fileno(),), daemon=True).start()
    with (root / "log.txt").open("a", encoding="utf-8") as lock:
        with contextlib.suppress(ImportError):  # no such locks on Windows
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)  # the process of a run that was killed may still be at it
        try:
            return resume(root, console=Console(width=160)).exit_code
        except MixdetError as error:
            print(f"mixdet: error: {error}")
            return error.exit_code


def end_with(pipe: int) -> None:
    """Stop this process, with a checkpoint, when the other end of a pipe (a file descriptor) is closed."""
    while os.read(pipe, 1):  # not through a buffer, whose lock would be in the way when the interpreter ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
