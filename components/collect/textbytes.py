"""Bytes of a page as text, whatever its header, its meta element or its bytes say they are."""

from __future__ import annotations

import codecs
import re

from resiliparse.parse.encoding import detect_encoding

_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([\w:.-]+)", re.IGNORECASE)
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def decode(body: bytes, content_type: str = "") -> str:
    """Text of ``body``; bytes that fit no encoding become the replacement character.

    In this order: a byte order mark, UTF-8 when every byte agrees (a header that says otherwise is
    wrong then, bar the odd chance), the header's charset, the document's own, a guess.
    """
    for mark, encoding in _MARKS:
        if body.startswith(mark):
            return body.decode(encoding, errors="replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        # A page cut off in mid-character is UTF-8 all the same.
        nearly = error.start >= len(body) - 3
    if nearly:
        return body.decode("utf-8", errors="replace")
    head = body[:2048].decode("latin-1")
    for declared in (_CHARSET.search(content_type), _CHARSET.search(head)):
        if declared is not None and _known(declared[1]) not in (None, "utf-8"):
            return body.decode(_known(declared[1]) or "utf-8", errors="replace")
    return body.decode(_known(detect_encoding(body)) or "utf-8", errors="replace")


def _known(name: str | None) -> str | None:
    """Python's name of an encoding, as browsers read it: Latin-1 is Windows' superset of it."""
    try:
        found = codecs.lookup(name or "").name
    except LookupError:
        return None
    return "cp1252" if found in ("iso8859-1", "ascii") else found
