"""Crawl trap detection by content: calendars, circles, searches and sessions that never end.

Addresses that a program may have made are grouped by *shape*: the same path and parameters, numbers
masked; and addresses that become a known one when a segment of their path is left out, which broken
relative links make without end. A page is *barren* where the crawl has seen its text, but for what
all pages of its shape share and what its own address says, and it leads to no other kind of page. A
shape is a trap once nine in ten of
its latest pages are barren, as many pages as it had of its own, so a trap costs about twice what
was worth asking for in it. The counts depend on the order of the crawl alone, so the same site ends
the same way every time.

Pages that differ in numbers alone are new where the numbers are content (tables of other years),
and barren where they are noise (a counter, a clock): one of them is asked for a second time, and
shows whether its numbers stay.
"""

from __future__ import annotations

import hashlib
import mimetypes
import mmap
import re
import zlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from components.collect.web.page_fingerprint import PageFingerprint

TRAP_REASON = "a trap: pages with addresses like this one bring nothing new"
"""Reason of an address of a trap that is not asked for."""
BARREN_SHARE = 0.9
"""Share of barren pages above which a shape is a trap: one new page in ten keeps it open."""
NEW_SHARE = 0.3
"""Share of new shingles from which a page is new: a list of known items in another order has new
ones only where two items meet."""
_SEEN_BITS = 29
"""Bits of the hash under which a shingle is remembered: a bitmap of 64 MiB, of which the system
gives what is written to; two hundred million shingles fill a third of it."""
_COMMON_SAMPLE = 8
"""First pages of a shape whose shingles can count as common to it: bounds memory."""
_NEW_PARTS = " new "
_NUMBERED = re.compile(r"[^/]*\d[^/]*")
_PAGE_TYPES = ("text/html", "text/plain", "text/markdown", "application/xhtml+xml")
_FILE_TYPES = mimetypes.MimeTypes()
_MAX_FILES = 20
"""Files of one kind, none of which was a page, after which no other is asked for."""
FILES_REASON = (
    f"looks like a file: {_MAX_FILES} addresses like it were asked for, and none is a page"
)
"""Reason of an address that is therefore not asked for."""


def shape_of(parts: SplitResult) -> str:
    """Shape of a URL: numbered path segments masked, parameter names without their values."""
    keys = sorted({pair.partition("=")[0] for pair in parts.query.split("&") if pair})
    return f"{parts.netloc}{_NUMBERED.sub('0', parts.path)}?{'&'.join(keys)}"


def file_kind(url: str) -> str:
    """Kind of file that an address seems to name: host, first folder, suffix; empty for a page."""
    parts = urlsplit(url)
    name = parts.path.rpartition("/")[2]
    media_type, coding = _FILE_TYPES.guess_type(f"/{name}")
    if "." not in name or (coding is None and media_type in (None, *_PAGE_TYPES)):
        return ""
    folder = _NUMBERED.sub("0", parts.path.split("/")[1])
    return f"{parts.netloc}/{folder} {name.rpartition('.')[2].lower()}"


def _values_of(parts: SplitResult) -> Iterator[tuple[str, int]]:
    """(name, hash of shape and value) of a URL's path and of its parameters."""
    shape = shape_of(parts)
    yield "/", _hash_text(f"{shape} {parts.path}")
    for pair in parts.query.split("&") if parts.query else ():
        yield pair.partition("=")[0], _hash_text(f"{shape} {pair}")


