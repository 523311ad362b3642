"""Sitemaps (sitemaps.org 0.9): a site's lists of pages, indexes of lists, and feeds of pages.

A file is read by its root element: ``urlset``, ``sitemapindex``, RSS or Atom; one without markup
lists an address a line. What is broken is repaired by libxml2, as sitemaps are written by hand too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any

from lxml import etree

from components.collect.web.charset import decode_page
from components.collect.web.transfer.content_codings import ContentCodingError, decode_content

MAX_SITEMAP_BYTES = 50 * 1024 * 1024
"""Largest size that the protocol allows, decompressed."""
_CHUNK_BYTES = 65536
_BARE_AMPERSAND = re.compile(
    r"<!\[CDATA\[.*?(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)|&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[\da-f]+);)",
    re.IGNORECASE | re.DOTALL,
)
_CONTROLS = dict.fromkeys([*range(9), 11, 12, *range(14, 32)])
SITEMAP_ROOTS = frozenset({"urlset", "sitemapindex", "rss", "feed", "rdf"})
"""Root elements of sitemaps and feeds."""
_MAX_SERVER_OUTPUT = 65536
"""Characters before the XML that may be a server's warnings."""
_ROOT = rf"(?:[A-Za-z_][\w.-]*:)?(?:{'|'.join(sorted(SITEMAP_ROOTS))})"
_XML_START = re.compile(rf"<{_ROOT}[\s>]", re.IGNORECASE)
_NEXT_DOCUMENT = re.compile(
    rf"</{_ROOT}\s*>\s*(?:<\?xml[^>]*\?>\s*)?(?=<{_ROOT}[\s>])", re.IGNORECASE
)
_HTML_PAGE = re.compile(r"<(?:!doctype\s+html|html|body)\b", re.IGNORECASE)
_ADDRESS_LINE = re.compile(r"^\s*https?://\S+\s*$", re.IGNORECASE | re.MULTILINE)
_HAS_BLANK = re.compile(r"\s")
_ENTRIES = frozenset({"url", "sitemap", "item", "entry"})
"""Elements that stand for one page or one sitemap."""


@dataclass
class SitemapFile:
    """Addresses that one sitemap lists, as they are written."""

    is_index: bool = False
    """True where they are those of other sitemaps."""
    locations: list[str] = field(default_factory=list)
    root: str = field(default="", compare=False)
    """Local name of its root element, in lower case; empty for a text without markup."""
    is_list: bool = field(default=False, compare=False)
    """True for a text of addresses, a line each, and nothing else."""

    @property
    def is_sitemap(self) -> bool:
        """True for what was made to be read as a sitemap or a feed."""
        return self.is_list or self.root in SITEMAP_ROOTS

    def explain_empty(self) -> str:
        """Explain why it lists no address; empty where it lists some."""
        if self.locations:
            return ""
        if self.root == "html":
            return "it is an HTML page"
        if self.root and self.root not in SITEMAP_ROOTS:
            return f"it is no sitemap: its root element is {self.root[:40]}"
        return "it lists no address"


def decode_sitemap(body: bytes) -> tuple[str, str]:
    """(text, note) of a sitemap, decompressed where it is gzip, as far as that can be read.

    The note says what is missing; it is empty where nothing is.
    """
    try:
        decoded = decode_content(body, "", MAX_SITEMAP_BYTES)
    except ContentCodingError as error:
        return "", f"its encoding is broken: {error}"
    is_cut = decoded.is_full or len(body) >= MAX_SITEMAP_BYTES
    note = f"larger than {MAX_SITEMAP_BYTES} bytes, the rest is not read" if is_cut else ""
    return decode_page(decoded.body[:MAX_SITEMAP_BYTES]), note or decoded.note


