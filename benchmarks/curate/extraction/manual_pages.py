"""Share of code blocks, table cells, headings and terms kept from manuals, by generator.

The pages are those of ``MODELMILL_MANUALS``, a folder of built documentation such as Debian's
packages bring (Sphinx, DocBook, rustdoc, mdBook) or a generator writes. The true elements of the
generator's own text container are read by the standard library's HTML parser and not by ours.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.extraction.peer_extractors import measure_rates
from components.collect.extraction.main_text import MainText, extract_main_text
from components.collect.extraction.tree.tree_edits import INVISIBLE
from components.collect.web.charset import decode_page

FOLDER_VARIABLE = "MODELMILL_MANUALS"
PAGES_PER_GENERATOR = 150
"""At most so many pages of a generator, drawn by the hashes of their paths."""
LEAST_SHARE = 0.99
LEAST_SPEED = 2.0
"""Multiple of trafilatura's pages a second: the container of a manual is known by its markup."""


class _Generator(NamedTuple):
    """Pattern that identifies pages of a generator, and the element that holds their text."""

    pattern: re.Pattern[str]
    container: tuple[str, str, str]
    """(tag, attribute, a word of its value); an empty tag matches any."""


GENERATORS = {
    "Sphinx": _Generator(
        re.compile(r"documentation_options\.js|_static/doctools\.js"), ("", "role", "main")
    ),
    "DocBook": _Generator(
        re.compile(r'generator" content="(?:DocBook|publican)', re.IGNORECASE), ("body", "", "")
    ),
    "rustdoc": _Generator(re.compile(r'generator" content="rustdoc'), ("", "id", "main-content")),
    "mdBook": _Generator(re.compile(r'id="menu-bar'), ("main", "", "")),
    "MkDocs": _Generator(
        re.compile(r"md-content__inner"), ("article", "class", "md-content__inner")
    ),
    "Docusaurus": _Generator(re.compile(r'id="__docusaurus"'), ("", "class", "theme-doc-markdown")),
    "VitePress": _Generator(re.compile(r"vp-doc"), ("", "class", "vp-doc")),
}
_FRAME_NAMES = re.compile(
    r"(?:^|\s)(?:nav(?:header|footer)|docnav|toc|contents|breadcrumbs?|pagination-nav|rightside|"
    r"jb-print-toc|lineno(?:s|div)?|synthetic-implementations\S*|blanket-implementations\S*)(?:\s|$)"
)
"""Classes and ids of navigation inside a container."""
_KINDS = {"pre": "code blocks", "td": "cells", "th": "cells", "dt": "terms"} | {
    f"h{level}": "headings" for level in range(1, 7)
}
_VOID_TAGS = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta"})
_ANCHOR_CLASSES = frozenset(
    {"headerlink", "header-anchor", "hash-link", "src", "srclink", "viewcode-link"}
)
"""Classes of anchor links beside a heading."""
_IGNORED_TAGS = frozenset({"script", "style", "button", "nav", "footer", "svg"})


