"""A model's vocabulary as llguidance reads it: bytes of each token, special ones, end tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class _TokenTable:
    """The interface that ``LLTokenizer`` asks of a tokenizer."""

    bos_token_id = None
    is_tokenizer_wrapper = True

    def __init__(
        self, table: Sequence[bytes], ends: Sequence[int], encode: Callable[[str], list[int]]
    ) -> None:
        # A special token has no text; llguidance tells them apart by a name.
        self.tokens = [text or b"<|%d|>" % token for token, text in enumerate(table)]
        self.special_token_ids = [token for token, text in enumerate(table) if not text]
        self.eos_token_id = ends[0]
        self._encode = encode

    def __call__(self, text: str | bytes) -> list[int]:
        return self._encode(text.decode() if isinstance(text, bytes) else text)


class GuidanceVocabulary:
    """Vocabulary of one model for constraints.

    Args:
        table: the bytes of each token, empty for special ones and padding.
        ends: tokens that end an answer; at least one.
        encode: ids of a text.
    """

    def __init__(
        self, table: Sequence[bytes], ends: frozenset[int], encode: Callable[[str], list[int]]
    ) -> None:
        self.ends = tuple(sorted(ends))
        self.size = len(table)
        self.table = table
        tokens = _TokenTable(table, self.ends, encode)
        # Its declared type is the package's own wrapper; it reads these attributes alone.
        self.tokenizer = LLTokenizer(tokens, eos_token=list(self.ends))  # type: ignore[arg-type]
        self.single_bytes = {text[0]: t for t, text in enumerate(table) if len(text) == 1}
        letters = [t for t, text in enumerate(table) if text and _LETTERS.issuperset(text)]
        self.letter_tokens = np.array(sorted(letters, key=lambda t: -len(table[t])), dtype=np.int64)
        """Tokens of letters alone, the longest first: they fill a text that has to be long."""

    def allowed_tokens(self, matcher: LLMatcher) -> NDArray[np.bool_]:
        """Tokens that may come next [v]."""
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        mask: NDArray[np.bool_] = np.unpackbits(bits, count=self.size, bitorder="little").view(
            np.bool_
        )
        return mask