def parse_sitemap(text: str, limit: int) -> SitemapFile:
    """Parse a sitemap, a feed or a list of lines, as far as it can be read, up to ``limit``.

    Raises:
        ValueError: it declares entities: no sitemap needs them, and nested ones expand without end.
    """
    declares_entities = "<!ENTITY" in text
    text = _without_server_output(text.lstrip())
    if not text.startswith("<"):
        return _parse_lines(text, limit)
    if declares_entities:
        raise ValueError("it declares entities")
    sitemap = SitemapFile()
    bounds = [0, *(match.end() for match in _NEXT_DOCUMENT.finditer(text)), len(text)]
    for start, end in pairwise(bounds):
        if len(sitemap.locations) < limit:
            _parse_document(text[start:end], sitemap, limit)
    return sitemap


def _parse_document(text: str, sitemap: SitemapFile, limit: int) -> None:
    """Add the addresses of one document, of which badly joined files hold several.

    Args:
        text: The document.
        sitemap: What was read before.
        limit: Addresses in all, at most.
    """
    text = _BARE_AMPERSAND.sub(lambda match: "&amp;" if match[0] == "&" else match[0], text)
    content = text.translate(_CONTROLS).encode("utf-8", "replace")
    for event, element in _parse_events(content):
        if not sitemap.root:
            sitemap.root = _local_name(element)
            sitemap.is_index = sitemap.root == "sitemapindex"
        if event == "end" and sitemap.root != "html" and _local_name(element) in _ENTRIES:
            left = limit - len(sitemap.locations)
            sitemap.locations += islice(filter(None, _entry_addresses(element)), left)
        if len(sitemap.locations) >= limit:
            break
    if not sitemap.root and _HTML_PAGE.search(text[:_MAX_SERVER_OUTPUT]):
        sitemap.root = "html"  # too broken for XML


def _without_server_output(text: str) -> str:
    """Text from its XML on, without the warnings that a program on the server wrote before it."""
    start = _XML_START.search(text[:_MAX_SERVER_OUTPUT])
    before = text[: start.start()] if start is not None else ""
    if start is None or _HTML_PAGE.search(before) or _ADDRESS_LINE.search(before):
        return text
    return text[start.start() :]


def _parse_lines(text: str, limit: int) -> SitemapFile:
    """Addresses of a text without markup, a line each."""
    lines = [line for row in text.splitlines() if (line := row.strip())]
    addresses = [line for line in lines if line.lower().startswith(("http://", "https://"))]
    # Comments and a stray line do not make a text of it; a link at the end of prose makes no list.
    is_list = bool(addresses) and all(
        line.startswith("#") or not _HAS_BLANK.search(line) for line in lines
    )
    return SitemapFile(locations=addresses[:limit], is_list=is_list)


def _parse_events(content: bytes) -> Iterator[tuple[str, Any]]:
    """(event, element) of a document, repaired where it is broken; entries are cleared behind."""
    parser: Any = etree.XMLPullParser(
        ("start", "end"),
        encoding="utf-8",
        recover=True,
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=True,
        remove_comments=True,
        remove_pis=True,
    )
    # A cut file ends in half an address; the parser would close it as if it were whole.
    is_cut = not content.rstrip().endswith(b">")
    for start in range(0, len(content), _CHUNK_BYTES):
        with suppress(etree.XMLSyntaxError):  # beyond repair, but what was read before is given
            parser.feed(content[start : start + _CHUNK_BYTES])
            if start + _CHUNK_BYTES >= len(content) and not is_cut:
                parser.close()
        for event, element in parser.read_events():
            yield event, element
            if event == "end" and _local_name(element) in _ENTRIES:
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]


def _entry_addresses(element: Any) -> Iterator[str]:
    """Addresses of a closed entry: ``loc`` and alternates, or ``link`` of a feed's entry."""
    for child in element.iterchildren(etree.Element):
        name = _local_name(child)
        relation = child.get("rel", "alternate").strip().lower()
        if name == "loc" or (name == "link" and not child.get("href")):
            yield (child.text or "").strip()
        elif name == "link" and relation == "alternate":
            yield child.get("href").strip()
        elif name == "guid" and child.get("isPermaLink", "true").lower() == "true":
            yield (child.text or "").strip()


def _local_name(element: Any) -> str:
    """Name of an element without its namespace or prefix, in lower case."""
    return str(element.tag).rpartition("}")[2].rpartition(":")[2].lower()
