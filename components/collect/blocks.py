"""A page as a flat list of text runs, with what stands around each.

A run is text that a reader sees as one block: inline content between two block boundaries, as in
the block fusion of Kohlschütter et al., "Boilerplate detection using shallow text features" (WSDM
2010). It remembers the places in the tree that its text came from, so that dropping a run means
emptying these places and everything else keeps its structure.

libxml2 writes the tree out and a kernel reads the bytes: walking it in Python took five times that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from lxml import etree
from numpy.typing import NDArray

from components.collect.cues import COMMENT, class_cues, class_words
from components.collect.dom import Element

if TYPE_CHECKING:
    from components.text.kernels.classwords import Names

Ints = NDArray[np.int64]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


INLINE = _words(
    "a abbr acronym b bdi bdo big br cite code data del dfn em font i img ins kbd label mark "
    "nobr q s samp small span strike strong sub sup time tt u var wbr"
)
UNREAD = _words(
    "audio button canvas datalist embed head iframe img input link map math meta noscript "
    "object option progress script select source style svg template textarea title track "
    "video"
)
"""Elements whose content is no text of the page."""
_STRONG = frozenset({"b", "strong", "em", "i"})
TAGS = (
    *("p", "li", "h1", "h2", "h3", "h4", "h5", "h6", "td", "th", "blockquote", "figcaption"),
    *("pre", "dt", "dd", "div", "caption", "section", "article", "header", "footer", "address"),
)
AROUND = (
    *("article", "main", "nav", "header", "footer", "aside", "form", "table", "ul", "ol"),
    *("blockquote", "figure", "section", "dl", "li", "figcaption", "h1", "h2", "h3", "h4"),
)
_TAG_CODE = {tag: code for code, tag in enumerate(TAGS)}
_AROUND_BIT = {tag: 1 << bit for bit, tag in enumerate(AROUND)}


@dataclass(frozen=True)
class Boxes:
    """Block elements in the document's order, as columns."""

    parent: Ints
    """Index of the block element around it; -1 for the root."""
    tag: Ints
    """A hash: what has the same tag shares it."""
    name: Ints
    """Of tag and class: what looks alike shares it."""
    code: Ints
    """The tag's place in ``TAGS``; one past the end for any other."""
    around: Ints
    """A bit for a tag of ``AROUND``; none for any other."""
    part: Ints
    """``ASIDE_PART``, ``TABLE_PART``, ``CELL_PART`` or none of them."""
    cues: Ints
    depth: Ints
    first: Ints
    """Runs ``first`` to ``last`` (left out) stand in it."""
    last: Ints
    at: Ints
    """Which of the page's elements it is."""


@dataclass(frozen=True)
class Runs:
    """Text between two block boundaries, as columns."""

    box: Ints
    chars: Ints
    linked: Ints
    links: Ints
    strong: Ints
    start: Ints
    stop: Ints
    """Bytes of ``Blocks.text``."""
    number: Ints
    """Which of the page's runs it is."""

    def __len__(self) -> int:
        return len(self.box)

    def where(self, picked: NDArray[np.bool_]) -> Runs:
        """Some of them."""
        return Runs(*(column[picked] for column in vars(self).values()))


@dataclass(frozen=True)
class Blocks:
    """All runs and boxes of a page."""

    boxes: Boxes
    runs: Runs
    asides: Runs
    """Runs that were taken out before anything was weighed."""
    text: NDArray[np.uint8]
    """UTF-8 of all runs, a line each."""
    pieces: Ints
    """[2, n]: where text stands (its element's number * 2, one more after it), and its run."""
    body: Element

    @cached_property
    def lines(self) -> list[str]:
        """The text of every run of the page."""
        return self.text.tobytes().decode().split("\n")

    @cached_property
    def lowered(self) -> list[str]:
        """The same in lower case."""
        return self.text.tobytes().decode().lower().split("\n")

    def texts(self, runs: Runs) -> list[str]:
        lines = self.lines
        return [lines[number] for number in runs.number.tolist()]

    def cut(self, box: int, kept: Runs) -> Element:
        """The box in the tree, all text but that of some runs taken out of it."""
        from components.text.kernels.boxes import inherited

        at = int(self.boxes.at[box])
        found: Element = next(islice(self.body.iter(), at, None))
        elements = list(found.iter())
        bare = self._bare(box, kept)
        # What text is left in the tree: kept, or in a part that goes as a whole.
        left = np.zeros(len(self.lines), dtype=bool)
        left[kept.number] = True
        gone = inherited(self.boxes.parent, bare)
        for runs in (self.runs, self.asides):
            left[runs.number] |= gone[runs.box]
        # Text stands in an element or, one number higher, after it.
        begin, end = 2 * at, 2 * (at + len(elements))
        places, owners = self.pieces
        inside = ~left[owners] & (places >= begin) & (places < end) & (places != begin + 1)
        for place in (places[inside] - begin).tolist():
            if place & 1:
                elements[place >> 1].tail = " "
            else:
                elements[place >> 1].text = None
        for number in (self.boxes.at[bare] - at).tolist():
            # It stays, empty, since what stands before and after it are two paragraphs.
            elements[number].clear(keep_tail=True)
        return found

    def _bare(self, box: int, kept: Runs) -> NDArray[np.bool_]:
        """Boxes in ``box`` that hold nothing kept, each in one that does; in tables none."""
        from components.text.kernels.boxes import inherited

        boxes, runs = self.boxes, self.runs
        stays = np.zeros(len(self.lines), dtype=np.int64)
        stays[kept.number] = 1
        sums = np.concatenate([[0], np.cumsum(stays[runs.number])])
        holds = sums[boxes.last] > sums[boxes.first]
        tabled = inherited(boxes.parent, boxes.part == TABLE_PART)
        below = np.zeros(len(holds), dtype=bool)
        below[box] = True
        found: NDArray[np.bool_] = inherited(boxes.parent, below) & ~holds & ~tabled
        found[box] = False
        return found & holds[np.maximum(boxes.parent, 0)]


