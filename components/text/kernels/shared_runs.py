"""Runs of words that a text and a window of a document share, in any order and with gaps.

Seed and extend (Altschul et al. 1990, "Basic local alignment search tool"): n-grams in common say
which window holds most of a text; there every run of equal words along a diagonal counts, and is
extended over single words that differ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.text.kernels.compiled import compile_kernel

Positions = NDArray[np.int64]
Weights = NDArray[np.float64]
Windows = tuple[Positions, Weights]


@compile_kernel
def find_windows(
    groups: Positions,
    texts: Positions,
    hits: Positions,
    places: Positions,
    words: Positions,
    starts: Positions,
    weights: Weights,
    spans: Positions,
    width: int,
) -> Windows:
    """Window of each group of hits that holds the heaviest part of its text.

    Args:
        groups: [hits] text and document of each hit as one number; equal ones lie together.
        texts: [hits] number of its text.
        hits: [hits] word of the documents where an n-gram begins, ascending within a group.
        places: [hits] word of the text where it begins.
        words: words of all texts.
        starts: [texts + 1] where a text begins in ``words``.
        weights: [vocabulary] weight of a word.
        spans: [texts] longest window, in words.
        width: words of an n-gram.

    Returns:
        [groups, 2] first and last hit of the window, and [groups] weight of the words of the text
        that its n-grams hold.
    """
    longest = 0
    for text in range(len(starts) - 1):
        longest = max(longest, starts[text + 1] - starts[text])
    counts = np.zeros(longest + width, np.int64)
    windows = np.empty((len(groups), 2), np.int64)
    found = np.zeros(len(groups))
    rows = first = 0
    while first < len(groups):
        stop = first
        while stop < len(groups) and groups[stop] == groups[first]:
            stop += 1
        base, span = starts[texts[first]], spans[texts[first]]
        low, held, heaviest = first, 0.0, 0.0
        windows[rows, 0] = windows[rows, 1] = first
        for high in range(first, stop):
            while hits[high] + width - hits[low] > span:
                for place in range(places[low], places[low] + width):
                    counts[place] -= 1
                    if counts[place] == 0:
                        held -= weights[words[base + place]]
                low += 1
            for place in range(places[high], places[high] + width):
                if counts[place] == 0:
                    held += weights[words[base + place]]
                counts[place] += 1
            if held > heaviest + 1e-9:  # more than the rounding of sums
                heaviest, windows[rows, 0], windows[rows, 1] = held, low, high
        for hit in range(low, stop):
            counts[places[hit] : places[hit] + width] = 0
        found[rows] = heaviest
        rows += 1
        first = stop
    return windows[:rows], found[:rows]


@compile_kernel
def locate_words(text: Positions, window: Positions, least_run: int) -> Positions:
    """[words] where in the window each word of a text stands as part of a run; -1 where nowhere.

    A run is ``least_run`` equal words or more, with what follows or precedes it behind one word
    that differs. A word in several runs belongs to the longest; two words of the text never
    belong to one of the window, or "1 1 1" would hold a matrix of ones.

    Args:
        text: numbers of its words, none 0.
        window: numbers of the document's words, 0 for words of no text.
        least_run: words of the shortest run.
    """
    located = np.full(len(text), -1, np.int64)
    length = np.zeros(len(text), np.int64)
    for shift in range(least_run - len(text), len(window) - least_run + 1):
        at, end = max(0, -shift), min(len(text), len(window) - shift)
        lowest = at
        while at < end:
            begin = at
            while at < end and text[at] == window[at + shift]:
                at += 1
            run = at - begin
            if run < least_run:
                at += run == 0
                continue
            low, high = begin, at
            while low - 2 >= lowest and text[low - 2] == window[low - 2 + shift]:
                low -= 2
                while low - 1 >= lowest and text[low - 1] == window[low - 1 + shift]:
                    low -= 1
            while high + 1 < end and text[high + 1] == window[high + 1 + shift]:
                high += 2
                while high < end and text[high] == window[high + shift]:
                    high += 1
            for word in range(low, high):
                if text[word] == window[word + shift] and run > length[word]:
                    located[word], length[word] = word + shift, run
            lowest = at
    return _claim_once(located, length, len(window))


@compile_kernel
def _claim_once(located: Positions, length: Positions, width: int) -> Positions:
    """Leave each word of the window to the word of the text in the longest run."""
    owners = np.full(width, -1, np.int64)
    for word in range(len(located)):
        if located[word] < 0:
            continue
        owner = owners[located[word]]
        if owner < 0 or length[word] > length[owner]:
            owners[located[word]] = word
            if owner >= 0:
                located[owner] = -1
        else:
            located[word] = -1
    return located


@compile_kernel
def heaviest_in_order(located: Positions, weights: Weights) -> float:
    """Greatest weight of located words that stand in the text's order.

    Args:
        located: [words] where each stands; none negative.
        weights: [words]
    """
    best = np.zeros(len(located))
    heaviest = 0.0
    for word in range(len(located)):
        before = 0.0
        for earlier in range(word):
            if located[earlier] < located[word] and best[earlier] > before:
                before = best[earlier]
        best[word] = before + weights[word]
        heaviest = max(heaviest, best[word])
    return heaviest
