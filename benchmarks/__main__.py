"""``python -m benchmarks [--only NAME ...] [--rounds N]``: all benchmarks, one table, exit code 1 on a missed goal."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import argparse
import multiprocessing
import sys

NAMES = ("lossmix", "torchvision_step", "roi_loss", "tiny_speed", "ema", "semi_supervised", "tiles", "loading")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, help="instead of each benchmark's own number")
    arguments = parser.parse_args()
    from benchmarks.harness import HEADER, measure

    print(HEADER, flush=True)
    missed = 0
    for name in arguments.only:
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(name, arguments.rounds))
        process.start()
        process.join()
        missed += process.exitcode != 0
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
