"""Exact search for passages of some texts that stand word for word in a training set.

Every window of ``size`` tokens of the texts is hashed and the hashes are sorted; then the training
tokens are read once, in blocks, each of their windows is looked up, and what is found is compared
token by token. So nothing is missed and nothing is taken for something else, and memory does not
grow with the training set (which is memory-mapped). Verbatim spans as the sign of text learnt by
heart: Carlini et al. 2022 (arXiv:2202.07646).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from components.text.dedup.shingles import Hashes, roll_hashes

Ids = NDArray[np.integer]
BLOCK = 1 << 20
"""Training tokens hashed together: working memory grows with it, not with the training set."""

T = TypeVar("T")


def token_windows(ids: Sequence[T], size: int) -> list[tuple[T, ...]]:
    """Every run of ``size`` tokens or words, in order; none where there are fewer."""
    return [tuple(ids[at : at + size]) for at in range(len(ids) - size + 1)]


def find_known_windows(
    texts: Sequence[Sequence[int]], training: Ids, size: int, block: int = BLOCK
) -> set[tuple[int, ...]]:
    """Find the windows of ``texts`` that occur in ``training``.

    Args:
        texts: token ids, in the same vocabulary as ``training``.
        training: [n] one document after another; a window holds no end-of-text token, and so
            lies within one document, as long as ``texts`` hold none.
        size: tokens of a window.
        block: training tokens hashed together.
    """
    wanted: dict[int, set[tuple[int, ...]]] = defaultdict(set)
    for ids in texts:
        hashes = roll_hashes(np.asarray(ids, dtype=np.uint64), size)
        for value, window in zip(hashes.tolist(), token_windows(ids, size), strict=True):
            wanted[value].add(window)
    index = np.array(sorted(wanted), dtype=np.uint64)
    known: set[tuple[int, ...]] = set()
    for start in range(0, len(training) - size + 1 if len(index) else 0, block):
        piece = np.asarray(training[start : start + block + size - 1])
        for value, at in _find_hits(piece, index, size):
            window = tuple(piece[at : at + size].tolist())
            if window in wanted[value]:
                known.add(window)
    return known


def _find_hits(piece: Ids, index: Hashes, size: int) -> list[tuple[int, int]]:
    """(hash, where) of each distinct window of a piece whose hash is in the sorted index."""
    hashes = roll_hashes(piece.astype(np.uint64), size)
    places = np.minimum(np.searchsorted(index, hashes), len(index) - 1)
    at = np.flatnonzero(index[places] == hashes)
    if not len(at):
        return []
    rows = np.lib.stride_tricks.sliding_window_view(piece, size)[at]
    _, first = np.unique(rows, axis=0, return_index=True)
    return [(int(hashes[at[index]]), int(at[index])) for index in first]


def covered_runs(
    ids: Sequence[int], known: set[tuple[int, ...]], size: int
) -> list[tuple[int, int]]:
    """Runs (start, end) of ``ids`` made of known windows that overlap, longest first.

    Args:
        ids: tokens of one text.
        known: windows that ``find_known_windows`` gave.
        size: tokens of a window.
    """
    runs: list[tuple[int, int]] = []
    for at, window in enumerate(token_windows(ids, size)):
        if window not in known:
            continue
        if runs and at < runs[-1][1]:
            runs[-1] = (runs[-1][0], at + size)
        else:
            runs.append((at, at + size))
    return sorted(runs, key=lambda run: (run[0] - run[1], run[0]))
