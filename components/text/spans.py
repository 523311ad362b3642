"""A stretch of text of a kind, as every finder of personal data gives it."""

from __future__ import annotations

from typing import NamedTuple

EXAMPLE = "_example"
"""Ends the kind of what documentation writes as an example."""


class Span(NamedTuple):
    """Characters ``start`` to ``end`` of a text."""

    start: int
    end: int
    kind: str


def marked(at: tuple[int, int], kind: str, example: bool) -> Span:
    """A span of ``kind``, or of ``kind_example``."""
    return Span(*at, kind + EXAMPLE if example else kind)
