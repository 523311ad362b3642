"""Which runs inside the box that holds a page's text are text: their numbers, for a model to score.

What stands around a run counts from the box down, so that the names of the frame around it say
nothing; its neighbours count as they do in Kohlschütter et al. (WSDM 2010).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.collect.blocks import AROUND, TAGS, Ints, tag_code
from components.collect.cues import CLASS_GROUPS, TEXT_GROUPS
from components.collect.features import OWN, Matrix, Read, bits, running

PLACE = (
    *("order", "from_first", "to_last", "text_before", "text_after", "first_good", "last_good"),
    *("before", "after", "since_heading", "to_heading", "depth", "direct", "same_box", "same_name"),
    *("same_names", "up1_share", "up1_link", "up1_runs", "up2_share", "up2_link", "up2_runs"),
    *("branch_share", "branch_link", "branch_good", "branch_runs", "size", "runs", "page_share"),
    *("good_share", "p_share", "since_title", "repeats", "repeats_more", "talk"),
)
_BESIDE = (
    "log_chars",
    "link_share",
    "ends",
    "strong_share",
    "is_p",
    "is_heading",
    "good",
    "same_box",
)
_STEPS = (-1, 1, -2, 2, -3, 3)


def names() -> list[str]:
    own = [*OWN, *(f"text_{name}" for name in TEXT_GROUPS), *(f"tag_{t}" for t in (*TAGS, "other"))]
    around = [*(f"around_{t}" for t in AROUND), *(f"near_{g}" for g in CLASS_GROUPS)]
    far = [f"far_{g}" for g in CLASS_GROUPS]
    beside = [f"beside{step:+}_{name}" for step in _STEPS for name in _BESIDE]
    texts = [f"text{step:+}_any" for step in (-1, 1)]
    return [*own, *PLACE, *around, *far, *beside, *texts]


def describe_runs(read: Read, root: int) -> Matrix:
    """(runs of ``root``, columns)."""
    begin, end = int(read.first[root]), int(read.last[root])
    own, codes = read.own[begin:end], read.tags[begin:end]
    text = bits(read.text[begin:end], len(TEXT_GROUPS))
    around, near, far, branch = _context(read, root)
    tags = (codes[:, None] == np.arange(len(TAGS) + 1)).astype(np.float32)
    beside = _beside(read, begin, end)
    said = (read.text[begin:end] > 0).astype(np.float32)
    texts = np.stack([np.r_[0, said[:-1]], np.r_[said[1:], 0]], axis=1).astype(np.float32)
    return np.concatenate(
        [
            *(own, text, tags, _place(read, root, branch), bits(around, len(AROUND))),
            *(bits(near, len(CLASS_GROUPS)), bits(far, len(CLASS_GROUPS)), beside, texts),
        ],
        axis=1,
    )


def _context(read: Read, root: int) -> Ints:
    """[4, runs of ``root``]: what ``context`` says of each run's box."""
    from components.text.kernels.boxes import context

    boxes = read.blocks.boxes
    below = context(boxes.parent, boxes.around, boxes.cues, root)
    found: Ints = below[:, read.box[read.first[root] : read.last[root]]]
    return found


def _place(read: Read, root: int, branch: Ints) -> Matrix:
    """Where each run stands in ``root``."""
    columns = [*_order(read, root), *_boxes(read, root, branch), *_whole(read, root)]
    found = np.empty((len(branch), len(columns)), dtype=np.float32)
    for index, column in enumerate(columns):
        found[:, index] = column
    return found


def _order(read: Read, root: int) -> list[NDArray[Any]]:
    """What comes before and after."""
    begin, end = int(read.first[root]), int(read.last[root])
    chars, good, codes = read.chars[begin:end], read.good[begin:end], read.tags[begin:end]
    count, whole = end - begin, float(chars.sum())
    order = np.arange(count)
    before = np.cumsum(chars, dtype=np.float64) - chars
    mains = np.flatnonzero(good)
    first, last = (int(mains[0]), int(mains[-1])) if len(mains) else (0, count - 1)
    heading = (codes >= tag_code("h1")) & (codes <= tag_code("h6"))
    since = order - np.maximum.accumulate(np.where(heading, order, -50))
    ahead = np.minimum.accumulate(np.where(heading, order, count + 50)[::-1])[::-1] - order
    return [
        order / count,
        np.minimum(order, 30),
        np.minimum(count - 1 - order, 30),
        before / whole,
        1 - (before + chars) / whole,
        np.clip(order - first, -10, 10),
        np.clip(order - last, -10, 10),
        order < first,
        order > last,
        np.minimum(since, 30),
        np.minimum(ahead, 30),
    ]


