"""Which box of a page holds its text: every candidate described by numbers, for a model to score.

Readability (Arc90, 2009) adds up scores by fixed rules; here the same signs are weighed by a model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.collect.blocks import AROUND, around_bit, tag_code
from components.collect.cues import CLASS_GROUPS
from components.collect.features import OWN, Ints, Matrix, Read, bits, running

Values = NDArray[Any]
COLUMNS = (
    *("log_chars", "share", "link_share", "good_share", "good_of_own", "unlikely_share"),
    *("unlikely_self", "runs", "good_runs", "p_share", "sentences", "per_run", "start", "end"),
    *("depth", "heading", "h1_inside", "h1_before", "title_inside", "title_before", "described"),
    *("in_body", "has_body", "best_child", "direct_share", "comment_share", "short_share"),
    *("repeated", "parent_share", "same_name", "repeats", "repeated_boxes", "talk", "talk_share"),
)


def names() -> list[str]:
    return [*COLUMNS, *(f"around_{t}" for t in AROUND), *(f"own_{g}" for g in CLASS_GROUPS)]


def candidates(read: Read) -> Ints:
    """Boxes that may be it, the outermost of those with the same runs."""
    good = running(np.where(read.good, read.chars, 0))
    if not good[-1]:
        good = running(read.chars)
    inside = good[read.last] - good[read.first]
    picked = np.flatnonzero(inside >= 0.04 * good[-1])
    _, unique = np.unique(read.first[picked] * 100_003 + read.last[picked], return_index=True)
    return np.sort(picked[unique])


def describe_boxes(read: Read, picked: Ints) -> Matrix:
    """(candidates, columns)."""
    around = np.array([_around(read, index) for index in picked.tolist()])
    cues = np.array([_cues(read, index) for index in picked.tolist()])
    columns = [*_contents(read, picked), *_position(read, picked), *_agreement(read, picked)]
    table = np.stack([np.asarray(column, dtype=np.float32) for column in columns], axis=1)
    return np.concatenate([table, bits(around, len(AROUND)), bits(cues, len(CLASS_GROUPS))], axis=1)


def _within(read: Read, picked: Ints, values: Values) -> Values:
    """The sum of the runs' values in each candidate."""
    sums = running(values)
    return (sums[read.last[picked]] - sums[read.first[picked]]).astype(np.float32)


def _good(read: Read) -> Values:
    return np.where(read.good, read.chars, 0)


def _contents(read: Read, picked: Ints) -> list[Values]:
    """How much of what is in each candidate."""
    chars, runs = read.chars, read.last[picked] - read.first[picked]
    size, good = _within(read, picked, chars), _within(read, picked, _good(read))
    spans = _spans(read, picked)
    paragraphs = np.where(read.tags == tag_code("p"), chars, 0)
    sentences = read.own[:, OWN.index("sentences")]
    return [
        np.log1p(size),
        size / float(chars.sum()),
        _within(read, picked, read.linked) / size,
        good / (float(_good(read).sum()) or 1.0),
        good / size,
        _within(read, picked, np.where(read.unlikely, chars, 0)) / size,
        np.array([read.unlikely[first:last].all() for first, last in spans]),
        np.log1p(runs),
        np.log1p(_within(read, picked, read.good)),
        _within(read, picked, paragraphs) / size,
        _within(read, picked, sentences) / size * 100,
        np.log1p(size / runs),
    ]


def _spans(read: Read, picked: Ints) -> list[tuple[int, int]]:
    return list(zip(read.first[picked].tolist(), read.last[picked].tolist(), strict=True))


def _position(read: Read, picked: Ints) -> list[Values]:
    """Where each candidate stands, seen from the page's ends, its first h1 and its title."""
    first, last = read.first[picked], read.last[picked]
    h1 = np.flatnonzero(read.tags == tag_code("h1"))
    h1_at, title_at = (int(h1[0]) if len(h1) else -1), read.title_at
    depths = [read.blocks.boxes[index].depth for index in picked.tolist()]
    heading = (read.tags >= tag_code("h1")) & (read.tags <= tag_code("h6"))
    absent = np.full(len(picked), -9)
    return [
        first / len(read.chars),
        last / len(read.chars),
        np.minimum(depths, 40),
        _within(read, picked, heading) / (last - first),
        (first <= h1_at) & (h1_at < last),
        np.clip(first - h1_at, -5, 30) if h1_at >= 0 else absent,
        (first <= title_at) & (title_at < last),
        np.clip(first - title_at, -5, 30) if title_at >= 0 else absent,
    ]


def _agreement(read: Read, picked: Ints) -> list[Values]:
    """What the page says of itself, and how each candidate's parts are alike."""
    own = {name: read.own[:, column] for column, name in enumerate(OWN)}
    first, last, chars = read.first, read.last, read.chars
    size, good = _within(read, picked, chars), _within(read, picked, _good(read))
    before, total = running(_good(read)), running(chars)
    # The part of a box's good text that its fullest child has: near one, that child is the box.
    children = np.zeros(len(first))
    np.maximum.at(children, read.parents[1:], (before[last] - before[first])[1:])
    above = np.maximum(read.parents[read.box], 0)
    direct = np.bincount(above, weights=_good(read), minlength=len(first))
    outer = np.maximum(read.parents[picked], 0)
    alike = [read.blocks.boxes[index].name for index in picked.tolist()]
    repeats = [min(int(read.repeats[begin:end].min()), 30) for begin, end in _spans(read, picked)]

    def share(of: Values) -> Values:
        return _within(read, picked, np.where(of, chars, 0)) / size

    return [
        _within(read, picked, own["described"]) > 0,
        share(own["in_body"] > 0),
        np.full(len(picked), own["has_body"][0]),
        children[picked] / np.maximum(good, 1),
        direct[picked] / np.maximum(good, 1),
        share(read.text > 0),
        share(chars < 30),
        share(own["repeated"] > 0),
        size / np.maximum(total[last[outer]] - total[first[outer]], 1),
        np.array([alike.count(name) for name in alike]),
        np.array(repeats),
        share(read.repeats > 2),
        read.talk[first[picked]],
        share(read.talk),
    ]


def _around(read: Read, index: int) -> int:
    boxes, found = read.blocks.boxes, 0
    while index > 0:
        found |= around_bit(boxes[index].tag)
        index = boxes[index].parent
    return found


def _cues(read: Read, index: int) -> int:
    """Of the box and of boxes in and around it with the same runs."""
    boxes = read.blocks.boxes
    found, at = boxes[index].cues, index + 1
    while at < len(boxes) and (boxes[at].first, boxes[at].last) == (
        boxes[index].first,
        boxes[index].last,
    ):
        found |= boxes[at].cues
        at += 1
    return found
