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
``batch.feed(row, [piece])``, and IDLE as that row's token in ``step`` meanwhile. A row holds at
most ``model.context`` tokens (``batch.remaining_context(row)`` are left). Rows of one ``feed`` are
padded to the longest piece, so feed prompts and single tokens in calls of their own.

What the graph itself is given, for a runtime of another kind:

    input_ids        int64 [b, t]   new tokens, padded on the right with IDLE (-1)
    attention_mask   int64 [b, s]   as many ones as the row has tokens after this call, then zeros;
                                    s is the longest such row (at least t, at most the context)
    past/present     float32 [b, kv heads, capacity, head width], each pair bound to the same
                     memory, so that new keys are written in place; capacity is no less than any
                     row's length before this call plus t

Not safe to use from two threads at once. Equal calls give equal logits at equal thread counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.core.errors import DataError, error_line
from components.core.settings import Spin, spin_setting

SPINNING: dict[Spin, dict[str, str]] = {
    "none": {"session.intra_op.allow_spinning": "0"},
    "short": {"session.intra_op.spin_duration_us": "20"},
    "long": {},
}
"""Options of onnxruntime. Threads that spin between two calls take the cores from the program that
serves: beside other work 16 rows took 22 ms a step as it spins by itself, 12 to 15 with 20 us."""
IDLE = -1
"""Stands for a token where a row has none at this position."""
Logits = NDArray[np.float32]
Ids = Sequence[int] | NDArray[np.integer]


