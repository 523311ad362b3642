"""The plain twin of the kernel that reads boxes and runs: one walk over the tree in Python.

A run is text that a reader sees as one block: inline content between two block boundaries, as in
the block fusion of Kohlschütter et al., "Boilerplate detection using shallow text features" (WSDM
2010). It remembers the places in the tree that its text came from, so that dropping a run means
emptying these places and everything else keeps its structure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from lxml import etree

from components.collect.blocks import INLINE, UNREAD
from components.collect.cues import class_cues
from components.collect.dom import Element

_STRONG = frozenset({"b", "strong", "em", "i"})


@dataclass(slots=True)
class Box:
    """A block element, and the text below it."""

    parent: int
    """Index of the block element around it; -1 for the root."""
    tag: str
    name: str
    """Tag and class: what looks alike shares it."""
    cues: int
    depth: int
    first: int
    """Runs ``first`` to ``last`` (left out) stand in it."""
    last: int = 0
    element: Element = None


@dataclass(slots=True)
class Run:
    """Text between two block boundaries."""

    box: int
    text: str
    chars: int
    linked: int
    links: int
    strong: int
    places: list[tuple[Element, bool]]
    """(element, whether the text stands after it instead of in it)."""


@dataclass
class Blocks:
    """All runs and boxes of a page in the document's order."""

    boxes: list[Box] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    asides: list[Run] = field(default_factory=list)
    """Runs that were taken out before anything was weighed."""


def read_blocks(body: Element) -> Blocks:
    """Walk ``body`` once."""
    walk = _Walk()
    walker = etree.iterwalk(body, events=("start", "end"))
    for event, element in walker:
        if event == "start":
            if element.tag in UNREAD:
                walker.skip_subtree()
            else:
                walk.enter(element)
        else:
            walk.leave(element, last=element is body)
    return walk.blocks


@lru_cache(maxsize=20_000)
def _cues(names: str) -> int:
    return class_cues(names)


class _Walk:
    """Where the walk stands: the open boxes, the open run."""

    def __init__(self) -> None:
        self.blocks = Blocks()
        self._open: list[int] = []
        self._places: list[tuple[Element, bool]] = []
        self._texts: list[str] = []
        self._linked = self._strong_chars = self._links = 0
        self._in_link = self._in_strong = 0
        self._breaks = 0

    def enter(self, element: Element) -> None:
        tag = element.tag
        if tag not in INLINE:
            if self._texts:
                self._close()
            self._open_box(element, tag)
        elif tag == "a":
            self._in_link += 1
            self._links += 1
        elif tag in _STRONG:
            self._in_strong += 1
        elif tag == "br":
            self._breaks += 1
            if self._breaks > 1:
                self._close()
            self._texts.append(" ")
        text = element.text
        if text:
            self._add(text, element, False)

    def leave(self, element: Element, last: bool) -> None:
        tag = element.tag
        if tag in UNREAD:
            pass
        elif tag not in INLINE:
            if self._texts:
                self._close()
            blocks = self.blocks
            blocks.boxes[self._open.pop()].last = len(blocks.runs)
        elif tag == "a":
            self._in_link -= 1
        elif tag in _STRONG:
            self._in_strong -= 1
        tail = element.tail
        if tail and not last:
            self._add(tail, element, True)

    def _add(self, text: str, element: Element, after: bool) -> None:
        if not text.isspace():
            self._breaks = 0
            if self._in_link:
                self._linked += len(text.strip())
            if self._in_strong:
                self._strong_chars += len(text.strip())
        self._places.append((element, after))
        self._texts.append(text)

    def _open_box(self, element: Element, tag: str) -> None:
        boxes, opened = self.blocks.boxes, self._open
        names = element.get("class") or ""
        identifier = element.get("id")
        cues = _cues(f"{names} {identifier}" if identifier else names) if names or identifier else 0
        attributes = element.attrib
        if len(attributes) > 1 or (attributes and not names):
            cues |= _attribute_cues(attributes)
        parent = opened[-1] if opened else -1
        depth = boxes[parent].depth + 1 if opened else 0
        box = Box(parent, tag, f"{tag} {names}", cues, depth, len(self.blocks.runs))
        box.element = element
        opened.append(len(boxes))
        boxes.append(box)

    def _close(self) -> None:
        """End the open run; without letters it is none."""
        text = " ".join("".join(self._texts).split())
        if text:
            run = Run(
                self._open[-1],
                text,
                len(text),
                self._linked,
                self._links,
                self._strong_chars,
                self._places,
            )
            self.blocks.runs.append(run)
        self._texts, self._places = [], []
        self._linked = self._strong_chars = self._breaks = 0
        self._links = self._in_link


_HIDDEN_CUE = class_cues("hidden")
_BODY_CUE = class_cues("articlebody")
_NAVIGATION_CUE = class_cues("nav")
_COMPLEMENT_CUE = class_cues("sidebar")
_ROLE_CUES = {
    "navigation": _NAVIGATION_CUE,
    "complementary": _COMPLEMENT_CUE,
    "banner": class_cues("header"),
    "contentinfo": class_cues("footer"),
    "dialog": class_cues("modal"),
}


def _attribute_cues(attributes: Element) -> int:
    """What attributes other than class and id say."""
    cues = 0
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        cues |= _HIDDEN_CUE
    style = attributes.get("style")
    if style and "none" in style and "display" in style:
        cues |= _HIDDEN_CUE
    kind = attributes.get("itemprop")
    if kind:
        cues |= _BODY_CUE if kind == "articleBody" else _cues(kind)
    role = attributes.get("role")
    if role:
        cues |= _ROLE_CUES.get(role, 0)
    return cues
