"""Winnowed fingerprints of long passages, few enough to compare a whole corpus.

A passage is ``length`` words in a row, as ``components/text/dedup/shingles.py`` tells words. Of
every ``guarantee`` passages in a row the one with the least hash is kept (winnowing: Schleimer,
Wilkerson, Aiken 2003), so a run of ``length + guarantee - 1`` words that two documents share is
always found.
"""

from __future__ import annotations

import pyarrow as pa

from components.text.arrow_buffers import string_buffers
from components.text.dedup.shingles import Hashes, Positions


def fingerprint_passages(
    texts: pa.ChunkedArray, length: int, guarantee: int
) -> tuple[Hashes, Positions, Positions, Positions]:
    """(hash, first word, document of each chosen passage; words of each document).

    Args:
        texts: documents, without nulls.
        length: words of a passage.
        guarantee: passages in a row of which at least one is chosen.
    """
    from components.text.kernels import passage_fingerprints as kernel
    from components.text.kernels.shingle_hashes import word_tables

    data, bounds = string_buffers(texts)
    return kernel.winnow_passages(data, bounds, word_tables(), length, guarantee)
