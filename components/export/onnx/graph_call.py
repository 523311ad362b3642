"""Calls of the served graph, bound once: inputs are written and outputs read in place.

To hand a call its arrays costs onnxruntime's Python layer more than a small model computes, and a
server repeats the same few calls: (first row, rows, width). So each is bound once, over memory that
stays where it is.

What the graph itself is given, for a runtime of another kind:

    input_ids              int64 [b, t]     new tokens, padded on the right with any token
    seqlens_k              int32 [b]        position of the row's last token after this call: its
                                            tokens less one, and 0 for an empty row
    total_sequence_length  int32 []         tokens of the longest row after this call, at least 1
    query_seqlens          int32 [b]        how many of the row's t tokens are real
    logit_positions        int64 [b, m, 1]  which of the t positions to give logits for
    adapter                int64 [b]        of a graph with adapters alone, as its last input
    past/present           float32 or int8 [b, kv heads, capacity, head width], each pair bound to
                           the same memory, so that new keys are written in place; capacity is no
                           less than any row's length before this call plus t

and what it gives, beside the present:

    logits                 float32 [b, m, v]
    hidden                 float32 [b, m, c], the normed states that the logits are computed from
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

GRAPH_INPUTS = [
    "input_ids",
    "seqlens_k",
    "total_sequence_length",
    "query_seqlens",
    "logit_positions",
]
GRAPH_OUTPUTS = ["logits", "hidden"]
"""Inputs before the past, outputs before the present."""
ADAPTER_INPUT = "adapter"
"""Last input of a graph with adapters (``adapter_graph``): the number of each row's adapter."""
MAX_CALLS = 256
"""Calls kept; prompts come in as many widths as there are lengths. One holds some kilobytes."""
CALL_COST = 4
"""Tokens that take as long as a call of its own for a row does: rows share a call where it costs no
more padding than this for each call that it saves."""
_Call = tuple[str, int, int, int]
"""(place of the logits, first row, rows, width)"""


class Session(Protocol):
    """Names and session of a model; the session may change between two calls."""

    session: Any
    past: list[str]
    present: list[str]


@dataclass(frozen=True)
class GraphCall:
    """One call's inputs, as arrays that the graph reads when it runs."""

    ids: NDArray[np.int64]
    """[b, t]"""
    last: NDArray[np.int32]
    """[b]: position of the row's last token after the call"""
    total: NDArray[np.int32]
    """[]: tokens of the longest row after the call"""
    new: NDArray[np.int32]
    """[b]: how many of the row's tokens are real"""
    positions: NDArray[np.int64]
    """[b, m, 1]: positions to give logits for"""
    binding: Any
    values: tuple[Any, ...]
    """onnxruntime's values over the arrays, which live as long as the binding"""

    @cached_property
    def _views(self) -> tuple[memoryview, ...]:
        inputs = (self.ids, self.last, self.new, self.total)
        return tuple(array.reshape(-1).data for array in inputs)

    def write_step(self, tokens: Sequence[int], held: Sequence[int]) -> None:
        """Write one token for each row, behind what it holds, in a call of one token a row.

        Number by number: a call of numpy takes 4 us where the model went through the caches
        meanwhile, and there would be six of them.

        Args:
            tokens: of the rows.
            held: tokens that each row holds.
        """
        ids, last, new, total = self._views
        for row, token in enumerate(tokens):
            ids[row] = token
            last[row] = held[row]  # the place behind them, from 0 on
            new[row] = 1
        total[0] = max(held) + 1

    def write_tokens(self, pieces: Sequence[NDArray[np.int64]]) -> None:
        """Write a piece, which may be empty, for each row."""
        for row, piece in enumerate(pieces):
            self.ids[row, : len(piece)] = piece
            self.ids[row, len(piece) :] = 0
            self.new[row] = len(piece)


