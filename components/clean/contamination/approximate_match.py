"""Approximate search of many short texts in documents: n-gram index, then weighted alignment.

After decon (Allen AI, github.com/allenai/decon): an inverted index of the texts' word n-grams finds
where to look, and an overlap weighed by inverse document frequency says how much is there. Here an
n-gram is three words, so that one changed word in ten leaves some in any text of seven words, and
the overlap is the heaviest common subsequence (Wagner & Fischer 1974) of the text and the window it
would lie in: a changed, added or left-out word costs its own weight and nothing else.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
NGRAM_WORDS = 3
WORD_BITS = 21
"""Bits of a word's number: three of them make one exact 64-bit key."""
MAX_WORDS = 400
"""Words of a text that are compared; one that agrees in so many agrees."""
_MAX_TEXTS_OF_NGRAM = 64
"""N-grams of more texts than this tell none apart ("which of the") and are left out."""
_BUCKET_WORDS = 64
"""Diagonals of one bucket: wider ones mix distant hits, narrower ones split an edited passage."""
_SMOOTHING_TEXTS = 500
"""Texts added in the frequencies, so that weights from a handful of texts mean something."""
_FUNCTION_WORD_WEIGHT = 0.25
"""Factor on function words, which say little of which item a text is."""
_STOP_WORDS = """
a about above after again all am an and any are as at be because been before being below between
both but by can could did do does doing down during each few for from further had has have having
he her here hers him his how i if in into is it its just me more most my no nor not now of off on
once only or other our out over own same she should so some such than that the their them then
there these they this those through to too under until up very was we were what when where which
while who whom why will with would you your s t
"""
_EXAM_WORDS = """
answer answers best choose correct described false following given incorrect likely option options
question select statement statements true
"""
_FUNCTION_WORDS = frozenset([*_STOP_WORDS.split(), *_EXAM_WORDS.split()])
"""Words of any sentence, and of any examination."""


@dataclass(frozen=True)
class NgramIndex:
    """Inverted index of word n-grams over texts, which are numbered as they were given."""

    vocabulary: Mapping[str, int]
    """word -> number, from 1; 0 is any other word and what lies between documents."""
    weights: NDArray[np.float64]
    """[words + 1] in (0, 1]."""
    texts: Sequence[Ints]
    keys: NDArray[np.uint64]
    """[keys] sorted, distinct."""
    starts: Ints
    """[keys + 1] where a key's postings begin."""
    owners: Ints
    """[postings] text of each."""
    places: Ints
    """[postings] where in its text."""
    min_ngrams: Ints
    """[texts] distinct n-grams that must be seen before a text is compared."""
    hash_table: NDArray[np.bool_]
    """A table of hashed keys that sorts out most n-grams of a document at once."""


@dataclass(frozen=True)
class TextMatch:
    """A text that stands in a document, exactly or nearly."""

    document: int
    text: int
    overlap: float
    """Share of the text's weight that stands there, in order."""
    start: int
    end: int
    """Words of the document."""


def word_weights(texts: Sequence[Sequence[str]]) -> dict[str, float]:
    """Weight of each word, in (0, 1]: by smoothed inverse frequency; less for small words."""
    counts = Counter(word for text in texts for word in set(text))
    total = len(texts) + _SMOOTHING_TEXTS
    return {
        word: math.log1p(total / count)
        / math.log1p(total)
        * (_FUNCTION_WORD_WEIGHT if word in _FUNCTION_WORDS else 1.0)
        for word, count in counts.items()
    }


