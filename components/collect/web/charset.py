"""Bytes of a page as text, whatever its header, its meta element or its bytes say they are."""

from __future__ import annotations

import codecs
import re

from resiliparse.parse.encoding import detect_encoding

_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([\w:.-]+)", re.IGNORECASE)
_SEVEN_BITS = frozenset({"iso2022_jp", "iso2022_jp_2", "iso2022_kr"})
_TWO_BYTES = frozenset({"utf-16", "utf-16-le", "utf-16-be"})
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def decode(body: bytes, content_type: str = "") -> str:
    """Text of ``body``; bytes that fit no encoding become the replacement character.

    In this order: a byte order mark, UTF-8 when every byte agrees (a header that says otherwise is
    wrong then, bar the odd chance), the header's charset, the document's own, a guess.
    """
    for mark, encoding in _MARKS:
        if body.startswith(mark):
            return body.decode(encoding, errors="replace")
    head = body[:2048].decode("latin-1")
    named = (_CHARSET.search(content_type), _CHARSET.search(head))
    declared = [known for found in named if found and (known := _known(found[1]))]
    for name in declared:
        # In these every byte of any text is one of ASCII, or a zero beside one.
        is_seven_bits = name in _SEVEN_BITS and b"\x1b" in body
        if is_seven_bits or (name in _TWO_BYTES and body.count(0) > len(body) / 4):
            return body.decode(name, errors="replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        # A page cut off in mid-character is UTF-8 all the same.
        nearly = error.start >= len(body) - 3
    if nearly:
        return body.decode("utf-8", errors="replace")
    for name in declared:
        if name != "utf-8":
            return body.decode(name, errors="replace")
    return body.decode(_known(detect_encoding(body)) or "utf-8", errors="replace")


def _known(name: str | None) -> str | None:
    """Python's name of an encoding, as browsers read it: Latin-1 is Windows' superset of it."""
    try:
        found = codecs.lookup(name or "").name
    except LookupError:
        return None
    return "cp1252" if found in ("iso8859-1", "ascii") else found
