"""Redaction of spans by placeholders, the same for the same value within a document."""

from __future__ import annotations

import re
from collections.abc import Iterable

from components.text.pii.find_pii import find_pii_spans
from components.text.spans import EXAMPLE_SUFFIX, Span, claim_spans

_MAY_HOLD_PII = re.compile(r"[@\uff20\d]|PRIVATE KEY|[\[({<\uff08] ?(?i:at) ?[\])}>\uff09]")
"""Every kind of span holds one of these."""


class Redactor:
    """Redactor of one document: ``<EMAIL_1>``, ``<EMAIL_2>``, numbered as they appear."""

    def __init__(self, kinds: frozenset[str]) -> None:
        self._kinds = kinds
        self._placeholders: dict[tuple[str, str], str] = {}
        self._last: dict[str, int] = {}

    def replace(self, text: str, spans: Iterable[Span]) -> str:
        """Replace the spans of the wanted kinds in a text; the spans are sorted, apart."""
        pieces: list[str] = []
        at = 0
        for span in spans:
            if span.kind in self._kinds:
                pieces.append(text[at : span.start])
                pieces.append(self._placeholder(span.kind, text[span.start : span.end]))
                at = span.end
        return "".join([*pieces, text[at:]]) if pieces else text

    def redact(self, text: str, name_spans: Iterable[Span] = ()) -> str:
        """Replace all that the detectors find in a text, and the spans of names that are given."""
        if not self._kinds:
            return text
        spans = find_pii_spans(text) if _MAY_HOLD_PII.search(text) else []
        claim_spans(spans, name_spans)
        return self.replace(text, spans)

    def _placeholder(self, kind: str, value: str) -> str:
        name = kind.removesuffix(EXAMPLE_SUFFIX).upper()
        if (name, value) not in self._placeholders:
            self._last[name] = self._last.get(name, 0) + 1
            self._placeholders[name, value] = f"<{name}_{self._last[name]}>"
        return self._placeholders[name, value]