def read_blocks(body: Element) -> Blocks:
    """All runs and boxes of ``body``, which holds no comments."""
    from components.text.kernels.characters import classes
    from components.text.kernels.markup import read_markup

    raw = np.frombuffer(etree.tostring(body, encoding="utf-8", with_tail=False), dtype=np.uint8)
    boxes, runs, pieces, text = read_markup(raw, classes(), *_names())
    tag, name, kind, parent, cues, depth, first, last, at = boxes
    # A tag that the kernel does not know has no kind.
    code = np.where(kind, kind & 0xFF, len(TAGS))
    around = kind >> _AROUND_AT & (1 << len(AROUND)) - 1
    columns = Boxes(
        *(parent, tag, name, code, around, kind >> _PART_AT & 7, cues, depth, first, last, at)
    )
    box, chars, linked, links, strong, start, stop = runs
    found = Runs(box, chars, linked, links, strong, start, stop, np.arange(len(box)))
    none = found.where(np.zeros(len(box), dtype=bool))
    return Blocks(columns, found, none, text, pieces, body)


_PART_AT, _AROUND_AT = 8, 16
ASIDE_PART, TABLE_PART, CELL_PART = 1, 2, 4
_PARTS = {
    **dict.fromkeys(("nav", "footer", "menu"), ASIDE_PART),
    **dict.fromkeys(("td", "th"), CELL_PART),
    "table": TABLE_PART,
}
_ROLES = {
    "navigation": "nav",
    "complementary": "sidebar",
    "banner": "header",
    "contentinfo": "footer",
    "dialog": "modal",
}


@cache
def _names() -> tuple[Names, Names, Names]:
    """What the kernel looks up: tags, words of classes, and values of other attributes."""
    from components.text.kernels import markup
    from components.text.kernels.classwords import INSIDE, WHOLE, named

    tags = {}
    for tag in sorted({*INLINE, *UNREAD, *TAGS, *AROUND, *_PARTS}):
        kind = tag_code(tag) | around_bit(tag) << _AROUND_AT | _PARTS.get(tag, 0) << _PART_AT
        kind |= markup.UNREAD * (tag in UNREAD) | markup.INLINE * (tag in INLINE)
        kind |= markup.LINK * (tag == "a") | markup.BREAK * (tag == "br")
        tags[tag] = kind | markup.STRONG * (tag in _STRONG) | markup.KNOWN
    values = {role: class_cues(word) for role, word in _ROLES.items()}
    values |= {"articleBody": class_cues("articlebody"), "": class_cues("hidden")}
    return named(tags), named(class_words(WHOLE, INSIDE)), named(values)


def tag_code(tag: str) -> int:
    """The tag's place in ``TAGS``; one past the end for any other."""
    return _TAG_CODE.get(tag, len(TAGS))


def around_bit(tag: str) -> int:
    """A bit for a tag of ``AROUND``; none for any other."""
    return _AROUND_BIT.get(tag, 0)


LEFT_SHARE = 0.1
LEFT_CHARS = 150
"""With less text left than this, what looked like comments and menus is the text (a forum)."""


def without_asides(blocks: Blocks) -> Blocks:
    """The page without menus, footers and comments, as Readability and trafilatura drop them."""
    from components.text.kernels.boxes import inherited

    boxes, runs = blocks.boxes, blocks.runs
    sums = np.concatenate([[0], np.cumsum(runs.chars)])
    # What holds nearly all of a page is the page, whatever it is called.
    part = sums[boxes.last] - sums[boxes.first] < 0.9 * sums[-1]
    named = ((boxes.part & ASIDE_PART) | (boxes.cues & COMMENT)) > 0
    dropped = inherited(boxes.parent, part & named)[runs.box]
    left = int(runs.chars[~dropped].sum())
    if left < LEFT_CHARS or left < LEFT_SHARE * sums[-1]:
        return blocks
    places = np.concatenate([[0], np.cumsum(~dropped)])
    moved = replace(boxes, first=places[boxes.first], last=places[boxes.last])
    return replace(blocks, boxes=moved, runs=runs.where(~dropped), asides=runs.where(dropped))