class OnnxModel:
    """onnxruntime session over a served graph.

    Args:
        path: ``model.onnx`` (float32 or quantized; its weights may lie in files beside it).
        threads: cores for one call; None takes all.

    Raises:
        DataError: the file is missing, damaged, or not a graph of ours.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self._path = path
        self.session = self.open(threads)
        meta = self.session.get_modelmeta().custom_metadata_map
        inputs = self.session.get_inputs()
        if "context" not in meta or [i.name for i in inputs[:2]] != ["input_ids", "attention_mask"]:
            raise DataError(f"{path.name}: not a graph of export_onnx")
        self.context = int(meta["context"])
        self.past = [argument.name for argument in inputs[2:]]
        self.present = [argument.name for argument in self.session.get_outputs()[1:]]
        self.kv_heads, self.head_width = int(inputs[2].shape[1]), int(inputs[2].shape[3])
        self.vocabulary = int(self.session.get_outputs()[0].shape[2])

    def open(self, threads: int | None) -> Any:
        """Open a further session of the same graph, for ``use``; it holds the weights again.

        Raises:
            DataError: the file is missing or cannot be loaded.
        """
        return open_session(self._path, threads)

    def use(self, session: Any) -> None:
        """Switch to another session of ``open``; batches keep their keys and values."""
        self.session = session


def open_session(path: Path, threads: int | None = None) -> Any:
    """Open an onnxruntime session on the CPU; its log is silent, errors are exceptions.

    Raises:
        DataError: the file is missing or cannot be loaded.
    """
    import onnxruntime

    if not path.is_file():
        raise DataError(f"{path.name}: there is no such graph in {path.parent.name}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 4
    for name, value in SPINNING[spin_setting()].items():
        options.add_session_config_entry(name, value)
    try:
        return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base but this
        reason = error_line(error)[:300]
        raise DataError(f"{path.name}: onnxruntime cannot load it: {reason}") from error


class RaggedBatch:
    """KV cache and decoding of up to ``slots`` sequences, each at its own length."""

    def __init__(self, model: OnnxModel, slots: int) -> None:
        self.model, self.slots = model, slots
        # One position more than the context, so that a full row can idle while others go on.
        size = (slots, model.kv_heads, model.context + 1, model.head_width)
        self._cache = [np.zeros(size, dtype=np.float32) for _ in model.past]
        self._lengths = np.zeros(slots, dtype=np.int64)
        self._bindings: dict[tuple[int, int], Any] = {}
        self._bound = model.session
        self._used = 0

    def __len__(self) -> int:
        """Rows in use."""
        return self._used

    def remaining_context(self, row: int) -> int:
        """Tokens that a row can still take."""
        return self.model.context - int(self._lengths[row])

    def join(self) -> int:
        """Take a free slot; returns its row, the last one.

        Raises:
            ValueError: all slots are in use.
        """
        if self._used == self.slots:
            raise ValueError(f"all {self.slots} slots are in use")
        self._lengths[self._used] = 0
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
        for cache in self._cache:
            cache[row, :, :length] = cache[last, :, :length]
        return last

    def prefill(self, prompts: Sequence[Ids]) -> Logits:
        """Join with whole prompts (none empty), as the last rows; last logits [prompts, v].

        Raises:
            ValueError: too few slots are free, a prompt is empty or longer than the context.
        """
        if self._used + len(prompts) > self.slots or not all(len(p) for p in prompts):
            raise ValueError(f"{len(prompts)} prompts, none empty, need as many free slots")
        if max(map(len, prompts)) > self.model.context:
            raise ValueError(f"a prompt is longer than the context of {self.model.context}")
        first = self._used
        for _ in prompts:
            self.join()
        return np.stack([logits[-1] for logits in self.feed(first, prompts)])

    def step(self, tokens: Ids) -> Logits:
        """One token for each row in use (or IDLE); logits [rows, v], zero for idle rows.

        Raises:
            ValueError: not a token for each row, a full row, a token outside the vocabulary.
        """
        if len(tokens) != self._used:
            raise ValueError(f"{len(tokens)} tokens for {self._used} rows")
        fed = self.feed(0, [[] if token == IDLE else [int(token)] for token in tokens])
        out = np.zeros((self._used, self.model.vocabulary), dtype=np.float32)
        for row, logits in enumerate(fed):
            out[row, : logits.shape[1]] = logits[-1] if len(logits) else 0
        return out

    def feed(self, first: int, pieces: Sequence[Ids]) -> list[Logits]:
        """Append a piece (it may be empty) to each of the rows from ``first`` on.

        Returns:
            Logits after every token of each piece, [tokens of the piece, v].

        Raises:
            ValueError: a row is not in use, would outgrow the context, or a token is unknown.
        """
        self._check(first, len(pieces))
        arrays = [np.asarray(piece, dtype=np.int64) for piece in pieces]
        self._check_tokens(first, arrays)
        row_logits: list[list[Logits]] = [[] for _ in arrays]
        fed = 0
        longest = max(map(len, arrays))
        while fed < longest:
            held = int(self._lengths[first : first + len(arrays)].max())
            width = min(longest - fed, self.model.context + 1 - held)
            chunks = [piece[fed : fed + width] for piece in arrays]
            logits = self._run(first, chunks)
            for row, piece in enumerate(chunks):
                row_logits[row].append(logits[row, : len(piece)])
            fed += width
        empty = np.zeros((0, self.model.vocabulary), dtype=np.float32)
        return [np.concatenate(parts or [empty]) for parts in row_logits]

    def _run(self, first: int, pieces: Sequence[NDArray[np.int64]]) -> Logits:
        """One call of the graph: logits [b, t, v]."""
        rows, width = slice(first, first + len(pieces)), max(map(len, pieces))
        ids = np.full((len(pieces), width), IDLE, dtype=np.int64)
        for row, piece in enumerate(pieces):
            ids[row, : len(piece)] = piece
        self._lengths[rows] += [len(piece) for piece in pieces]
        after = np.maximum(self._lengths[rows], 1)  # the mask of an empty row must not be empty
        steps = np.arange(max(width, int(after.max())))
        binding = self._binding(first, len(pieces))
        binding.bind_cpu_input("input_ids", ids)
        binding.bind_cpu_input("attention_mask", (steps < after[:, None]).astype(np.int64))
        binding.bind_output("logits", "cpu")
        try:
            self.model.session.run_with_iobinding(binding)
        except Exception:
            self._lengths[rows] -= [len(piece) for piece in pieces]
            raise
        out: Logits = binding.get_outputs()[0].numpy()  # bound first
        return out

    def _binding(self, first: int, count: int) -> Any:
        """Binding of these rows' past and present to the same memory, made once for each range."""
        from onnxruntime import OrtValue

        if self._bound is not self.model.session:  # another number of threads
            self._bindings.clear()
            self._bound = self.model.session
        if (first, count) not in self._bindings:
            binding = self.model.session.io_binding()
            binding.bind_output("logits", "cpu")
            names = zip(self._cache, self.model.past, self.model.present, strict=True)
            for cache, past, present in names:
                value = OrtValue.ortvalue_from_numpy(cache[first : first + count])
                binding.bind_ortvalue_input(past, value)
                binding.bind_ortvalue_output(present, value)
            self._bindings[first, count] = binding
        return self._bindings[first, count]

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
