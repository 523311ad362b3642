"""Hash table that counts 64-bit keys, emptied by a new stamp instead of by clearing its arrays.

Open addressing with linear probing. A slot is occupied where its stamp is the current one, so a
document takes over the table of the one before it at no cost; of arrays made for the largest
document a small one uses the first few slots (``slots_for``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.text.kernels.compiled import compile_kernel


class CountingTable(NamedTuple):
    """Columns of the slots; their one length is a power of two.

    Unpack it before a loop: reading a field counts a reference, which costs more than a look-up.
    """

    keys: NDArray[np.uint64]
    counts: NDArray[np.int32]
    firsts: NDArray[np.int32]
    stamps: NDArray[np.int32]


@compile_kernel
def slots_for(entries: int) -> int:
    """Number of slots for so many entries: a power of two, at most half of them occupied."""
    slots = 16
    while slots < 2 * entries:
        slots *= 2
    return slots


@compile_kernel
def new_table(entries: int) -> CountingTable:
    """Empty table for at most so many different keys; stamps count from 1."""
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
    """Count a key once more and return its slot.

    Args:
        keys: column of the table, as all four.
        counts: occurrences of each slot's key.
        firsts: position of its first occurrence.
        stamps: stamp under which the slot was filled.
        mask: number of slots in use, less one.
        stamp: stamp of the current document; slots of another stamp are empty.
        key: well mixed, since its low bits choose the slot.
        position: kept as the first one where the key is new.
    """
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
