"""Which box of a page holds its text: every candidate described by numbers, for a model to score.

Readability (Arc90, 2009) adds up scores by fixed rules; here the same signs are weighed by a model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.collect.blocks import AROUND, Ints, tag_code
from components.collect.cues import CLASS_GROUPS
from components.collect.features import OWN, Matrix, Read, bits, running

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
    from components.text.kernels.boxes import outlines

    boxes = read.blocks.boxes
    around, cues = outlines(boxes.parent, boxes.around, boxes.cues, boxes.first, boxes.last)
    sums = _sums(read, picked)
    columns = [*_contents(read, picked, sums), *_position(read, picked, sums)]
    columns += _agreement(read, picked, sums)
    around, cues = bits(around[picked], len(AROUND)), bits(cues[picked], len(CLASS_GROUPS))
    table = np.empty((len(picked), len(columns)), dtype=np.float32)
    for index, column in enumerate(columns):
        table[:, index] = column
    return np.concatenate([table, around, cues], axis=1)


def _sums(read: Read, picked: Ints) -> dict[str, Values]:
    """Sums over the runs of each candidate: characters of some, or a count."""
    chars, own = read.chars, read.own
    counted = {"good_runs": read.good, "sentences": own[:, OWN.index("sentences")]}
    counted["heading"] = (read.tags >= tag_code("h1")) & (read.tags <= tag_code("h6"))
    counted["described"] = own[:, OWN.index("described")]
    of = {"good": read.good, "unlikely": read.unlikely, "talk": read.talk}
    of |= {"p": read.tags == tag_code("p"), "cued": read.text > 0, "short": chars < 30}
    of |= {name: own[:, OWN.index(name)] > 0 for name in ("in_body", "repeated")}
    of["repeats"] = read.repeats > 2
    rows = np.zeros((2 + len(of) + len(counted), len(chars) + 1))
    rows[0, 1:], rows[1, 1:] = chars, read.linked
    for index, where in enumerate(of.values(), 2):
        rows[index, 1:] = where
    rows[2 : 2 + len(of), 1:] *= chars
    for index, values in enumerate(counted.values(), 2 + len(of)):
        rows[index, 1:] = values
    total = np.cumsum(rows, axis=1)
    found = (total[:, read.last[picked]] - total[:, read.first[picked]]).astype(np.float32)
    return dict(zip(("size", "linked", *of, *counted), found, strict=True))


def _contents(read: Read, picked: Ints, sums: dict[str, Values]) -> list[Values]:
    """How much of what is in each candidate."""
    runs, size, good = read.last[picked] - read.first[picked], sums["size"], sums["good"]
    return [
        np.log1p(size),
        size / float(read.chars.sum()),
        sums["linked"] / size,
        good / (float(read.chars[read.good].sum()) or 1.0),
        good / size,
        sums["unlikely"] / size,
        sums["unlikely"] == size,
        np.log1p(runs),
        np.log1p(sums["good_runs"]),
        sums["p"] / size,
        sums["sentences"] / size * 100,
        np.log1p(size / runs),
    ]


def _position(read: Read, picked: Ints, sums: dict[str, Values]) -> list[Values]:
    """Where each candidate stands, seen from the page's ends, its first h1 and its title."""
    first, last = read.first[picked], read.last[picked]
    h1 = np.flatnonzero(read.tags == tag_code("h1"))
    h1_at, title_at = (int(h1[0]) if len(h1) else -1), read.title_at
    absent = np.full(len(picked), -9)
    return [
        first / len(read.chars),
        last / len(read.chars),
        np.minimum(read.blocks.boxes.depth[picked], 40),
        sums["heading"] / (last - first),
        (first <= h1_at) & (h1_at < last),
        np.clip(first - h1_at, -5, 30) if h1_at >= 0 else absent,
        (first <= title_at) & (title_at < last),
        np.clip(first - title_at, -5, 30) if title_at >= 0 else absent,
    ]


def _agreement(read: Read, picked: Ints, sums: dict[str, Values]) -> list[Values]:
    """What the page says of itself, and how each candidate's parts are alike."""
    first, last, size = read.first, read.last, sums["size"]
    most = np.maximum(sums["good"], 1)
    goods = np.where(read.good, read.chars, 0)
    before, total = running(goods), running(read.chars)
    # The part of a box's good text that its fullest child has: near one, that child is the box.
    children = np.zeros(len(first))
    np.maximum.at(children, read.parents[1:], (before[last] - before[first])[1:])
    above = np.maximum(read.parents[read.box], 0)
    direct = np.bincount(above, weights=goods, minlength=len(first))
    outer = np.maximum(read.parents[picked], 0)
    alike = read.blocks.boxes.name[picked]
    ends = np.stack([first[picked], last[picked]], axis=1).ravel()
    repeats = np.minimum.reduceat(np.append(read.repeats, 0), ends)[::2]
    return [
        sums["described"] > 0,
        sums["in_body"] / size,
        np.full(len(picked), read.own[0, OWN.index("has_body")]),
        children[picked] / most,
        direct[picked] / most,
        sums["cued"] / size,
        sums["short"] / size,
        sums["repeated"] / size,
        size / np.maximum(total[last[outer]] - total[first[outer]], 1),
        (alike[:, None] == alike).sum(axis=1),
        np.minimum(repeats, 30),
        sums["repeats"] / size,
        read.talk[first[picked]],
        sums["talk"] / size,
    ]
