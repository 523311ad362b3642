"""Media types that are read as pages, and those that a body has by its first bytes.

The one list for fetching, archives, files and extraction. A type that is missing, unknown or only a
guess of the server's is sniffed as in the WHATWG's MIME Sniffing Standard (section 7.1), a declared
one is believed, as in browsers: HTML that is declared as ``text/plain`` is a text about HTML.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

HTML, XHTML, PLAIN, MARKDOWN = "text/html", "application/xhtml+xml", "text/plain", "text/markdown"
_READ_AS = {
    HTML: HTML,
    XHTML: XHTML,
    "application/vnd.wap.xhtml+xml": XHTML,
    PLAIN: PLAIN,
    "text/txt": PLAIN,
    "text/x-rst": PLAIN,
    "text/prs.fallenstein.rst": PLAIN,
    "text/asciidoc": PLAIN,
    "text/x-asciidoc": PLAIN,
    "text/org": PLAIN,
    "text/x-org": PLAIN,
    MARKDOWN: MARKDOWN,
    "text/x-markdown": MARKDOWN,
    "text/x-web-markdown": MARKDOWN,
}
"""Declared media type -> the one that it is read as."""
_UNKNOWN = frozenset(
    {
        "",
        "*/*",
        "unknown/unknown",
        "application/unknown",
        "application/octet-stream",
        "application/x-octet-stream",
        "binary/octet-stream",
        "application/force-download",
        "application/x-download",
        "application/download",
    }
)
"""Types by which a server says that it does not know; the first four in the standard."""
_SNIFFED_BYTES = 1445
"""Resource header of the standard: the bytes that a type is guessed from."""
_JUDGED_BYTES = 65536
"""First bytes of a body in which control bytes are counted."""
_HTML_START = re.compile(
    rb"[\t\n\x0c\r ]*(?:<(?:!DOCTYPE HTML|HTML|HEAD|SCRIPT|IFRAME|H1|DIV|FONT|TABLE|A|STYLE"
    rb"|TITLE|B|BODY|BR|P)[ >\t\n\x0c\r/])",
    re.IGNORECASE,
)
_HTML_TAG = re.compile(
    rb"<(?:html|head|body|div|p|h[1-6]|main|article|section|ul|ol|table)\b", re.IGNORECASE
)
_XML_PROLOGUE = re.compile(
    rb"(?:\s+|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*(?:\[.*?\])?\s*>)*", re.DOTALL
)
_XML_ROOT = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)([^<>]*)")
_FEED_ROOTS = frozenset({"rss", "feed", "rdf"})
_WIDE_SAMPLE = 4096
_WIDE_LEAST = 4
"""Zero bytes that tell UTF-16: one among a dozen characters is a fault of a text."""
_WIDE_SHARE = 0.15
"""Share of zero bytes, all at even or all at odd places, that only UTF-16 has: markup, blanks and
digits are that much of a page in any script."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~\w-]+/[!#$%&'*+.^_`|~\w-]+", re.ASCII)
_QUOTED = re.compile(r'"[^"]*"?')
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))
_CONTROL_SHARE = 0.01
"""Share of control bytes above which a body is binary: compressed bytes hold a tenth, texts few."""
_BINARY_MAGIC = (
    b"%PDF-",
    b"PK\x03\x04",
    b"\x89PNG",
    b"GIF8",
    b"\xff\xd8\xff",
    b"\x1f\x8b",
    b"\x7fELF",
)


@dataclass(frozen=True)
class MediaVerdict:
    """Decision on a body: the type that it is read as, or the reason for which it is no page."""

    media_type: str = ""
    """HTML, XHTML, plain text or Markdown; empty for none."""
    reason: str = ""
    is_misdeclared: bool = False
    """True for content that is not what its readable type says."""


def media_type_of(content_type: str) -> str:
    """Media type of a ``Content-Type`` header, in lower case, without parameters.

    Of several, joined by commas or on lines of their own, the last valid one counts (Fetch
    Standard, "extract a MIME type"). Empty for none that is valid.
    """
    last = ""
    for part in _QUOTED.sub("", content_type).split(","):
        media_type = part.partition(";")[0].strip().lower()
        if media_type != "*/*" and _TOKEN.fullmatch(media_type):
            last = media_type
    return last


