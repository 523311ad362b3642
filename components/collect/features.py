"""Numbers about text runs and the boxes around them, for the models that choose among them.

Shallow text features with their neighbours' (Kohlschütter et al., WSDM 2010), link density and
scored containers (Readability), siblings' consistency, and how the text agrees with what the page
says about itself (title, description, ``articleBody``). Runs of a box stand in a row, so that all
sums over boxes are differences of running sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.collect.blocks import CELL_PART, TABLE_PART, Blocks, Boxes, Ints
from components.collect.cues import COMMENT, CUE_CHARS, TALK, UNLIKELY, inner_patterns, text_cues

Matrix = NDArray[np.float32]
GOOD_CHARS = 80
"""A run with this much text and few links is likely a paragraph of something."""
OWN = (
    *("log_chars", "log_words", "link_share", "links", "strong_share", "word_length", "sentences"),
    *("commas", "ends", "starts_upper", "lower_share", "digit_share", "in_title", "title_share"),
    *("described", "repeated", "in_body", "has_body", "question"),
)

_TITLE = OWN.index("title_share")


@dataclass(frozen=True)
class Said:
    """What the page says about itself; empty where it says nothing."""

    title: str = ""
    description: str = ""
    body: str = ""
    """``articleBody`` of its structured data."""


@dataclass(frozen=True)
class Read:
    """A page's runs and boxes as columns."""

    blocks: Blocks
    own: Matrix
    text: Ints
    """Bits of ``TEXT_GROUPS``."""
    tags: Ints
    box: Ints
    chars: Ints
    linked: Ints
    unlikely: NDArray[np.bool_]
    """Runs in a part whose class says that it is not the text."""
    good: NDArray[np.bool_]
    repeats: Ints
    """How many boxes of the page look like the most repeated one around the run."""
    talk: NDArray[np.bool_]
    """Runs after the heading of the comments."""
    table: Ints
    """For every box, the outermost table of data around it; -1 where none is."""
    title_at: int
    """The run that is the page's title; -1 where none is."""
    parents: Ints
    first: Ints
    last: Ints
    """Of every box: its parent, its runs."""


def read_runs(blocks: Blocks, said: Said) -> Read:
    """All that does not depend on which box holds the text."""
    from components.text.kernels.boxes import inherited

    runs, boxes = blocks.runs, blocks.boxes
    first, last, chars = boxes.first, boxes.last, runs.chars
    linked = np.minimum(runs.linked, chars)
    total = running(chars)
    # A class of what holds most of the page says nothing about its parts.
    shares = (total[last] - total[first]) / total[-1]
    told = np.where(shares > 0.5, COMMENT, UNLIKELY)
    cued = inherited(boxes.parent, (shares < 0.9) & ((boxes.cues & told) > 0))
    unlikely = cued[runs.box]
    own = _own(blocks, said)
    text = _cues(blocks)
    talk = np.flatnonzero(((text & TALK) > 0) & (chars < 60) & (np.cumsum(chars) > 600))
    is_title = np.flatnonzero((own[:, _TITLE] > 0.6) & (own[:, _TITLE - 1] > 0.6))
    return Read(
        blocks,
        own,
        text,
        boxes.code[runs.box],
        runs.box,
        chars,
        linked,
        unlikely,
        (chars >= GOOD_CHARS) & (linked < 0.4 * chars) & ~unlikely,
        _repeats(boxes, total)[runs.box],
        np.arange(len(runs)) > (talk[0] if len(talk) else len(runs)),
        _tables(boxes),
        int(is_title[0]) if len(is_title) else -1,
        boxes.parent,
        first,
        last,
    )


def _cues(blocks: Blocks) -> Ints:
    """What each run's first words say; nothing for a paragraph."""
    lines, runs = blocks.lowered, blocks.runs
    found = np.zeros(len(runs), dtype=np.int64)
    short = np.flatnonzero(runs.chars <= CUE_CHARS)
    inner = inner_patterns("\n".join(lines))
    found[short] = [text_cues(lines[number], inner) for number in runs.number[short].tolist()]
    return found


def _repeats(boxes: Boxes, total: NDArray[np.float64]) -> Ints:
    """For every box: the count of the most frequent kind of box around it that holds some text.

    An article's paragraphs stand in one box; comments and teasers each have one of their own.
    """
    from components.text.kernels.boxes import repeats

    first, last = boxes.first, boxes.last
    counted = (last - first > 1) & (total[last] - total[first] >= GOOD_CHARS)
    found: Ints = repeats(boxes.parent, boxes.name, boxes.depth, counted)
    return found


def _tables(boxes: Boxes) -> Ints:
    """For every box, the table around it whose cells each hold one run; -1 where none does."""
    from components.text.kernels.boxes import tables

    is_table, is_cell = boxes.part == TABLE_PART, boxes.part == CELL_PART
    found: Ints = tables(boxes.parent, is_table, is_cell, boxes.last - boxes.first)
    return found


def running(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Sums before each place, and the sum of all."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def bits(masks: Ints, width: int) -> Matrix:
    """(masks, width) of zeros and ones."""
    return ((masks[:, None] >> np.arange(width)) & 1).astype(np.float32)


def _own(blocks: Blocks, said: Said) -> Matrix:
    """(runs, ``OWN``)."""
    from components.text.kernels.characters import classes
    from components.text.kernels.runtext import cases, describe_texts

    runs = blocks.runs
    counts = np.stack([runs.chars, runs.linked, runs.links, runs.strong])
    texts = [
        np.frombuffer(text.encode(errors="replace"), dtype=np.uint8)
        for text in (said.title, said.description, said.body)
    ]
    found: Matrix = describe_texts(
        blocks.text, runs.start, runs.stop, counts, classes(), *cases(), *texts
    )
    return found
