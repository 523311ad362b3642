"""Word 5-shingles as sorted arrays of 64-bit hashes, and their MinHash signatures.

A shingle is five words in a row. Its hash mixes the 64-bit BLAKE2b hashes of its words, so two
different shingles share one with a probability of 2**-64: Jaccard over hashes is exact in practice.
Signatures use datasketch's permutations (Broder 1997), whose scheme must be kept with them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.text.words import words

if TYPE_CHECKING:
    from datasketch import MinHash

SIZE = 5
SCHEME = "affine32"
_ROLL = np.uint64(0x9E3779B97F4A7C15)
_MIX = ((33, np.uint64(0xFF51AFD7ED558CCD)), (33, np.uint64(0xC4CEB9FE1A85EC53)))

Hashes = NDArray[np.uint64]


class WordHashes:
    """64-bit hashes of words, each computed once."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def of(self, text: str) -> Hashes:
        """One hash a word of ``text``, in order."""
        known = self._known
        hashes: list[int] = []
        for word in words(text):
            value = known.get(word)
            if value is None:
                digest = hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8)
                value = known[word] = int.from_bytes(digest.digest(), "little")
            hashes.append(value)
        return np.array(hashes, dtype=np.uint64)


def rolled(hashes: Hashes, size: int) -> Hashes:
    """A hash of every ``size`` neighbours in a row (multiplication wraps: it is modulo 2**64)."""
    count = len(hashes) - size + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    total = np.zeros(count, dtype=np.uint64)
    for offset in range(size):
        total = total * _ROLL + hashes[offset : offset + count]
    for shift, factor in _MIX:
        total = (total ^ (total >> np.uint64(shift))) * factor
    mixed: Hashes = total ^ (total >> np.uint64(33))
    return mixed


def shingles(text: str, hashes: WordHashes) -> Hashes:
    """Distinct word 5-shingles, sorted; empty for a text of fewer than five words."""
    return np.unique(rolled(hashes.of(text), SIZE))


def jaccard(left: Hashes, right: Hashes) -> float:
    """|A ∩ B| / |A ∪ B| of two sorted arrays of distinct hashes; 0 when both are empty."""
    common = len(np.intersect1d(left, right, assume_unique=True))
    union = len(left) + len(right) - common
    return common / union if union else 0.0


class Signer:
    """MinHash signatures of shingle sets: ``permutations`` uint32 values each."""

    def __init__(self, permutations: int, seed: int) -> None:
        from datasketch import MinHash

        self._blank: MinHash = MinHash(
            num_perm=permutations, seed=seed, hashfunc=_itself, scheme=SCHEME
        )

    def sign(self, hashes: Hashes) -> NDArray[np.uint32]:
        """The signature of a non-empty set (empty ones would all be equal)."""
        assert len(hashes), "an empty set has no signature"
        signed = self._blank.copy()
        signed.update_batch((hashes >> np.uint64(32)).tolist())
        values: NDArray[np.uint32] = signed.hashvalues
        return values


def _itself(value: int) -> int:
    return value
