"""Zero-copy view of an Arrow string column as bytes and offsets, for kernels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def string_buffers(column: pa.ChunkedArray) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(UTF-8 of all rows, offsets [rows + 1]) of a column without nulls."""
    chunks = [chunk.cast(pa.large_string()) for chunk in column.chunks]
    whole = pa.concat_arrays([pa.array([], pa.large_string()), *chunks])
    assert whole.null_count == 0, "a text is never null"
    if not len(whole):
        return np.empty(0, dtype=np.uint8), np.zeros(1, dtype=np.int64)
    _, offsets, data = whole.buffers()
    starts = np.frombuffer(offsets, dtype=np.int64)[whole.offset :][: len(whole) + 1]
    return np.frombuffer(data or b"", dtype=np.uint8), starts
