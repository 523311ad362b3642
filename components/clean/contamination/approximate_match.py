"""Approximate search of many texts in documents: whole, edited, moved, interrupted or cut ones.

An n-gram index finds where to look. The overlap is the share of a text's weight that stands in a
window of the document in runs of three words or more, in any order and with gaps: Llama 3's share
of tokens in common n-grams (Dubey et al. 2024, arXiv:2407.21783, 5.1.4), with shorter n-grams, of
one document's window and weighed by inverse document frequency as decon does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from components.clean.contamination.ngram_index import (
    NGRAM_WORDS,
    Ints,
    NgramIndex,
    find_hits,
    number_words,
)

Form = Literal["verbatim", "edited", "interrupted", "moved", "part"]
_CANDIDATE_SHARE = 0.5
"""Part of the smallest overlap that whole n-grams must hold: the rest stands in broken ones."""
_MARGIN_WORDS = 8
"""Words around the place where a text would lie: what additions within it may shift."""
_FOREIGN_WORDS = 4
"""Words between two parts of a text, beyond what replaces its own, that interrupt it."""
_END_SHARE = 0.1
"""Weight of a text's beginning or end that may be missing while it counts as edited, not cut."""


@dataclass(frozen=True)
class TextMatch:
    """A text that stands in a document, whole or in part."""

    document: int
    text: int
    overlap: float
    """Share of the text's weight that stands there."""
    information: float
    """The weight that stands there."""
    longest_run: float
    """Size, in words, of its longest part that stands there word for word."""
    form: Form
    start: int
    end: int
    """Words of the document."""


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
    ids, starts = number_words(index, documents)
    matches = (
        _match_text(index, ids[low:high], document, text, low - int(starts[document]))
        for document, text, low, high in _find_candidates(index, ids, starts, min_overlap)
    )
    return [match for match in matches if match and match.overlap >= min_overlap]


def _find_candidates(
    index: NgramIndex, ids: Ints, starts: Ints, min_overlap: float
) -> Iterator[tuple[int, int, int, int]]:
    """(document, text, first word, end) of the window that holds most of a text, if enough."""
    from components.text.kernels.shared_runs import find_windows

    hits, texts, places = find_hits(index, ids)
    documents = np.searchsorted(starts, hits, side="right") - 1
    groups = documents * (len(index.text_starts) - 1) + texts
    order = np.lexsort((places, hits, groups))
    hits, texts, places, documents = hits[order], texts[order], places[order], documents[order]
    windows, held = find_windows(
        groups[order],
        texts,
        hits,
        places,
        index.words,
        index.text_starts,
        index.weights,
        index.spans,
        NGRAM_WORDS,
    )
    enough = held >= _CANDIDATE_SHARE * min_overlap * index.reach[texts[windows[:, 0]]]
    for first, last in windows[enough].tolist():
        document, text = int(documents[first]), int(texts[first])
        length = int(index.text_starts[text + 1] - index.text_starts[text])
        diagonals = hits[first : last + 1] - places[first : last + 1]
        low = min(int(diagonals.min()), int(hits[first])) - _MARGIN_WORDS
        high = max(int(diagonals.max()) + length, int(hits[last]) + NGRAM_WORDS) + _MARGIN_WORDS
        yield document, text, max(low, int(starts[document])), min(high, int(starts[document + 1]))


def _match_text(
    index: NgramIndex, window: Ints, document: int, text: int, offset: int
) -> TextMatch | None:
    """Match of a text with a window that begins at word ``offset`` of its document."""
    from components.text.kernels.shared_runs import locate_words

    words = index.text_words(text)
    located = locate_words(words, window, NGRAM_WORDS)
    if located.max() < 0:
        return None
    weights = index.weights[words]
    information = float(weights[located >= 0].sum())
    return TextMatch(
        document,
        text,
        round(min(1.0, information / float(weights.sum())), 6),
        round(information, 6),
        _longest_run(located, index.sizes[words]),
        _name_form(located, weights),
        offset + int(located[located >= 0].min()),
        offset + int(located.max()) + 1,
    )


def _longest_run(located: Ints, sizes: NDArray[np.float64]) -> float:
    """Greatest sum of sizes of neighbours in the text that are neighbours in the window."""
    broken = np.append(True, (np.diff(located) != 1) | (located[1:] < 0))
    sums = np.bincount(np.cumsum(broken) - 1, np.where(located >= 0, sizes, 0))
    return float(sums.max())


def _name_form(located: Ints, weights: NDArray[np.float64]) -> Form:
    """Manner in which a text stands in a window, by where its words stand there."""
    from components.text.kernels.shared_runs import heaviest_in_order

    there = np.flatnonzero(located >= 0)
    positions = located[there]
    steps = np.diff(positions)
    if len(there) == len(located) and (steps == 1).all():
        return "verbatim"
    total, found = float(weights.sum()), float(weights[there].sum())
    if heaviest_in_order(positions, weights[there]) < (1 - _END_SHARE) * found:
        return "moved"
    ends = float(weights[: there[0]].sum()), float(weights[there[-1] + 1 :].sum())
    if max(ends) > _END_SHARE * total:
        return "part"
    if (steps - np.diff(there) > _FOREIGN_WORDS).any():
        return "interrupted"
    return "edited"
