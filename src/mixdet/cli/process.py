"""How the process of a command treats its machine: how long idle threads spin, and what becomes of freed memory."""

from __future__ import annotations

import ctypes
import os
import platform

SPINS = "1000"
"""How long a thread of PyTorch spins before it sleeps. OpenMP's 300,000 is a little faster on an idle machine, and
twenty times slower where another process wants the same cores."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT, LARGEST = 2**31 - 1, 2**30  # bytes: freed memory that is kept, and the largest block that may be made of it


def prepare_process() -> None:
    """Settings that a process takes before it imports PyTorch; the user's own variables come before them.

    A training step allocates what the step before has freed. glibc gives large blocks back to the kernel, which hands
    them out anew page by page: a tenth of the time of a step with several image sizes on a CPU. So they are kept; the
    most memory in use grows by a few percent.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    if platform.libc_ver()[0] != "glibc" or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, LARGEST)
    libc.mallopt(M_TRIM_THRESHOLD, KEPT)
