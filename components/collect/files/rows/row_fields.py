"""Fields of a row that hold its text, its address and its title, by the names that data sets use.

A name given in the config is the only one looked for. Else the first known name counts whose value
is not empty, in the row itself and then in the objects that it holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TEXT_NAMES = (
    "text", "content", "contents", "raw_content", "document", "markdown", "html", "body", "article",
    "raw_text", "full_text", "fulltext", "page_content", "text_content", "content_text",
    "article_text", "body_text", "plain_text", "maintext", "main_text", "passage", "passages",
    "raw_html", "html_content", "content_html", "body_html", "page_html", "paragraphs", "sections",
    "transcript", "story", "selftext", "value",
)  # fmt: skip
"""Names of the field that holds a row's text, the likeliest first."""
CONVERSATION_NAMES = ("messages", "conversations", "conversation", "dialog", "dialogue", "turns")
URL_NAMES = (
    "url", "uri", "link", "warc-target-uri", "warc_target_uri", "target_uri", "target_url",
    "source_url", "page_url", "article_url", "web_url", "final_url", "original_url",
    "canonical_url", "permalink", "href", "index",
)  # fmt: skip
TITLE_NAMES = ("title", "headline", "page_title", "article_title", "doc_title")
_KNOWN_NAMES = frozenset((*TEXT_NAMES, *CONVERSATION_NAMES, *URL_NAMES, *TITLE_NAMES))
_ROLE_NAMES = ("role", "from", "speaker", "author", "name")
_MAX_DEPTH = 3
"""Objects in objects that a text, an address or a title is looked for in."""
_URL_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]")
_MAX_JSON_FIELD = 1 << 20
"""Longest field of JSON in a string that an address is looked for in."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class RowText:
    """Text of a row; ``name`` is its field, empty where the row has none that is known."""

    text: str | bytes
    name: str
    holder: Row
    """The object that holds the field."""
    is_blank: bool = True
    """True where a field without text is null or empty, and not something else than a text."""


def find_text(row: Row, field: str = "") -> RowText:
    """Find the text of a row; an empty one where its field is null or blank.

    Args:
        row: The row.
        field: Dotted name of the field; empty for the known ones.
    """
    if field:
        value = look_up(row, field)
        is_there = value is not None or _has_field(row, field)
        return RowText(_text_of(value), field if is_there else "", row, _is_blank(value))
    plain = row.get("text")
    if type(plain) is str and plain and not plain.isspace():
        return RowText(plain, "text", row)
    return _search_text(row, 0) or RowText("", "", row)


def _search_text(row: Row, depth: int) -> RowText | None:
    """Text by the known names; one that is empty where all of them are."""
    names = {name.lower(): name for name in reversed(list(row)) if isinstance(name, str)}
    empty: RowText | None = None
    for wanted in (*TEXT_NAMES, *CONVERSATION_NAMES):
        name = names.get(wanted)
        if name is None:
            continue
        value = row[name]
        holder = row
        if isinstance(value, Mapping) and depth < _MAX_DEPTH:
            inner = _search_text(value, depth + 1)
            if inner is not None and inner.text:
                return inner
            holder = value
        text = _text_of(value)
        if text:
            return RowText(text, wanted, holder)
        empty = empty or RowText("", wanted, row, _is_blank(value))
    if depth < _MAX_DEPTH:
        for value in row.values():
            inner = _search_text(value, depth + 1) if isinstance(value, Mapping) else None
            if inner is not None and inner.text:
                return inner
    others = [name for name in row if name.lower() not in _KNOWN_NAMES] if depth == 0 else []
    if empty is None and len(row) == 1 and others and isinstance(row[others[0]], str | bytes):
        return RowText(_text_of(row[others[0]]), others[0], row)  # a row of nothing else
    return empty


def find_address(row: Row, holder: Row, field: str = "") -> str:
    """Find the address of a row's page; empty where it has none that is an address.

    Args:
        row: The row.
        holder: The object in it that holds the text.
        field: Dotted name of the field; empty for the known ones.
    """
    if field:
        value = look_up(row, field)
        return value.strip() if isinstance(value, str) and is_address(value) else ""
    plain = row.get("url")
    if type(plain) is str and is_address(plain):
        return plain.strip()
    found = _search_names(row, holder, URL_NAMES, is_address)
    return found.strip()


def find_title(row: Row, holder: Row, field: str = "") -> str:
    """Find the title of a row's page; empty where it has none.

    Args:
        row: The row.
        holder: The object in it that holds the text.
        field: Dotted name of the field; empty for the known ones.
    """
    if field:
        value = look_up(row, field)
        return value if isinstance(value, str) else ""
    plain = row.get("title")
    if type(plain) is str and plain and not plain.isspace():
        return plain
    return _search_names(row, holder, TITLE_NAMES, lambda value: bool(value.strip()))


def may_hold_text(names: Sequence[str], field: str = "") -> bool:
    """True for the columns of a table of plain values if its rows can have a text.

    Args:
        names: Names of the columns.
        field: Dotted name of the text's field; empty for the known ones.
    """
    lowered = {name.lower() for name in names}
    if field:
        return field.lower() in lowered or field.partition(".")[0].lower() in lowered
    return len(names) == 1 or not lowered.isdisjoint((*TEXT_NAMES, *CONVERSATION_NAMES))


def look_up(row: Row, field: str) -> Any:
    """Value of a dotted field; None where there is none. A name that holds a dot comes first."""
    if field in row:
        return row[field]
    value: Any = row
    for name in field.split("."):
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = _parse_object(value)
        if isinstance(value, Sequence) and not isinstance(value, str | bytes) and name.isdigit():
            value = value[int(name)] if int(name) < len(value) else None
        elif isinstance(value, Mapping):
            lowered = {str(key).lower(): key for key in value}
            value = value.get(name, value.get(lowered.get(name.lower(), name)))
        else:
            return None
    return value


def _has_field(row: Row, field: str) -> bool:
    first = field.partition(".")[0].lower()
    return any(str(name).lower() in (first, field.lower()) for name in row)


def _search_names(row: Row, holder: Row, wanted: Iterable[str], is_fit: Any, depth: int = 0) -> str:
    """First fit string under one of the names: in the holder, the row, and objects in the row."""
    for place in (holder, row) if holder is not row else (row,):
        names = {name.lower(): name for name in reversed(list(place)) if isinstance(name, str)}
        for name in wanted:
            value = place.get(names.get(name, name))
            if isinstance(value, bytes):
                value = value.decode(errors="replace")
            if isinstance(value, str) and is_fit(value):
                return value
    if depth < _MAX_DEPTH:
        for value in row.values():
            if type(value) is str and value.startswith("{") and len(value) < _MAX_JSON_FIELD:
                value = _parse_object(value)
            if isinstance(value, Mapping) and value:
                found = _search_names(value, value, wanted, is_fit, depth + 1)
                if found:
                    return found
    return ""


def _parse_object(text: str) -> Row | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, Mapping) else None


def is_address(value: str) -> bool:
    """True for a text that begins with a scheme, as an address does."""
    return _URL_SCHEME.match(value.lstrip()) is not None


def _text_of(value: Any, depth: int = 0) -> str | bytes:
    """Text of a value: a string, bytes, a list of texts or of messages; else empty."""
    if isinstance(value, str):
        return value if value and not value.isspace() else ""
    if isinstance(value, bytes | bytearray | memoryview):
        content = bytes(value)
        return content if content.strip() else b""
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(value, Mapping):
        return _message_text(value, depth)
    if isinstance(value, Sequence):
        parts = [_as_string(_text_of(part, depth + 1)) for part in value]
        return "\n\n".join(part for part in parts if part)
    return ""


def _message_text(message: Row, depth: int) -> str:
    """Text of a part or message, behind the name of its role where it has one."""
    names = {str(name).lower(): name for name in message}
    heading = next((names[name] for name in ("heading", "title") if name in names), None)
    for wanted in ("text", "content", "contents", "value", "body", "message", "paragraphs"):
        text = _as_string(_text_of(message[names[wanted]], depth + 1)) if wanted in names else ""
        if not text:
            continue
        role = next((message[names[name]] for name in _ROLE_NAMES if name in names), None)
        if isinstance(role, str) and role:
            return f"{role}: {text}"
        title = message[heading] if heading is not None else None
        return f"## {title}\n\n{text}" if isinstance(title, str) and title else text
    return ""


def _is_blank(value: Any) -> bool:
    """True for null, nothing, and pandas' not-a-number for either."""
    return value is None or isinstance(value, str | bytes) or value in ([], {}) or value != value


def _as_string(text: str | bytes) -> str:
    return text.decode(errors="replace") if isinstance(text, bytes) else text
