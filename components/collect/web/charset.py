"""Text of a page by byte order mark, charset or detection."""

from __future__ import annotations

import codecs
import re

from resiliparse.parse.encoding import detect_encoding

_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([\w:.-]+)", re.IGNORECASE)
_SEVEN_BITS = frozenset({"iso2022_jp", "iso2022_jp_2", "iso2022_kr"})
_TWO_BYTES = frozenset({"utf-16", "utf-16-le", "utf-16-be"})
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def decode_page(body: bytes, content_type: str = "") -> str:
    """Decode a page's bytes; those that fit no encoding become the replacement character.

    In this order: a byte order mark, UTF-8 when every byte is valid (a header that says otherwise
    is then wrong with near certainty), the header's charset, the document's own, detection.
    """
    for byte_order_mark, encoding in _BYTE_ORDER_MARKS:
        if body.startswith(byte_order_mark):
            return body.decode(encoding, errors="replace")
    head = body[:2048].decode("latin-1")
    charset_matches = (_CHARSET.search(content_type), _CHARSET.search(head))
    declared = [codec for match in charset_matches if match and (codec := _codec_name(match[1]))]
    for name in declared:
        # These encodings pass as valid UTF-8: every byte is ASCII, or a zero beside one.
        is_seven_bits = name in _SEVEN_BITS and b"\x1b" in body
        if is_seven_bits or (name in _TWO_BYTES and body.count(0) > len(body) / 4):
            return body.decode(name, errors="replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        # A page that is cut off inside a character is still UTF-8.
        nearly = error.start >= len(body) - 3
    if nearly:
        return body.decode("utf-8", errors="replace")
    for name in declared:
        if name != "utf-8":
            return body.decode(name, errors="replace")
    return body.decode(_codec_name(detect_encoding(body)) or "utf-8", errors="replace")


def _codec_name(name: str | None) -> str | None:
    """Python's codec for a charset label, as browsers read it: Latin-1 means Windows-1252."""
    try:
        codec = codecs.lookup(name or "").name
    except LookupError:
        return None
    return "cp1252" if codec in ("iso8859-1", "ascii") else codec