def measure_manuals(setting: BenchSetting) -> list[BenchFigure]:
    """Share kept of each kind of element, by generator, and the speed beside trafilatura."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return [
            BenchFigure.unavailable("extraction, manuals", "", f"no folder in {FOLDER_VARIABLE}")
        ]
    setting.on_progress("extraction: manuals")
    pages_by_generator = _draw_pages(Path(folder))
    figures = [
        figure
        for name, pages in pages_by_generator.items()
        for figure in _share_figures(name, pages)
    ]
    all_pages = {
        f"{name}/{at}": page
        for name, pages in pages_by_generator.items()
        for at, page in pages.items()
    }
    if not all_pages:
        return [BenchFigure.unavailable("extraction, manuals", "", f"{folder} holds none")]
    ours, theirs = measure_rates(
        setting, all_pages, lambda page: extract_main_text(page, "text/html", "").text
    )
    speed = "extraction speed, manuals"
    figures.append(
        BenchFigure.beside_peer(
            speed, ours, "pages/s", "trafilatura", theirs, False, better="higher"
        )
    )
    if theirs:
        times = f"{speed}, times trafilatura's"
        figures.append(
            BenchFigure.against_target(times, ours / theirs, "x", LEAST_SPEED, better="higher")
        )
    return figures


def _draw_pages(folder: Path) -> dict[str, dict[str, str]]:
    """Generator -> path -> page, for up to ``PAGES_PER_GENERATOR`` pages of each."""
    paths = [path for kind in ("*.html", "*.htm") for path in folder.rglob(kind)]
    paths.sort(key=lambda path: hashlib.sha256(str(path.relative_to(folder)).encode()).digest())
    drawn: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for path in paths:
        if not path.is_file() or path.stat().st_size > 2_000_000:
            continue
        page = decode_page(path.read_bytes())
        name = next(
            (n for n, generator in GENERATORS.items() if generator.pattern.search(page)), None
        )
        if name is not None and len(drawn[name]) < PAGES_PER_GENERATOR:
            drawn[name][str(path.relative_to(folder))] = page
        if len(drawn) == len(GENERATORS) and all(
            len(p) == PAGES_PER_GENERATOR for p in drawn.values()
        ):
            break
    return dict(drawn)


def _share_figures(name: str, pages: dict[str, str]) -> Iterator[BenchFigure]:
    totals: Counter[str] = Counter()
    kept_counts: Counter[str] = Counter()
    for page in pages.values():
        elements = read_elements(page, GENERATORS[name].container)
        try:
            main_text = extract_main_text(page, "text/html", "")
        except ValueError:
            main_text = MainText("", "")
        text, headings = (
            normalize_letters(main_text.text),
            {normalize_letters(heading) for heading in main_text.headings},
        )
        for kind, content in elements:
            totals[kind] += 1
            kept_counts[kind] += _is_kept(kind, content, main_text, text, headings)
    for kind in sorted(totals):
        share, note = (
            kept_counts[kind] / totals[kind],
            f"{kept_counts[kind]} of {totals[kind]}, {len(pages)} pages",
        )
        title = f"extraction, {name}, {kind} kept"
        yield BenchFigure.against_target(title, share, "", LEAST_SHARE, better="higher", note=note)


def _is_kept(kind: str, content: str, main_text: MainText, text: str, headings: set[str]) -> bool:
    if kind == "code blocks":
        return content in main_text.code or content in main_text.text
    if kind == "headings":
        return normalize_letters(content) in headings
    return normalize_letters(content) in text


def normalize_letters(text: str) -> str:
    """Letters and digits in lower case, so that markup and whitespace do not count."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text)).lower()


def read_elements(page: str, container: tuple[str, str, str]) -> list[tuple[str, str]]:
    """(kind, text) of every code block, cell, heading and term in the container of a page."""
    reader = _ElementReader(container)
    reader.feed(page)
    reader.close()
    return [(kind, text) for kind, text in reader.elements if normalize_letters(text)]


class _ElementReader(HTMLParser):
    def __init__(self, container: tuple[str, str, str]) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, str]] = []
        self._container = container
        self._open: list[tuple[str, bool, bool]] = []
        """(tag, is inside the container, is navigation) of the open elements."""
        self._parts: list[tuple[str, list[str]]] = []
        """Open elements: their tag, and the pieces of their text."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _VOID_TAGS:
            if tag == "br":
                self.handle_data("\n")
            return
        values = {name: value or "" for name, value in attrs}
        inside, framed = self._open[-1][1:] if self._open else (False, False)
        container_tag, attribute, word = self._container
        is_container = (not container_tag or tag == container_tag) and (
            not attribute or word in values.get(attribute, "").split()
        )
        class_and_id = f"{values.get('class', '')} {values.get('id', '')}"
        is_sign = tag == "a" and not _ANCHOR_CLASSES.isdisjoint(values.get("class", "").split())
        framed = (
            framed
            or is_sign
            or tag in _IGNORED_TAGS
            or _FRAME_NAMES.search(class_and_id) is not None
        )
        self._open.append((tag, inside or is_container, framed))
        if (inside or is_container) and not framed and tag in _KINDS:
            self._parts.append((tag, []))

    def handle_endtag(self, tag: str) -> None:
        if tag not in {name for name, _, _ in self._open}:
            return
        in_pre = bool(self._parts) and self._parts[-1][0] == "pre"
        if tag == "div" and in_pre and not "".join(self._parts[-1][1][-1:]).endswith("\n"):
            self.handle_data("\n")  # a block ends its line
        while self._open:
            name, _, framed = self._open.pop()
            if self._parts and self._parts[-1][0] == name and not framed:
                kind, pieces = self._parts.pop()
                text = INVISIBLE.sub("", "".join(pieces)).replace("\xa0", " ")
                is_code = kind == "pre"
                self.elements.append(
                    (_KINDS[kind], text.strip("\n") if is_code else " ".join(text.split()))
                )
            if name == tag:
                return

    def handle_data(self, data: str) -> None:
        if self._open and not self._open[-1][2]:
            for _, pieces in self._parts:
                pieces.append(data)
