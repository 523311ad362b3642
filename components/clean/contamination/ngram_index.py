"""Inverted index of word n-grams: which texts share one with a document, and where.

After decon (Allen AI, github.com/allenai/decon), which indexes the evaluation items and streams the
documents past them. Here an n-gram is three words, so that one changed word in ten leaves some in
any text of seven words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.clean.contamination.text_units import unit_size

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]
NGRAM_WORDS = 3
MAX_WORDS = 2000
"""Words of a text that are compared; comparing costs their square."""
_MAX_TEXTS_OF_NGRAM = 64
"""N-grams of more texts than this tell none apart ("which of the") and are left out."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2 ** 64 divided by the golden ratio (Knuth, The Art of Computer Programming, 6.4)."""


@dataclass(frozen=True)
class NgramIndex:
    """Texts, numbered as they were given, with the postings of their n-grams."""

    vocabulary: Mapping[str, int]
    """word -> number, from 1; 0 is any other word and what lies between documents."""
    weights: NDArray[np.float64]
    """[words + 1] in (0, 1]; 0 for any other word."""
    sizes: NDArray[np.float64]
    """[words + 1] size of a unit in words: 1, and less for a sign of a script without spaces."""
    words: Ints
    """Numbers of the words of all texts, one after another."""
    text_starts: Ints
    """[texts + 1] where a text begins in ``words``."""
    spans: Ints
    """[texts] words of a document within which the parts of a text are looked for."""
    keys: Keys
    """[keys] sorted, distinct hashes of n-grams."""
    posting_starts: Ints
    """[keys + 1] where a key's postings begin."""
    owners: Ints
    """[postings] text of each."""
    places: Ints
    """[postings] where in its text."""
    reach: NDArray[np.float64]
    """[texts] weight of the words that indexed n-grams hold."""
    hash_table: NDArray[np.bool_]
    """A table of hashed keys that sorts out most n-grams of a document at once."""

    def text_words(self, text: int) -> Ints:
        """Numbers of the words of a text."""
        return self.words[self.text_starts[text] : self.text_starts[text + 1]]


def build_index(
    texts: Sequence[Sequence[str]], weights: Mapping[str, float], spans: Sequence[int]
) -> NgramIndex:
    """Index texts by their n-grams.

    Args:
        texts: words of each, ``NGRAM_WORDS`` or more.
        weights: word -> weight, for all words of the texts.
        spans: for each text, words of a document within which its parts are looked for.
    """
    vocabulary = {word: number for number, word in enumerate(sorted(weights), start=1)}
    ids = [np.array([vocabulary[w] for w in text[:MAX_WORDS]], dtype=np.int64) for text in texts]
    grams = [hash_ngrams(text) for text in ids]
    owners = np.repeat(np.arange(len(ids)), [len(text_keys) for text_keys in grams])
    places = np.concatenate([np.arange(len(text_keys)) for text_keys in grams] or [owners])
    flat = np.concatenate([*grams, np.empty(0, dtype=np.uint64)])
    useful = _select_rare(flat, owners, len(ids))
    flat, owners, places = flat[useful], owners[useful], places[useful]
    order = np.lexsort((places, owners, flat))
    keys, first = np.unique(flat[order], return_index=True)
    table = np.zeros(1 << max(10, int(len(keys) * 16).bit_length()), dtype=bool)
    table[_hash_slots(keys, len(table))] = True
    words = np.concatenate([*ids, np.empty(0, dtype=np.int64)])
    text_starts = np.append(0, np.cumsum([len(text) for text in ids])).astype(np.int64)
    word_weights = np.array([0.0, *(weights[word] for word in sorted(weights))])
    held = np.zeros(len(words), dtype=bool)
    for offset in range(NGRAM_WORDS):
        held[text_starts[owners] + places + offset] = True
    sums = np.append(0, np.cumsum(np.where(held, word_weights[words], 0)))
    return NgramIndex(
        vocabulary=vocabulary,
        weights=word_weights,
        sizes=np.array([0.0, *map(unit_size, sorted(weights))]),
        words=words,
        text_starts=text_starts,
        spans=np.array(spans, dtype=np.int64),
        keys=keys,
        posting_starts=np.append(first, len(flat)).astype(np.int64),
        owners=owners[order],
        places=places[order],
        reach=sums[text_starts[1:]] - sums[text_starts[:-1]],
        hash_table=table,
    )


def _select_rare(flat: Keys, owners: Ints, texts: int) -> NDArray[np.bool_]:
    """N-grams that few texts share, and all n-grams of a text that has no other: [n-grams]."""
    _, ngram_of, counts = np.unique(flat, return_inverse=True, return_counts=True)
    rare = np.asarray(counts[ngram_of] <= _MAX_TEXTS_OF_NGRAM)
    without = np.bincount(owners[rare], minlength=texts) == 0
    return np.asarray(rare | without[owners], dtype=bool)


def number_words(index: NgramIndex, documents: Sequence[Sequence[str]]) -> tuple[Ints, Ints]:
    """([words] numbers of all documents, a 0 behind each; [documents + 1] where each begins)."""
    number = defaultdict(int, index.vocabulary)  # looks up without a call of Python a word
    flat: list[int] = []
    starts = [0]
    for document in documents:
        flat.extend(map(number.__getitem__, document))
        flat.append(0)
        starts.append(len(flat))
    return np.array(flat, dtype=np.int64), np.array(starts, dtype=np.int64)


def find_hits(index: NgramIndex, ids: Ints) -> tuple[Ints, Ints, Ints]:
    """(word of the documents, text, word of the text) wherever they share an n-gram."""
    keys = hash_ngrams(ids)
    words_hit = np.flatnonzero(
        index.hash_table[_hash_slots(keys, len(index.hash_table))] & (keys > 0)
    )
    slots = np.minimum(np.searchsorted(index.keys, keys[words_hit]), len(index.keys) - 1)
    right = index.keys[slots] == keys[words_hit]
    words_hit, slots = words_hit[right], slots[right]
    counts = index.posting_starts[slots + 1] - index.posting_starts[slots]
    first = np.repeat(index.posting_starts[slots] - np.cumsum(counts) + counts, counts)
    posting = first + np.arange(len(first))
    return np.repeat(words_hit, counts), index.owners[posting], index.places[posting]


def hash_ngrams(ids: Ints) -> Keys:
    """Hash of every n-gram, polynomial with fmix64 behind; 0 where one holds an unknown word.

    Two n-grams that share one cost a comparison of words and nothing else.
    """
    count = len(ids) - NGRAM_WORDS + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    keys = np.zeros(count, dtype=np.uint64)
    whole = np.ones(count, dtype=bool)
    for offset in range(NGRAM_WORDS):
        part = ids[offset : offset + count]
        keys = keys * _MULTIPLIER + part.astype(np.uint64)
        whole &= part > 0
    keys ^= keys >> np.uint64(33)
    keys *= np.uint64(0xFF51AFD7ED558CCD)  # of MurmurHash3's finalizer
    keys ^= keys >> np.uint64(33)
    keys[~whole] = 0
    return keys


def _hash_slots(keys: Keys, table_size: int) -> Ints:
    """Slots of keys in a hash table of ``table_size``, a power of two: Fibonacci hashing."""
    shift = np.uint64(64 - (table_size.bit_length() - 1))
    return ((keys * _MULTIPLIER) >> shift).astype(np.int64)
