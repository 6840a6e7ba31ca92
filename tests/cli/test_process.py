"""What a command sets for its process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from mixdet.cli.process import SPINS

PROBE = """
import os, resource
from mixdet.cli.process import prepare_process
prepare_process()
def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * (64 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
pages()
print(pages(), os.environ["GOMP_SPINCOUNT"])
"""


def _probe(**variables: str) -> tuple[int, str]:
    run = subprocess.run(
        [sys.executable, "-c", PROBE], env=os.environ | variables, capture_output=True, text=True, check=True
    )
    pages, spins = run.stdout.split()
    return int(pages), spins


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_freed_memory_is_used_again_unless_the_user_has_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOMP_SPINCOUNT", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    kept, spins = _probe()
    assert spins == SPINS
    given_back, spins = _probe(MALLOC_MMAP_THRESHOLD_="131072", GOMP_SPINCOUNT="7")
    assert spins == "7"
    assert 10 * kept < given_back
