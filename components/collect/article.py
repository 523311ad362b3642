"""The text of an article, found by two small models: one picks the box, one its runs.

Every box with enough text is scored (``root``), then every run inside the best one (``keep``). What
is not kept is emptied in the tree, so that what is left keeps its headings, lists and tables. The
models are trees learnt from pages with known text (``fit``); their columns name no site.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.collect.blocks import Blocks, Ints, Runs, read_blocks, tag_code, without_asides
from components.collect.dom import Element
from components.collect.features import Matrix, Read, Said, read_runs
from components.collect.keep import describe_runs
from components.collect.root import candidates, describe_boxes
from components.collect.trees import Trees

WEIGHTS = Path(__file__).with_name("article.json")
WEIGHTS_SHA256 = "fa9e704bb13586dd32a4c776f776fadb8474d2b91e1fa0a094ff8fd8492bc666"
"""Named here, so that other weights are other code and the stage runs again."""
KEEP_AT = 0.4
"""A run as likely as this to be text is kept; the better of 0.4 and 0.5 over folds by site."""


@dataclass(frozen=True)
class Model:
    """What ``fit`` learns."""

    roots: Trees
    keep: Trees

    def choose(self, read: Read) -> tuple[int, NDArray[np.bool_]]:
        """(the box that holds the text, which of the page's runs are kept)."""
        picked = candidates(read)
        scores = self.roots.score(describe_boxes(read, picked))
        root = int(picked[int(scores.argmax())])
        logits = self.keep.score(run_table(read, root, picked, scores))
        begin, end = int(read.first[root]), int(read.last[root])
        kept = np.zeros(len(read.chars), dtype=bool)
        kept[begin:end] = _as_tables(read, begin, end, logits) > np.log(KEEP_AT / (1 - KEEP_AT))
        return root, kept


def run_table(read: Read, root: int, picked: Ints, scores: NDArray[np.float64]) -> Matrix:
    """``describe_runs`` and, for every run, how good the smallest candidate around it is."""
    begin, end = int(read.first[root]), int(read.last[root])
    inner = np.full(end - begin, -1.0, dtype=np.float32)
    sizes = read.last[picked] - read.first[picked]
    for index in np.argsort(-sizes, kind="stable"):
        first, last = int(read.first[picked[index]]), int(read.last[picked[index]])
        inner[max(first - begin, 0) : max(last - begin, 0)] = scores[index]
    best = np.full(end - begin, scores.max(), dtype=np.float32)
    return np.concatenate([describe_runs(read, root), np.stack([inner, best], axis=1)], axis=1)


def _as_tables(
    read: Read, begin: int, end: int, logits: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Rows of a table stand or fall together: half a table says something false."""
    owners = read.table[read.box[begin:end]]
    for owner in np.unique(owners[owners >= 0]):
        inside = owners == owner
        logits[inside] = np.average(logits[inside], weights=read.chars[begin:end][inside])
    return logits


@cache
def shipped() -> Model:
    """The model beside this file.

    Raises:
        ValueError: the file is not the one this code names.
    """
    raw = WEIGHTS.read_bytes()
    if hashlib.sha256(raw).hexdigest() != WEIGHTS_SHA256:
        raise ValueError(f"{WEIGHTS.name}: not the weights that {Path(__file__).name} names")
    told = json.loads(raw)
    return Model(Trees.of_json(told["roots"]), Trees.of_json(told["keep"]))


def read_page(body: Element, said: Said) -> Read | None:
    """The page's runs; None where it shows no text."""
    blocks = without_asides(read_blocks(body))
    return read_runs(blocks, said) if len(blocks.runs) else None


_APART = ("|", "-", "–", "—", "·", "•", "»", "::")
"""What stands between a page's own title and its site's name."""


@dataclass(frozen=True)
class Found:
    """An article's place in its page."""

    box: int
    chars: int
    """Of its text."""
    seen: int
    """Characters of all text but menus, footers and comments."""
    blocks: Blocks
    kept: Runs
    dropped: Runs

    def cut(self) -> Element:
        """The element, with all that is no text emptied: changes the tree."""
        element = self.blocks.cut(self.box, self.kept)
        _unveil(element)
        return element

    def headline(self, title: str) -> str:
        """The page's first ``h1`` that stands before the text and is no part of it; else empty.

        Not the site's name: a link as a whole, which leads home, or the end of the page's
        ``title``, as in "Old bridge to close | The Paper".
        """
        code = self.blocks.boxes.code
        if (code[self.kept.box] == tag_code("h1")).any():
            return ""
        runs = self.dropped
        is_before = (runs.number < self.kept.number[0]) & (runs.linked < runs.chars)
        found = self.blocks.texts(runs.where((code[runs.box] == tag_code("h1")) & is_before))
        lines = (" ".join(text.split()) for text in found)
        return next((line for line in lines if not _is_site(line, title)), "")

    def left_out(self) -> str:
        """What is no text, a run a line."""
        runs = (self.dropped, self.blocks.asides)
        return "\n".join(text for some in runs for text in self.blocks.texts(some))


def _is_site(line: str, title: str) -> bool:
    """Whether a page's title ends in ``line``, set apart from more than as much again."""
    rest = title.casefold().removesuffix(line.casefold()).rstrip()
    return len(rest) > len(line) and len(rest) < len(title) and rest.endswith(_APART)


def find_article(
    body: Element, said: Said, model: Model | None = None, *, whole: bool = False
) -> Found | None:
    """The element that holds the text; None where nothing is kept.

    With ``whole`` everything in the element stays but menus and the like.
    """
    read = read_page(body, said)
    if read is None:
        return None
    root, kept = (model or shipped()).choose(read)
    if whole:
        kept[int(read.first[root]) : int(read.last[root])] = True
    if not kept.any():
        return None
    chars, seen = int(read.chars[kept].sum()), int(read.chars.sum())
    blocks = read.blocks
    runs = blocks.runs
    return Found(root, chars, seen, blocks, runs.where(kept), runs.where(~kept))


_VEILS = frozenset({"hidden", "style", "aria-hidden", "role"})


def _unveil(element: Element) -> None:
    """What is left is text wherever it stands: no aside, and shown."""
    for inner in element.iter("aside", "footer", "nav", "menu", "form", "dialog"):
        inner.tag = "div"
    for inner in element.iter():
        attributes = inner.attrib
        if attributes:
            for name in _VEILS.intersection(attributes):
                del attributes[name]
