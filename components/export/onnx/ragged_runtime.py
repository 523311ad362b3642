"""CPU runtime of the served ONNX graph: ragged batches whose rows join and leave between steps.

One ``OnnxModel`` holds the session; a ``RaggedBatch`` holds the keys and values of up to ``slots``
sequences. Rows 0 .. len(batch) - 1 are in use, each at its own length:

    model = OnnxModel(folder / "model.onnx", threads=2)
    batch = RaggedBatch(model, slots=16)
    logits = batch.prefill([prompt_a, prompt_b])    # rows 0 and 1: last logits [2, v]
    logits = batch.step([token_a, token_b])         # one token a row: [2, v]
    logits = batch.prefill([prompt_c])              # row 2 joins in mid-flight: [1, v]
    moved = batch.leave(0)                          # row 2 now is row 0: returns 2
    logits = batch.step([token_c, token_b])

A long prompt can go in by pieces between steps: ``row = batch.join()``, then
``batch.feed_rows([row], [piece])``, and IDLE as that row's token in ``step`` meanwhile. A row holds
at most ``batch.context`` tokens (``batch.remaining_context(row)`` are left).

Inputs and outputs are bound once for each (rows, width) and written in place. So the logits of
``step`` are valid until the next ``step``: copy what is to last longer. All other methods return
arrays of their own.

What the graph itself is given: ``graph_call``.

Not safe to use from two threads at once. Equal calls give equal logits at equal thread counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.export.onnx.cache_memory import check_cache_memory
from components.export.onnx.graph_call import BoundCalls, GraphCall, group_neighbours
from components.export.onnx.onnx_session import OnnxModel

IDLE = -1
"""Stands for a token where a row has none at this position."""
PIECE = 64
"""Tokens of a prompt in one call. Longer ones cost more a token, since scores are computed for all
pairs of a call's tokens: 400 tokens took 31 ms whole and 22 in pieces of 64 with 3 M parameters,
201 and 185 with 25 M."""
MOST_GUESSES = 4
"""Tokens behind a drawn one that are checked in its step, which takes half as long again then (3 M
parameters)."""
Logits = NDArray[np.float32]
CachedPrefix = NDArray[Any]
"""[2 * layers, kv heads, positions, head width]: keys and values of the first tokens of a row."""
Ids = Sequence[int] | NDArray[np.integer]


class RaggedBatch:
    """KV cache and decoding of up to ``slots`` sequences, each at its own length.

    Args:
        model: the graph.
        slots: most rows.
        context: most tokens of a row; None is the model's.

    Raises:
        ConfigError: the context is longer than the model's, or the memory does not hold it.
    """

    def __init__(self, model: OnnxModel, slots: int, context: int | None = None) -> None:
        self.model, self.slots = model, slots
        self.context = model.context if context is None else context
        check_cache_memory(model, slots, self.context)
        # One position more than the context, so that a full row can idle while others go on.
        size = (slots, model.kv_heads, self.context + 1, model.head_width)
        self._cache = [np.zeros(size, dtype=model.cache_kind) for _ in model.past]
        self._lengths = np.zeros(slots, dtype=np.int32)
        self._held = self._lengths.data
        # A row's last logits have a place of their own, apart for steps and for prompts.
        wanted = (slots, 1, model.vocabulary)
        self._logits = {name: np.zeros(wanted, np.float32) for name in ("stepped", "fed")}
        self._adapters = np.zeros(slots, dtype=np.int64)
        adapters = self._adapters if model.has_adapters else None
        # Over a float32 cache a token that comes alone takes other kernels, which round otherwise.
        self.steps_as_it_reads = model.cache_kind == np.int8
        self.most_guesses = MOST_GUESSES if self.steps_as_it_reads else 0
        checked = (slots if self.most_guesses else 0, 1 + self.most_guesses, model.vocabulary)
        self._logits["checked"] = np.zeros(checked, np.float32)
        self._calls = BoundCalls(model, self._cache, self._logits, adapters)
        self._used = 0

    def __len__(self) -> int:
        """Rows in use."""
        return self._used

    def remaining_context(self, row: int) -> int:
        """Tokens that a row can still take."""
        return self.context - int(self._lengths[row])

    def join(self, adapter: int = 0) -> int:
        """Take a free slot; returns its row, the last one.

        Args:
            adapter: number of the adapter that the row computes with; 0 is none.

        Raises:
            ValueError: all slots are in use, or the graph has no adapters.
        """
        if self._used == self.slots:
            raise ValueError(f"all {self.slots} slots are in use")
        if adapter and not self.model.has_adapters:
            raise ValueError(f"adapter {adapter} of a graph without adapters")
        self._lengths[self._used] = 0
        self._adapters[self._used] = adapter
        self._used += 1
        return self._used - 1

    def leave(self, row: int) -> int | None:
        """Free a row. The last row takes its place: returns that row's old number, if it moved.

        Raises:
            ValueError: the row is not in use.
        """
        self._check(row, 1)
        last = self._used = self._used - 1
        if row == last:
            return None
        length = self._lengths[row] = self._lengths[last]
        self._adapters[row] = self._adapters[last]
        for cache in self._cache:
            cache[row, :, :length] = cache[last, :, :length]
        return last

    def opens_sessions(self, rows: int) -> bool:
        """False: a step of this batch computes and does nothing else."""
        return False

    def read_prefix(self, row: int, length: int) -> CachedPrefix:
        """Copy the first positions of a row, for rows that begin with the same tokens.

        One position is 8 bytes for each layer, key-value head and channel of a head, 2 of an INT8
        cache: 300 tokens with 3 M parameters are 2.3 MB. To copy them in and out takes a thirtieth
        of the time to read them again.

        Args:
            row: a row in use.
            length: how many of its positions; no more than it holds.

        Returns:
            [2 * layers, kv heads, length, head width], an array of its own.

        Raises:
            ValueError: the row is not in use, or holds fewer tokens.
        """
        self._check(row, 1)
        held = int(self._lengths[row])
        if not 0 < length <= held:
            raise ValueError(f"row {row} holds {held} tokens: {length} of them cannot be read")
        return np.stack([cache[row, :, :length] for cache in self._cache])

    def write_prefix(self, row: int, prefix: CachedPrefix, length: int) -> None:
        """Let a row begin with the first positions of a prefix; it holds ``length`` tokens then.

        Args:
            row: a row in use; what it held is dropped.
            prefix: from ``read_prefix`` of a batch of the same model.
            length: how many of its positions.

        Raises:
            ValueError: the row is not in use, the prefix is of another shape or shorter, or the
                context holds fewer.
        """
        self._check(row, 1)
        shape = (len(self._cache), self.model.kv_heads, prefix.shape[2], self.model.head_width)
        if prefix.shape != shape or prefix.dtype != self._cache[0].dtype:
            raise ValueError(f"a prefix {prefix.shape} of {prefix.dtype}, not {shape}")
        if not 0 < length <= min(prefix.shape[2], self.context):
            raise ValueError(
                f"{length} positions of a prefix of {prefix.shape[2]}, in a context of "
                f"{self.context}"
            )
        for cache, positions in zip(self._cache, prefix, strict=True):
            cache[row, :, :length] = positions[:, :length]
        self._lengths[row] = length

    def prefill(self, prompts: Sequence[Ids]) -> Logits:
        """Join with whole prompts (none empty), as the last rows; last logits [prompts, v].

        Raises:
            ValueError: too few slots are free, a prompt is empty or longer than the context.
        """
        if self._used + len(prompts) > self.slots or not all(len(p) for p in prompts):
            raise ValueError(f"{len(prompts)} prompts, none empty, need as many free slots")
        if max(map(len, prompts)) > self.context:
            raise ValueError(f"a prompt is longer than the context of {self.context}")
        return self.feed_rows([self.join() for _ in prompts], prompts)

    def step(self, tokens: Ids) -> Logits:
        """One token for each row in use (or IDLE); logits [rows, v], zero for idle rows.

        Raises:
            ValueError: not a token for each row, a full row, a token outside the vocabulary.
        """
        fed = tokens.tolist() if isinstance(tokens, np.ndarray) else tokens
        count = self._used
        if len(fed) != count or not count:
            raise ValueError(f"{len(fed)} tokens for {count} rows")
        if min(fed) < IDLE or max(fed) >= self.model.vocabulary:
            row = next(r for r, t in enumerate(fed) if not IDLE <= t < self.model.vocabulary)
            raise ValueError(f"row {row}: a token outside 0 to {self.model.vocabulary - 1}")
        call = self._calls.bound("stepped", 0, count, 1)
        logits: Logits = self._logits["stepped"][:count, 0]
        held: list[int] = self._held[:count].tolist()
        if IDLE not in fed and max(held) < self.context:
            call.write_step(fed, held)
            self.model.session.run_with_iobinding(call.binding)
            for row, length in enumerate(held):
                self._held[row] = length + 1
            return logits
        ids = call.ids[:, 0]
        ids[:] = fed
        busy = ids != IDLE
        call.new[:] = busy
        ids[~busy] = 0
        if busy.any():
            self._run(call, 0)
        logits[~busy] = 0
        return logits

    def feed_rows(self, rows: Sequence[int], pieces: Sequence[Ids]) -> Logits:
        """Append a piece (none empty) to each of some rows; last logits of each, [rows, v].

        Long pieces go in by ``PIECE`` tokens, and the ends of neighbouring rows share a call where
        they are of like lengths.

        Args:
            rows: each in use, none twice.
            pieces: tokens of each row, as many as it has room for at most.

        Raises:
            ValueError: a row is not in use or given twice, a piece is empty or outgrows the
                context, or a token is unknown.
        """
        if len(rows) != len(pieces) or len(set(rows)) != len(rows) or not rows:
            raise ValueError(f"{len(pieces)} pieces for the rows {list(rows)}")
        arrays = {}
        for row, piece in zip(rows, pieces, strict=True):
            self._check(row, 1)
            arrays[row] = np.asarray(piece, dtype=np.int64)
            self._check_tokens(row, [arrays[row]])
            if not len(piece):
                raise ValueError(f"row {row}: the piece is empty")
        for row, piece in arrays.items():
            end = (len(piece) - 1) // PIECE * PIECE
            if 0 < end == len(piece) - 1:
                end -= 1  # alone, the last token would take other kernels, which round otherwise
            for at in range(0, end, PIECE):
                self._feed_group(row, [piece[at : min(at + PIECE, end)]])
            arrays[row] = piece[end:]
        sizes = {row: len(arrays[row]) for row in sorted(arrays)}
        for group in group_neighbours(sizes, self._lengths, self.context + 1):
            self._feed_group(group[0], [arrays[row] for row in group])
        logits: Logits = self._logits["fed"][list(rows), 0]
        return logits

    def check_guesses(self, tokens: Sequence[int]) -> Logits:
        """Feed the only row a token and guesses of those behind it; logits behind each [n, v].

        ``rewind`` drops the guesses that turn out to be wrong.

        Args:
            tokens: one, and up to ``most_guesses``; no more than the row has room for.

        Raises:
            ValueError: there is another number of rows, or of tokens, or a token is unknown.
        """
        if self._used != 1 or not 0 < len(tokens) <= 1 + self.most_guesses:
            raise ValueError(f"{len(tokens)} tokens to check in a batch of {self._used} rows")
        piece = np.asarray(tokens, dtype=np.int64)
        self._check_tokens(0, [piece])
        width = min(1 + self.most_guesses, self.context + 1 - int(self._lengths[0]))
        if width < 1 + self.most_guesses:
            return self.feed(0, [piece])[0]
        call = self._calls.bound("checked", 0, 1, width)
        call.write_tokens([piece])
        call.positions[0, :, 0] = np.arange(width)
        self._run(call, 0)
        logits: Logits = self._logits["checked"][0, : len(tokens)]
        return logits

    def rewind(self, row: int, length: int) -> None:
        """Drop what a row holds beyond its first tokens.

        Args:
            row: a row in use.
            length: how many it holds then.
        """
        self._check(row, 1)
        assert 0 <= length <= self._lengths[row]
        self._lengths[row] = length

    def feed(self, first: int, pieces: Sequence[Ids]) -> list[Logits]:
        """Append a piece (it may be empty) to each of the rows from ``first`` on.

        Returns:
            Logits after every token of each piece, [tokens of the piece, v].

        Raises:
            ValueError: a row is not in use, would outgrow the context, or a token is unknown.
        """
        return self._feed_all(first, pieces, "logits", self.model.vocabulary, self.context)

    def hidden_states(self, first: int, pieces: Sequence[Ids]) -> list[Logits]:
        """Append pieces as ``feed`` does; the normed states of the last layer in place of logits.

        Args:
            first: row of the first piece.
            pieces: tokens of each row; a piece may be empty.

        Returns:
            States after every token of each piece, [tokens of the piece, c].

        Raises:
            ValueError: a row is not in use, would outgrow the context, or a token is unknown.
        """
        # The graph computes logits beside them, of as many positions as a call has.
        return self._feed_all(first, pieces, "hidden", self.model.width, PIECE)

    def _feed_all(
        self, first: int, pieces: Sequence[Ids], output: str, channels: int, widest: int
    ) -> list[Logits]:
        """One output at every position of each piece, [tokens of the piece, channels]."""
        self._check(first, len(pieces))
        arrays = [np.asarray(piece, dtype=np.int64) for piece in pieces]
        self._check_tokens(first, arrays)
        count = len(arrays)
        parts: list[list[Logits]] = [[np.zeros((0, channels), dtype=np.float32)] for _ in arrays]
        fed = 0
        longest = max(map(len, arrays))
        while fed < longest:
            held = int(self._lengths[first : first + count].max())
            width = min(longest - fed, self.context + 1 - held, widest)
            values = np.empty((count, width, channels), dtype=np.float32)
            call = self._calls.bind(first, count, width, {output: values})
            call.positions[..., 0] = np.arange(width)
            chunks = [piece[fed : fed + width] for piece in arrays]
            call.write_tokens(chunks)
            self._run(call, first)
            for row, chunk in enumerate(chunks):
                parts[row].append(values[row, : len(chunk)])
            fed += width
        return [np.concatenate(row_parts) for row_parts in parts]

    def _feed_group(self, first: int, pieces: Sequence[NDArray[np.int64]]) -> None:
        """Feed neighbouring rows in one call; their last logits go to the rows' places."""
        count, width = len(pieces), max(map(len, pieces))
        call = self._calls.bound("fed", first, count, width)
        call.write_tokens(pieces)
        call.positions[:, 0, 0] = call.new - 1
        self._run(call, first)

    def _run(self, call: GraphCall, first: int) -> None:
        """Run the graph on rows from ``first`` on, whose new tokens are written in ``call``.

        Raises:
            ValueError: a row would outgrow the context.
        """
        lengths = self._lengths[first : first + len(call.new)]
        after = lengths + call.new
        longest = int(after.max())
        if longest > self.context:
            row = first + int(after.argmax())
            raise ValueError(
                f"row {row} has room for {self.remaining_context(row)} more tokens, "
                f"not {int(call.new[row - first])}"
            )
        np.maximum(after - 1, 0, out=call.last)
        call.total[...] = longest
        self.model.session.run_with_iobinding(call.binding)
        lengths[:] = after

    def _check(self, first: int, count: int) -> None:
        if not 0 <= first < first + count <= self._used:
            raise ValueError(
                f"rows {first} to {first + count - 1} are not all in use ({self._used} are)"
            )

    def _check_tokens(self, first: int, pieces: Sequence[NDArray[np.int64]]) -> None:
        for row, piece in enumerate(pieces, start=first):
            if len(piece) > self.remaining_context(row):
                raise ValueError(
                    f"row {row} has room for {self.remaining_context(row)} more tokens, "
                    f"not {len(piece)}"
                )
            if len(piece) and not 0 <= piece.min() <= piece.max() < self.model.vocabulary:
                raise ValueError(f"row {row}: a token outside 0 to {self.model.vocabulary - 1}")