def build_index(texts: Sequence[Sequence[str]], weights: Mapping[str, float]) -> NgramIndex:
    """An index of ``texts``, each of ``SIZE`` words or more."""
    vocabulary = {word: number for number, word in enumerate(sorted(weights), start=1)}
    assert len(vocabulary) < 1 << WORD_BITS
    ids = [np.array([vocabulary[w] for w in text[:MAX_WORDS]], dtype=np.int64) for text in texts]
    grams = [_ngram_keys(text) for text in ids]
    owners = np.repeat(np.arange(len(ids)), [len(text_keys) for text_keys in grams])
    places = np.concatenate([np.arange(len(found)) for found in grams] or [owners])
    flat = np.concatenate([*grams, np.empty(0, dtype=np.uint64)])
    useful = _select_rare(flat, owners, len(ids))
    flat, owners, places = flat[useful], owners[useful], places[useful]
    order = np.lexsort((places, owners, flat))
    keys, first = np.unique(flat[order], return_index=True)
    table = np.zeros(1 << max(10, int(len(keys) * 16).bit_length()), dtype=bool)
    table[_hash_slots(keys, len(table))] = True
    count = np.bincount(owners, minlength=len(ids))
    return NgramIndex(
        vocabulary=vocabulary,
        weights=np.array([0.0, *(weights[word] for word in sorted(weights))]),
        texts=ids,
        keys=keys,
        starts=np.append(first, len(flat)).astype(np.int64),
        owners=owners[order],
        places=places[order],
        min_ngrams=np.minimum(count, np.maximum(2, count // 4)),
        hash_table=table,
    )


def _select_rare(flat: NDArray[np.uint64], owners: Ints, texts: int) -> NDArray[np.bool_]:
    """N-grams that few texts share, and all n-grams of a text that has no other: [n-grams]."""
    _, ngram_of, counts = np.unique(flat, return_inverse=True, return_counts=True)
    rare = np.asarray(counts[ngram_of] <= _MAX_TEXTS_OF_NGRAM)
    without = np.bincount(owners[rare], minlength=texts) == 0
    return np.asarray(rare | without[owners], dtype=bool)


def _ngram_keys(ids: Ints) -> NDArray[np.uint64]:
    """Key of every n-gram; 0 where one holds an unknown word."""
    count = len(ids) - NGRAM_WORDS + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    keys = np.zeros(count, dtype=np.uint64)
    whole = np.ones(count, dtype=bool)
    for offset in range(NGRAM_WORDS):
        part = ids[offset : offset + count]
        keys = (keys << np.uint64(WORD_BITS)) | part.astype(np.uint64)
        whole &= part > 0
    keys[~whole] = 0
    return keys


def _hash_slots(keys: NDArray[np.uint64], table_size: int) -> Ints:
    """Slots of keys in a hash table of ``size``, a power of two: Fibonacci hashing.

    The factor is 2 ** 64 divided by the golden ratio (Knuth, The Art of Computer Programming, 6.4).
    """
    shift = np.uint64(64 - (table_size.bit_length() - 1))
    return ((keys * np.uint64(0x9E3779B97F4A7C15)) >> shift).astype(np.int64)


def find_matches(
    index: NgramIndex, documents: Sequence[Sequence[str]], min_overlap: float
) -> list[TextMatch]:
    """Best match of every text in every document.

    Args:
        index: Of the texts.
        documents: Words of each.
        min_overlap: Share of a text's weight from which it counts as found.
    """
    if not len(index.keys):
        return []
    ids, starts = _number_words(index, documents)
    marks = np.zeros(len(index.weights), dtype=bool)
    best: dict[tuple[int, int], TextMatch] = {}
    for document, text, diagonal in _find_candidates(index, ids, starts):
        bounds = int(starts[document]), int(starts[document + 1]) - 1
        passage = _align_window(index, ids, marks, text, diagonal, bounds, min_overlap)
        if passage is None:
            continue
        overlap, start, end = passage
        best_yet = best.get((document, text))
        if best_yet is None or overlap > best_yet.overlap:
            best[document, text] = TextMatch(document, text, overlap, start, end)
    return [best[key] for key in sorted(best)]


def _number_words(index: NgramIndex, documents: Sequence[Sequence[str]]) -> tuple[Ints, Ints]:
    """([words] numbers of all documents, a 0 behind each; [documents + 1] where each begins)."""
    number = defaultdict(int, index.vocabulary)  # looks up without a call of Python a word
    flat: list[int] = []
    starts = [0]
    for document in documents:
        flat.extend(map(number.__getitem__, document))
        flat.append(0)
        starts.append(len(flat))
    return np.array(flat, dtype=np.int64), np.array(starts, dtype=np.int64)


def _find_candidates(index: NgramIndex, ids: Ints, starts: Ints) -> list[tuple[int, int, int]]:
    """(document, text, where it would begin) where enough n-grams lie on near diagonals.

    Diagonals (word of the documents less word of the text) are put into buckets, each document
    its own; what lies across the border of two is counted in the first.
    """
    hits, texts, places = _find_hits(index, ids)
    diagonals = hits - places
    documents = np.searchsorted(starts, hits, side="right") - 1
    rooms = np.append(0, np.cumsum((np.diff(starts) + MAX_WORDS) // _BUCKET_WORDS + 2))
    buckets = rooms[documents] + (diagonals - starts[documents] + MAX_WORDS) // _BUCKET_WORDS
    groups = texts * int(rooms[-1]) + buckets
    _, once = np.unique(groups * MAX_WORDS + places, return_index=True)
    buckets_hit, begins, seen = np.unique(groups[once], return_index=True, return_counts=True)
    follows = np.append(buckets_hit[1:] == buckets_hit[:-1] + 1, False)
    together = seen + np.where(follows, np.append(seen[1:], 0), 0)
    chosen = together >= index.min_ngrams[buckets_hit // int(rooms[-1])]
    middle_hits = once[begins[chosen] + seen[chosen] // 2]
    return list(
        zip(
            documents[middle_hits].tolist(),
            texts[middle_hits].tolist(),
            diagonals[middle_hits].tolist(),
            strict=True,
        )
    )


def _find_hits(index: NgramIndex, ids: Ints) -> tuple[Ints, Ints, Ints]:
    """(word of the documents, text, word of the text) wherever they share an n-gram."""
    keys = _ngram_keys(ids)
    words_hit = np.flatnonzero(
        index.hash_table[_hash_slots(keys, len(index.hash_table))] & (keys > 0)
    )
    slots = np.minimum(np.searchsorted(index.keys, keys[words_hit]), len(index.keys) - 1)
    right = index.keys[slots] == keys[words_hit]
    words_hit, slots = words_hit[right], slots[right]
    counts = index.starts[slots + 1] - index.starts[slots]
    first = np.repeat(index.starts[slots] - np.cumsum(counts) + counts, counts)
    posting = first + np.arange(len(first))
    return np.repeat(words_hit, counts), index.owners[posting], index.places[posting]


def _align_window(
    index: NgramIndex,
    ids: Ints,
    marks: NDArray[np.bool_],
    text: int,
    diagonal: int,
    bounds: tuple[int, int],
    min_overlap: float,
) -> tuple[float, int, int] | None:
    """(overlap, first word, end) of a text in the window where it would lie, in its document.

    ``marks`` (one a word, all false, also afterwards) says which words the window holds: most
    windows hold too few to be worth the comparison.
    """
    words = index.texts[text]
    slack = 4 + len(words) // 8
    low = max(bounds[0], diagonal - slack)
    window = ids[low : min(bounds[1], diagonal + len(words) + slack)]
    weights = index.weights[words]
    total = float(weights.sum())
    marks[window] = True
    within = float(weights[marks[words]].sum())
    marks[window] = False
    if within < min_overlap * total:
        return None
    heaviest = np.zeros(len(window) + 1)
    for word, weight in zip(words.tolist(), weights.tolist(), strict=True):
        extended = heaviest[1:].copy()
        np.maximum(extended, heaviest[:-1] + weight * (window == word), out=extended)
        heaviest[1:] = np.maximum.accumulate(extended)
    overlap = float(heaviest[-1]) / total
    if overlap < min_overlap:
        return None
    end = int(np.argmax(heaviest >= heaviest[-1] - 1e-12))
    start = max(0, end - len(words))
    offset = low - bounds[0]
    return round(min(1.0, overlap), 6), offset + start, offset + end
