"""Quality statistics of many documents at once, read from an Arrow column in place."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.text.arrow_buffers import string_buffers
from components.text.word_splitting import STOP_WORDS

_STRIPPED = "#*_`()[]{}<>.,:;!?\"'"
"""Marks that stand around a word in Markdown; without them it is looked up among stop words."""


def document_statistics(texts: pa.ChunkedArray, short_line: int) -> dict[str, NDArray[np.float64]]:
    """Name -> one value a document; ``components/clean/quality/score.py`` says what each is."""
    from components.text.kernels import statistics_pass as kernel
    from components.text.kernels.unicode_tables import character_classes

    data, offsets = string_buffers(texts)
    stripped = np.zeros(256, dtype=np.uint8)
    stripped[[ord(mark) for mark in _STRIPPED]] = 1
    packed = [int.from_bytes(word.encode(), "little") for word in STOP_WORDS]
    rules = kernel.StatisticsRules(
        character_classes(), stripped, np.array(packed, dtype=np.uint64), short_line
    )
    rows = np.empty((len(offsets) - 1, len(kernel.COLUMNS)))
    kernel.fill_statistics(data, offsets, rules, rows)
    return dict(zip(kernel.COLUMNS, np.round(rows, 6).T, strict=True))
