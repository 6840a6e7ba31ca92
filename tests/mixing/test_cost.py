"""Mixing must stay a twentieth of a step's dispatched operations: at most 57 an image in a step of 2300 for two.

What is drawn and placed once a batch is not paid again for every image.
"""

from __future__ import annotations

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from mixdet.mixing import Mix
from mixing.batches import generator, random_batch


class Counter(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("sizes", "most"),
    [
        ([(64, 64)] * 2, 45),
        ([(64, 64)] * 8, 45),
        ([(64, 48), (48, 64)], 75),
        ([(64, 48), (48, 64)] * 4, 160),
    ],
    ids=["2 equal", "8 equal", "2 unequal", "8 unequal"],
)
def test_operations_of_one_lossmix(sizes, most):
    batch, draw, mix = random_batch(sizes), generator(0), Mix(pairing="roll")
    with Counter() as counter:
        mix(batch, batch, draw)
    assert counter.count <= most


def test_equal_sizes_cost_the_same_for_any_number_of_images():
    counts = []
    for images in (2, 16):
        batch, draw, mix = random_batch([(16, 16)] * images), generator(0), Mix(pairing="roll")
        with Counter() as counter:
            mix(batch, batch, draw)
        counts.append(counter.count)
    assert counts[0] == counts[1]
