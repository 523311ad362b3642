"""Language identification by naive Bayes on hashed byte n-grams.

One to four bytes in a row of the folded letters, hashed into slots; add-a-little smoothing; the
languages are equally likely beforehand (McCallum & Nigam 1998; for language, Dunning 1994). Some
twenty lines of a language are enough, and training is counting.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIZES = (1, 2, 3, 4)
SLOTS = 1 << 16
_SMOOTHING = 0.05
"""Added to every count, so that an n-gram unseen in a language does not rule the language out."""
_INDEPENDENT = 30
"""N-grams that a text counts as at most: they overlap, so their product would be too certain."""
MOST_BYTES = 1500
"""Bytes of one segment that are read."""
_GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio, odd: the multiplier of Fibonacci hashing (Knuth, vol. 3, 6.4)."""


@dataclass(frozen=True)
class LanguageModel:
    """Languages and the log-likelihood of every n-gram slot under each."""

    codes: tuple[str, ...]
    """Sorted; the columns of ``likelihoods``."""
    likelihoods: NDArray[np.float32]
    """[slots, languages] natural logarithms of probabilities."""

    def probabilities(self, text: str) -> NDArray[np.float64]:
        """Probability of each language: [languages]; all alike for a text without a letter."""
        slots = _ngram_slots(text)
        if not len(slots):
            return np.full(len(self.codes), 1 / len(self.codes))
        mean = self.likelihoods[slots].mean(axis=0, dtype=np.float64)
        raised = np.exp((mean - mean.max()) * min(len(slots), _INDEPENDENT))
        return np.asarray(raised / raised.sum(), dtype=np.float64)

    def likeliest(self, text: str) -> str:
        """The likeliest language."""
        return self.codes[int(self.probabilities(text).argmax())]

    def to_safetensors(self) -> bytes:
        """The model as the bytes of a safetensors file, in float16."""
        from safetensors.numpy import save

        codes = {"codes": json.dumps(self.codes)}
        return save({"likelihoods": self.likelihoods.astype(np.float16)}, metadata=codes)

    @classmethod
    def from_safetensors(cls, held: bytes) -> LanguageModel:
        """The model that ``to_safetensors`` wrote."""
        from safetensors.numpy import load

        length = int.from_bytes(held[:8], "little")
        codes = json.loads(json.loads(held[8 : 8 + length])["__metadata__"]["codes"])
        return cls(tuple(codes), load(held)["likelihoods"].astype(np.float32))


def train_language_model(lines: Mapping[str, Sequence[str]]) -> LanguageModel:
    """Train a model on lines of each language (code -> lines)."""
    codes = tuple(sorted(lines))
    counts = np.zeros((SLOTS, len(codes)))
    for column, code in enumerate(codes):
        for line in lines[code]:
            for at in range(0, len(line), MOST_BYTES // 4):
                slots = _ngram_slots(line[at : at + MOST_BYTES // 4])
                counts[:, column] += np.bincount(slots, minlength=SLOTS)
    total = counts.sum(axis=0) + _SMOOTHING * SLOTS
    log_likelihoods = np.log((counts + _SMOOTHING) / total)
    return LanguageModel(codes, log_likelihoods.astype(np.float16).astype(np.float32))


def _ngram_slots(text: str) -> NDArray[np.int64]:
    """Slot of every n-gram of the text's words."""
    letters = "".join(sign if _is_letter(sign) else " " for sign in text[:MOST_BYTES].lower())
    words = " ".join(letters.split())
    if not words:
        return np.empty(0, dtype=np.int64)
    word_bytes = np.frombuffer(f" {words} ".encode(errors="replace")[:MOST_BYTES], dtype=np.uint8)
    slots = []
    for size in SIZES:
        windows = max(0, len(word_bytes) - size + 1)
        keys = np.full(windows, size, dtype=np.uint64)
        for offset in range(size):
            keys = (keys << np.uint64(8)) | word_bytes[offset : offset + windows]
        hashed = (keys * _GOLDEN_RATIO) >> np.uint64(48)  # 16 bits: below SLOTS
        slots.append(hashed.astype(np.int64))
    return np.concatenate(slots)


def _is_letter(sign: str) -> bool:
    """True for letters, the marks that belong to them, and the apostrophes inside words."""
    if sign.isascii():
        return sign.isalpha() or sign == "'"
    return sign == "’" or unicodedata.category(sign)[0] in "LM"
