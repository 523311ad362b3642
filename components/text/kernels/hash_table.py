"""A set of 64-bit keys with counts, emptied by a new stamp instead of by writing all of it.

Open addressing, linear probing; of arrays made for the largest document, a small one uses a few.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.text.kernels.compiled import compile_kernel


class CountingTable(NamedTuple):
    """Arrays of one length, a power of two.

    Unpack it before a loop: reading a field counts a reference, which costs more than a look-up.
    """

    keys: NDArray[np.uint64]
    counts: NDArray[np.int32]
    firsts: NDArray[np.int32]
    stamps: NDArray[np.int32]


@compile_kernel
def slots_for(entries: int) -> int:
    """Slots for so many entries: a power of two, at most half full."""
    slots = 16
    while slots < 2 * entries:
        slots *= 2
    return slots


@compile_kernel
def new_table(entries: int) -> CountingTable:
    slots = slots_for(entries)
    return CountingTable(
        np.empty(slots, np.uint64),
        np.empty(slots, np.int32),
        np.empty(slots, np.int32),
        np.zeros(slots, np.int32),
    )


@compile_kernel
def count_key(
    keys: NDArray[np.uint64],
    counts: NDArray[np.int32],
    firsts: NDArray[np.int32],
    stamps: NDArray[np.int32],
    mask: int,
    stamp: int,
    key: np.uint64,
    position: int,
) -> int:
    """The slot of ``key``, counted once more; a new one remembers ``position`` as its first."""
    slot = np.int64(key & np.uint64(mask))
    while stamps[slot] == stamp:
        if keys[slot] == key:
            counts[slot] += 1
            return slot
        slot = (slot + 1) & mask
    stamps[slot] = stamp
    keys[slot] = key
    counts[slot] = 1
    firsts[slot] = position
    return slot
