"""What boxes in a row, each after the one around it, inherit and share.

A box is one of ``components/collect/blocks.py``; its parent stands before it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.text.kernels.characters import mixed
from components.text.kernels.compiled import compiled
from components.text.kernels.table import insert, new_table

Row = NDArray[np.int64]
_ODD = np.uint64(0x9E3779B97F4A7C15)


@compiled
def inherited(parents: Row, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which boxes are marked, or stand in one that is."""
    found = marked.copy()
    for box in range(1, len(parents)):
        found[box] |= found[parents[box]]
    return found


@compiled
def repeats(parents: Row, names: Row, depths: Row, counted: NDArray[np.bool_]) -> Row:
    """The count of the most frequent kind of box, by name and depth, around each box."""
    keys, counts, firsts, stamps = new_table(len(parents))
    slots, found = np.zeros(len(parents), np.int64), np.ones(len(parents), np.int64)
    for box in range(len(parents)):
        if counted[box]:
            key = mixed(np.uint64(names[box]) ^ np.uint64(depths[box]) * _ODD)
            slots[box] = insert(keys, counts, firsts, stamps, len(keys) - 1, 1, key, box)
    for box in range(len(parents)):
        if box:
            found[box] = found[parents[box]]
        if counted[box]:
            found[box] = max(found[box], np.int64(counts[slots[box]]))
    return found


@compiled
def tables(parents: Row, is_table: NDArray[np.bool_], is_cell: NDArray[np.bool_], runs: Row) -> Row:
    """The outermost table around each box; -1 for none, and where its cells hold many runs."""
    found, cells = np.full(len(parents), -1, np.int64), np.zeros(len(parents), np.int64)
    for box in range(len(parents)):
        if box:
            found[box] = found[parents[box]]
        if found[box] < 0 and is_table[box]:
            found[box] = box
        if is_cell[box] and found[box] >= 0:
            cells[found[box]] += 1 if runs[box] <= 2 else -len(parents)
    for box in range(len(parents)):
        if found[box] >= 0 and cells[found[box]] < 4:
            found[box] = -1
    return found


@compiled
def context(parents: Row, bits: Row, cues: Row, root: int) -> NDArray[np.int64]:
    """[4, boxes] below ``root``: bits of all boxes up to it; cues of the nearest three boxes, of
    all; the child of ``root`` that each stands in."""
    found = np.zeros((4, len(parents)), np.int64)
    found[3, root] = root
    for box in range(root + 1, len(parents)):
        above = parents[box]
        if above < root:
            break
        beyond = parents[above]
        outer = 0 if above == root else cues[above]
        if above != root and beyond != root:
            outer |= cues[beyond]
        found[0, box] = found[0, above] | bits[box]
        found[1, box] = cues[box] | outer
        found[2, box] = found[2, above] | cues[box]
        found[3, box] = box if above == root else found[3, above]
    return found


@compiled
def outlines(parents: Row, bits: Row, cues: Row, first: Row, last: Row) -> NDArray[np.int64]:
    """[2, boxes]: bits of each box and all around it but the first; cues of each box and of those
    that follow with the same runs."""
    found = np.zeros((2, len(parents)), np.int64)
    for box in range(1, len(parents)):
        found[0, box] = bits[box] | found[0, parents[box]]
    for box in range(len(parents) - 1, -1, -1):
        found[1, box] = cues[box]
        after = box + 1
        if after < len(parents) and first[after] == first[box] and last[after] == last[box]:
            found[1, box] |= found[1, after]
    return found


@compiled
def kinship(boxes: Row, parents: Row, tags: Row, names: Row, plain: Row) -> NDArray[np.float64]:
    """[3, runs]: the share of ``plain`` in runs that stand like each: in the same box with the
    same tag; in boxes of the same name; the same with the boxes around."""
    found = np.zeros((3, len(boxes)), np.float64)
    whole = max(plain.sum(), 1)
    slots = np.zeros(len(boxes), np.int64)
    for way in range(3):
        keys, counts, firsts, stamps = new_table(len(boxes))
        sums = np.zeros(len(keys), np.int64)
        for run in range(len(boxes)):
            box = boxes[run]
            above = parents[box] if box else box
            if way == 0:
                key = np.uint64(tags[box]) ^ np.uint64(above) * _ODD
            elif way == 1:
                key = np.uint64(names[box])
            else:
                key = np.uint64(names[box]) ^ mixed(np.uint64(names[above]))
            slot = insert(keys, counts, firsts, stamps, len(keys) - 1, 1, mixed(key), run)
            sums[slot] += plain[run]
            slots[run] = slot
        for run in range(len(boxes)):
            found[way, run] = sums[slots[run]] / whole
    return found