def may_be_page(content_type: str) -> bool:
    """True for a type whose content may be a page, so that it is worth reading."""
    declared = media_type_of(content_type)
    return declared in _READ_AS or declared in _UNKNOWN or _is_xml(declared) or "htm" in declared


def unreadable_reason(content_type: str) -> str:
    """Reason of a page whose media type is not read."""
    return f"no page: {media_type_of(content_type)}"


def judge_media_type(content_type: str, body: bytes) -> MediaVerdict:
    """Decide what a body is read as, by its declared type and, where that says little, its bytes.

    Args:
        content_type: Its ``Content-Type``; empty where there is none.
        body: The body, without content codings.
    """
    declared = media_type_of(content_type)
    if not may_be_page(content_type):
        return MediaVerdict(reason=unreadable_reason(content_type))
    if is_binary(body, content_type):
        return MediaVerdict(
            reason="no page: its content is binary", is_misdeclared=declared in _READ_AS
        )
    content = _as_utf8(body, content_type)
    root, is_xml = _root_element(content)
    if declared == HTML and is_xml and root in _FEED_ROOTS:
        return MediaVerdict(reason=f"no page: a feed, declared as {declared}")
    if declared in _READ_AS:
        return MediaVerdict(_READ_AS[declared])
    if root == "html":
        return MediaVerdict(XHTML if is_xml else HTML)
    if _is_xml(declared) or is_xml:
        return MediaVerdict(reason=unreadable_reason(content_type if declared else "text/xml"))
    if _looks_like_html(content):
        return MediaVerdict(HTML)
    if declared in _UNKNOWN:
        return MediaVerdict(PLAIN)
    return MediaVerdict(reason=unreadable_reason(content_type))


def is_binary(body: bytes, content_type: str = "") -> bool:
    """True for a body that is no text: a known binary format, or too many control characters."""
    head = _as_utf8(body, content_type)[:_JUDGED_BYTES]
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return body.startswith(_BINARY_MAGIC) or controls > _CONTROL_SHARE * len(head)


def _is_xml(media_type: str) -> bool:
    """True for an XML MIME type (MIME Sniffing Standard, section 4.6)."""
    return media_type.endswith("+xml") or media_type in ("text/xml", "application/xml")


def _as_utf8(body: bytes, content_type: str) -> bytes:
    """First bytes without a byte order mark, and in UTF-8 where they are UTF-16."""
    head = body[: 2 * _JUDGED_BYTES]
    codec = _wide_codec(head, content_type)
    if codec:
        return head.decode(codec, errors="replace").encode()
    return head.removeprefix(codecs.BOM_UTF8)


def _wide_codec(head: bytes, content_type: str) -> str:
    """Codec of UTF-16, by its mark, its zero bytes or its declaration; empty for other text."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    codec, declared = find_wide_codec(head), content_type.lower()
    if codec is None and "utf-16" in declared and not head.isascii():
        codec = "utf-16-be" if "utf-16be" in declared else "utf-16-le"
    return codec or ""


def find_wide_codec(body: bytes) -> str | None:
    """Find UTF-16 without a byte order mark, by the places of its zero bytes; None for none."""
    head = body[:_WIDE_SAMPLE]
    high, low = head[0::2].count(0), head[1::2].count(0)
    least = max(_WIDE_LEAST, _WIDE_SHARE * len(head) / 2)
    if max(high, low) < least or 10 * min(high, low) > max(high, low):
        return None
    return "utf-16-le" if low > high else "utf-16-be"


def _looks_like_html(content: bytes) -> bool:
    """True for HTML by the standard's patterns, and for a fragment of it that begins with a tag."""
    if _HTML_START.match(content[:_SNIFFED_BYTES]) or content.lstrip()[:4] == b"<!--":
        return True
    return content.lstrip()[:1] == b"<" and bool(_HTML_TAG.search(content[:_JUDGED_BYTES]))


def _root_element(content: bytes) -> tuple[str, bool]:
    """(local name of the first element in lower case, True where it begins as XML does)."""
    head = content[:_JUDGED_BYTES]
    prologue = _XML_PROLOGUE.match(head)
    root = _XML_ROOT.match(head, prologue.end() if prologue else 0)
    if root is None:
        return "", False
    is_xml = head.lstrip()[:5].lower() == b"<?xml" or b"xmlns=" in root[2]
    return root[1].decode("latin-1").lower(), is_xml