class BoundCalls:
    """Calls over one cache, bound for the session that the model has at the time.

    Args:
        model: names of the cached keys and values, and the session.
        cache: [slots, kv heads, capacity, head width] for each of ``model.past``.
        logits: arrays [slots, 1, v] for the last logits of every row, by name.
        adapters: [slots], number of each row's adapter; None for a graph without adapters.
    """

    def __init__(
        self,
        model: Session,
        cache: Sequence[NDArray[Any]],
        logits: Mapping[str, NDArray[np.float32]],
        adapters: NDArray[np.int64] | None = None,
    ) -> None:
        self._model, self._cache, self._logits = model, cache, logits
        self._adapters = adapters
        self._calls: OrderedDict[_Call, GraphCall] = OrderedDict()
        self._session = model.session

    def __len__(self) -> int:
        """Calls that are kept."""
        return len(self._calls)

    def bound(self, place: str, first: int, count: int, width: int) -> GraphCall:
        """The call on these rows, bound at its first use.

        Args:
            place: name of the logits that it writes.
            first: its first row.
            count: its rows.
            width: its tokens a row.
        """
        if self._session is not self._model.session:  # another number of threads
            self._calls.clear()
            self._session = self._model.session
        key = (place, first, count, width)
        call = self._calls.get(key)
        if call is None:
            logits = self._logits[place][first : first + count]
            call = self._calls[key] = self.bind(first, count, width, {"logits": logits})
            if len(self._calls) > MAX_CALLS:
                self._calls.popitem(last=False)
        else:
            self._calls.move_to_end(key)
        return call

    def bind(
        self, first: int, count: int, width: int, outputs: Mapping[str, NDArray[np.float32]]
    ) -> GraphCall:
        """A call that is used once.

        Args:
            first: its first row.
            count: its rows.
            width: its tokens a row.
            outputs: arrays that it writes, [count, positions, channels].
        """
        from onnxruntime import OrtValue

        binding = self._model.session.io_binding()
        values = []

        def bind_input(name: str, array: NDArray[Any]) -> Any:
            value = OrtValue.ortvalue_from_numpy(array)
            binding.bind_ortvalue_input(name, value)
            values.append(value)
            return value

        wanted = next(iter(outputs.values())).shape[1]
        ids = np.zeros((count, width), dtype=np.int64)
        last, new = (np.zeros(count, dtype=np.int32) for _ in range(2))
        total = np.array(1, dtype=np.int32)
        positions = np.zeros((count, wanted, 1), dtype=np.int64)
        arrays: tuple[NDArray[Any], ...] = (ids, last, total, new, positions)
        for name, array in zip(GRAPH_INPUTS, arrays, strict=True):
            bind_input(name, array)
        if self._adapters is not None:
            bind_input(ADAPTER_INPUT, self._adapters[first : first + count])
        names = zip(self._cache, self._model.past, self._model.present, strict=True)
        for cache, past, present in names:
            binding.bind_ortvalue_output(present, bind_input(past, cache[first : first + count]))
        for name, array in outputs.items():
            value = OrtValue.ortvalue_from_numpy(array)
            binding.bind_ortvalue_output(name, value)
            values.append(value)
        return GraphCall(ids, last, total, new, positions, binding, tuple(values))


def group_neighbours(
    sizes: Mapping[int, int], lengths: NDArray[np.int32], capacity: int
) -> list[list[int]]:
    """Runs of neighbouring rows, each to be fed in one call.

    Args:
        sizes: row -> tokens of its piece, in the order of the rows.
        lengths: tokens that each row holds.
        capacity: positions of a row in the cache; padding takes some for the time of a call.
    """
    groups: list[list[int]] = []
    for row in sizes:
        if groups and row == groups[-1][-1] + 1:
            group = [*groups[-1], row]
            widest = max(sizes[member] for member in group)
            padding = len(group) * widest - sum(sizes[member] for member in group)
            fits = int(lengths[group[0] : row + 1].max()) + widest <= capacity
            if fits and padding <= CALL_COST * (len(group) - 1):
                groups[-1] = group
                continue
        groups.append([row])
    return groups
