"""Numbers about text runs and the boxes around them, for the models that choose among them.

Shallow text features with their neighbours' (Kohlschütter et al., WSDM 2010), link density and
scored containers (Readability), siblings' consistency, and how the text agrees with what the page
says about itself (title, description, ``articleBody``). Runs of a box stand in a row, so that all
sums over boxes are differences of running sums.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.collect.blocks import Blocks, Run, tag_code
from components.collect.cues import COMMENT, TALK, UNLIKELY, text_cues

Matrix = NDArray[np.float32]
Ints = NDArray[np.int64]
GOOD_CHARS = 80
"""A run with this much text and few links is likely a paragraph of something."""
_WORD = re.compile(r"\w+")
_MARKS = re.compile(r"[.!?。！？…](?=[\s\"'”’»)\]]|$)|[。！？]")
_COMMAS = re.compile(r"[,;:،、，]")
_ENDS = re.compile(r"[.!?。！？…:][\"'”’»)\]]*$")
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
    runs, boxes = blocks.runs, blocks.boxes
    first = np.array([box.first for box in boxes])
    last = np.array([box.last for box in boxes])
    own_box = np.array([run.box for run in runs])
    chars = np.array([run.chars for run in runs])
    linked = np.minimum(np.array([run.linked for run in runs]), chars)
    total = running(chars)
    sizes = total[last] - total[first]
    # A class of what holds most of the page says nothing about its parts.
    shares = (sizes / total[-1]).tolist()
    cued: list[bool] = []
    for box, share in zip(boxes, shares, strict=True):
        above = cued[box.parent] if box.parent >= 0 else False
        told = COMMENT if share > 0.5 else UNLIKELY
        cued.append(above or (share < 0.9 and bool(box.cues & told)))
    unlikely = np.array(cued)[own_box]
    own = _own(runs, said)
    text = np.array([text_cues(run.text) for run in runs])
    talk = np.flatnonzero(((text & TALK) > 0) & (chars < 60) & (np.cumsum(chars) > 600))
    is_title = np.flatnonzero((own[:, _TITLE] > 0.6) & (own[:, _TITLE - 1] > 0.6))
    return Read(
        blocks,
        own,
        text,
        np.array([tag_code(boxes[run.box].tag) for run in runs]),
        own_box,
        chars,
        linked,
        unlikely,
        (chars >= GOOD_CHARS) & (linked < 0.4 * chars) & ~unlikely,
        _repeats(blocks, chars)[own_box],
        np.arange(len(runs)) > (talk[0] if len(talk) else len(runs)),
        _tables(blocks),
        int(is_title[0]) if len(is_title) else -1,
        np.array([box.parent for box in boxes]),
        first,
        last,
    )


def _repeats(blocks: Blocks, chars: Ints) -> Ints:
    """For every box: the count of the most frequent kind of box around it that holds some text.

    An article's paragraphs stand in one box; comments and teasers each have one of their own.
    """
    total = running(chars).tolist()
    boxes = blocks.boxes
    counted = [
        box.last - box.first > 1 and total[box.last] - total[box.first] >= GOOD_CHARS
        for box in boxes
    ]
    counts = Counter(
        (box.name, box.depth) for box, is_counted in zip(boxes, counted, strict=True) if is_counted
    )
    found: list[int] = []
    for box, is_counted in zip(boxes, counted, strict=True):
        above = found[box.parent] if box.parent >= 0 else 1
        found.append(max(above, counts[box.name, box.depth]) if is_counted else above)
    return np.array(found)


def _tables(blocks: Blocks) -> Ints:
    """For every box, the table around it whose cells each hold one run; -1 where none does."""
    cells: Counter[int] = Counter()
    found: list[int] = []
    layout: set[int] = set()
    for index, box in enumerate(blocks.boxes):
        above = found[box.parent] if box.parent >= 0 else -1
        if above < 0 and box.tag == "table":
            above = index
        if box.tag in ("td", "th") and above >= 0:
            cells[above] += 1
            if box.last - box.first > 2:
                layout.add(above)
        found.append(above)
    return np.array([-1 if at in layout or cells[at] < 4 else at for at in found])


def running(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Sums before each place, and the sum of all."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def bits(masks: Ints, width: int) -> Matrix:
    """(masks, width) of zeros and ones."""
    return ((masks[:, None] >> np.arange(width)) & 1).astype(np.float32)


def _own(runs: list[Run], said: Said) -> Matrix:
    """(runs, ``OWN``)."""
    title = set(_WORD.findall(said.title.lower()))
    body, description = folded(said.body), folded(said.description)
    seen: set[str] = set()
    rows = []
    for run in runs:
        text, chars = run.text, run.chars
        words = _WORD.findall(text)
        count = len(words) or 1
        lowered = text.lower()
        among = sum(word in title for word in _WORD.findall(lowered)) if title and count < 40 else 0
        plain = folded(text) if (body or description) and count > 1 else ""
        rows.append(
            (
                np.log1p(chars),
                np.log1p(len(words)),
                min(run.linked / chars, 1.0),
                min(run.links, 20),
                min(run.strong / chars, 1.0),
                min(chars / count, 20.0),
                min(len(_MARKS.findall(text)), 12),
                min(len(_COMMAS.findall(text)), 20),
                _ENDS.search(text[-8:]) is not None,
                text[0].isupper(),
                sum(map(str.islower, words)) / count,
                sum(map(str.isdecimal, words)) / count,
                among / count,
                among / (len(title) or 1),
                bool(description) and len(words) > 3 and plain[:60] in description,
                lowered in seen,
                bool(body) and bool(plain) and (plain in body or plain[:80] in body),
                bool(body),
                text.endswith("?"),
            )
        )
        seen.add(lowered)
    return np.array(rows, dtype=np.float32)


def folded(text: str) -> str:
    """Letters and digits alone."""
    return "".join(_WORD.findall(text.lower()))