def _boxes(read: Read, root: int, branch: Ints) -> list[NDArray[Any]]:
    """The boxes around each run, up to the child of ``root`` that it stands in."""
    begin, end = int(read.first[root]), int(read.last[root])
    boxes, own_box = read.blocks.boxes, read.box[begin:end]
    size, linked = running(read.chars), running(read.linked)
    good = running(np.where(read.good, read.chars, 0))
    whole = float(size[end] - size[begin])
    up1 = np.maximum(read.parents[own_box], root)
    up2 = np.maximum(read.parents[up1], root)
    depth = boxes.depth[own_box] - boxes.depth[root]

    def of(box: Ints, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = sums[read.last[box]] - sums[read.first[box]]
        return found

    columns = [np.minimum(depth, 12), up1 == root, *_kinship(read, begin, end)]
    for box in (up1, up2, branch):
        columns += [of(box, size) / whole, of(box, linked) / of(box, size)]
        if box is branch:
            columns.append(of(box, good) / of(box, size))
        columns.append(np.log1p(read.last[box] - read.first[box]))
    return columns


def _whole(read: Read, root: int) -> list[NDArray[Any]]:
    """What ``root`` is like; where the title and the comments are."""
    begin, end = int(read.first[root]), int(read.last[root])
    chars, good = read.chars[begin:end], read.good[begin:end]
    count, whole = end - begin, float(chars.sum())
    repeats = np.minimum(read.repeats[begin:end], 30)
    title = begin - read.title_at if read.title_at >= 0 else -40
    shares = (
        np.log1p(whole),
        np.log1p(count),
        whole / float(read.chars.sum()),
        float(chars[good].sum()) / whole,
        float(chars[read.tags[begin:end] == tag_code("p")].sum()) / whole,
    )
    return [
        *(np.full(count, value) for value in shares),
        np.clip(np.arange(count) + title, -10, 40),
        repeats,
        repeats / repeats[good].min() if good.any() else repeats,
        read.talk[begin:end],
    ]


def _kinship(read: Read, begin: int, end: int) -> NDArray[np.float64]:
    """The share of the unlinked text in runs that stand like this one, three ways."""
    from components.text.kernels.boxes import kinship

    boxes, plain = read.blocks.boxes, (read.chars - read.linked)[begin:end]
    shares: NDArray[np.float64] = kinship(
        read.box[begin:end], boxes.parent, boxes.tag, boxes.name, plain
    )
    return shares


def _beside(read: Read, begin: int, end: int) -> Matrix:
    """The neighbours' main numbers; zeros past the box's ends."""
    count = end - begin
    codes, own = read.tags[begin:end], read.own[begin:end]
    parents = read.parents[read.box[begin:end]]
    heading = (codes >= tag_code("h1")) & (codes <= tag_code("h6"))
    picked: list[NDArray[Any]] = [
        own[:, OWN.index(name)] for name in ("log_chars", "link_share", "ends", "strong_share")
    ]
    picked += [codes == tag_code("p"), heading, read.good[begin:end]]
    # Past the ends there is nothing, in no box.
    most = max(map(abs, _STEPS))
    numbers = np.zeros((count + 2 * most, len(picked)), dtype=np.float32)
    around = np.full(count + 2 * most, -2)
    around[most : most + count] = parents
    for column, values in enumerate(picked):
        numbers[most : most + count, column] = values
    found = np.empty((count, len(_STEPS), len(_BESIDE)), dtype=np.float32)
    for index, step in enumerate(_STEPS):
        at = slice(most + step, most + step + count)
        found[:, index, :-1] = numbers[at]
        found[:, index, -1] = around[at] == parents
    return found.reshape(count, -1)