def _hash_text(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


class _Outcomes:
    """Outcomes of pages in their order: barren ones among the first n."""

    def __init__(self) -> None:
        self._barren = array("I", [0])

    def __len__(self) -> int:
        return len(self._barren) - 1

    def add_page(self, is_barren: bool) -> None:
        self._barren.append(self._barren[-1] + is_barren)

    def are_exhausted(self, max_barren: int) -> bool:
        """True where the latest pages are barren, at least as many as there are others."""
        window = max(2 * max_barren, len(self) - self._barren[-1])
        if len(self) < window:
            return False
        return self._barren[-1] - self._barren[-1 - window] > BARREN_SHARE * window


@dataclass
class _ShapePages:
    """Pages of one shape."""

    first: array[int] = field(default_factory=lambda: array("I"))
    """Shingles of the first page, while there is no other: most shapes are of one page."""
    counts: dict[int, int] = field(default_factory=dict)
    """Shingle -> pages of the shape with it, from the second page on."""
    numbers: set[str] = field(default_factory=set)
    outcomes: _Outcomes = field(default_factory=_Outcomes)
    """Pages are barren without new words and new numbers."""
    wordless: _Outcomes = field(default_factory=_Outcomes)
    """Pages are barren without new words, whatever their numbers."""
    numbered_url: str = ""
    """Latest page that differs in its numbers alone."""
    numbers_stay: bool | None = None
    """False where numbers change from one request to the next; None while that is not known."""


class TrapDetector:
    """Outcomes of pages by shape, over one crawl."""

    def __init__(self, max_barren: int) -> None:
        """Start without pages; a trap has at least twice ``max_barren`` pages."""
        self._max_barren = max_barren
        self._shapes: dict[str, _ShapePages] = {}
        self._seen = mmap.mmap(-1, 1 << (_SEEN_BITS - 3))
        self._closed: set[str] = set()
        self._values: set[int] = set()
        """Hashes of the paths and parameters that were planned, by shape."""
        self._wordless: dict[str, _Outcomes] = defaultdict(_Outcomes)
        """Shape, whatever is new in its addresses -> pages that are barren without new words."""
        self._doubtful: set[str] = set()
        """Shapes that only their numbers keep open."""
        self._files: Counter[str] = Counter()
        """Kind of file -> answers that were no page; -1 for a kind that was one."""

    def shapes_of(self, url: str, known: Container[str]) -> tuple[str, ...]:
        """Shapes of a new URL that may have pages without end; none of a path without numbers.

        Addresses whose path or a parameter is new to their shape are told from those that combine
        known ones: of ``/item?id=8&visit=31`` only a new ``id`` may bring a new page.

        Args:
            url: The address.
            known: Addresses that were planned.
        """
        parts = urlsplit(url)
        shapes = []
        if parts.query or _NUMBERED.search(parts.path):
            new = [name for name, mark in _values_of(parts) if mark not in self._values]
            shapes.append(f"{shape_of(parts)}{_NEW_PARTS}{' '.join(new)}")
        names = parts.path.split("/")
        last = len(names) - (1 if names[-1] else 2)  # a folder lies in its parent: no circle
        for index in range(1, last):
            shorter = parts._replace(path="/".join(names[:index] + names[index + 1 :])).geturl()
            if shorter in known:
                shapes += [f"{parts.netloc} circles", f"{parts.netloc} circles of {names[index]}"]
                break
        return tuple(shapes)

    def note_planned(self, url: str) -> None:
        """Count the path and the parameters of a URL as known."""
        self._values.update(mark for _, mark in _values_of(urlsplit(url)))

    def observe_page(
        self,
        url: str,
        shapes: tuple[str, ...],
        page: PageFingerprint,
        named: Sequence[tuple[str, ...]],
    ) -> None:
        """Count a fetched page.

        Args:
            url: Where it was fetched.
            shapes: Its shapes.
            page: The fingerprint of its text.
            named: Shapes of each address that no earlier page named.
        """
        host_mask = zlib.crc32(urlsplit(url).netloc.encode())
        places = [(h ^ host_mask) & ((1 << _SEEN_BITS) - 1) for h in page.words]
        is_new = [not self._seen[at >> 3] & (1 << (at & 7)) for at in places]
        leads_on = self._leads_on(shapes, named)
        for name in shapes:
            shape = self._shapes.setdefault(name, _ShapePages())
            has_words, has_numbers = _compare_page(shape, page, is_new)
            if has_numbers and not has_words:
                shape.numbered_url = url
            shape.wordless.add_page(not has_words and not leads_on)
            shape.outcomes.add_page(not has_words and not has_numbers and not leads_on)
            self._wordless[_general(name)].add_page(not has_words)
            self._judge_shape(name, shape)
        for at in places:
            self._seen[at >> 3] |= 1 << (at & 7)

    def _leads_on(self, shapes: tuple[str, ...], named: Sequence[tuple[str, ...]]) -> bool:
        """True for a page that names addresses of another kind, whose pages may be new.

        A list of equal text may lead to one page after the other; a trap leads to itself, and to
        shapes whose pages are known to be barren.
        """
        own = set(map(_general, shapes))
        return any(
            not any(name in own or self._is_wordless(name) for name in map(_general, target))
            for target in named
        )

    def _is_wordless(self, general_shape: str) -> bool:
        outcomes = self._wordless.get(general_shape)
        return outcomes is not None and outcomes.are_exhausted(self._max_barren)

    def _judge_shape(self, name: str, shape: _ShapePages) -> None:
        outcomes = shape.wordless if shape.numbers_stay is False else shape.outcomes
        if outcomes.are_exhausted(self._max_barren):
            self._closed.add(name)
        elif (
            shape.numbers_stay is None
            and shape.numbered_url
            and shape.wordless.are_exhausted(self._max_barren)
        ):
            self._doubtful.add(name)

    def urls_to_repeat(self) -> list[str]:
        """Pages to ask for once more: one of each shape that only its numbers keep open."""
        names = self._doubtful - self._closed
        return sorted({self._shapes[name].numbered_url for name in names})

    def judge_numbers(self, url: str, numbers_stay: bool) -> None:
        """Take the numbers of a repeated page's shapes for content, or for noise."""
        for name in sorted(self._doubtful):
            shape = self._shapes[name]
            if shape.numbered_url == url:
                shape.numbers_stay = numbers_stay
                self._doubtful.discard(name)
                self._judge_shape(name, shape)

    def observe_file(self, url: str, is_page: bool) -> None:
        """Count the answer of an address, where it looks like a file's."""
        kind = file_kind(url)
        if not kind:
            return
        if is_page:
            self._files[kind] = -1
        elif self._files[kind] >= 0:
            self._files[kind] += 1

    def is_no_page(self, url: str) -> bool:
        """True where files of this kind were asked for and none was a page."""
        return self._files[file_kind(url)] >= _MAX_FILES

    def close_shapes(self, shapes: tuple[str, ...]) -> None:
        """Take shapes for traps, as an earlier crawl found them to be."""
        self._closed.update(shapes)

    def is_trap(self, shapes: tuple[str, ...]) -> bool:
        """True where a shape of an address is a trap."""
        return any(shape in self._closed for shape in shapes)

    def wave_share(self, shape: str) -> int:
        """Pages of a shape to ask for before they are looked at: as many as it has had."""
        pages = len(self._shapes[shape].outcomes) if shape in self._shapes else 0
        return max(2 * self._max_barren, pages)


def _compare_page(
    shape: _ShapePages, page: PageFingerprint, is_new: list[bool]
) -> tuple[bool, bool]:
    """(has new words, has new numbers) for a page of a shape, which is counted.

    Args:
        shape: The shape's earlier pages.
        page: Fingerprint of the page.
        is_new: For each of its shingles, True where no page of the host had it.
    """
    pages = len(shape.outcomes)
    common_from = max(2, pages // 2 + 1)
    own = [
        new
        for shingle, new in zip(page.words, is_new, strict=True)
        if shape.counts.get(shingle, 0) < common_from
    ]
    has_words = sum(own) > 0 and sum(own) >= NEW_SHARE * len(own)
    has_numbers = page.numbers != "" and page.numbers not in shape.numbers
    shape.numbers.add(page.numbers)
    if pages == 0:
        shape.first = array("I", page.words)
        return has_words, has_numbers
    if pages == 1:
        shape.counts, shape.first = dict.fromkeys(shape.first, 1), array("I")
    for shingle in page.words:
        if shingle in shape.counts or pages < _COMMON_SAMPLE:
            shape.counts[shingle] = shape.counts.get(shingle, 0) + 1
    return has_words, has_numbers


def _general(shape: str) -> str:
    """Shape without what is new in its addresses."""
    return shape.partition(_NEW_PARTS)[0]
