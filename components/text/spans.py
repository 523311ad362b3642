"""Spans: stretches of text of a kind, as every finder of personal data gives them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

EXAMPLE_SUFFIX = "_example"
"""Suffix of the kind of what documentation writes as an example."""


class Span(NamedTuple):
    """Characters ``start`` to ``end`` of a text."""

    start: int
    end: int
    kind: str


def make_span(at: tuple[int, int], kind: str, example: bool) -> Span:
    """Make a span of ``kind``, or of ``kind_example``.

    Args:
        at: (start, end) in characters.
        kind: kind of personal data.
        example: True for what documentation writes as an example.
    """
    return Span(*at, kind + EXAMPLE_SUFFIX if example else kind)


def remove_stretches(
    text: str, cuts: Iterable[tuple[int, int]], spans: Iterable[Span]
) -> tuple[str, list[Span]]:
    """Remove ``cuts`` from a text; spans that touch none of them move along.

    Args:
        text: any text.
        cuts: (start, end) to remove, in order and apart.
        spans: spans in order and apart.
    """
    pieces: list[str] = []
    moved: list[Span] = []
    waiting = list(spans)
    at = gone = 0
    for start, end in [*cuts, (len(text), len(text))]:
        pieces.append(text[at:start])
        while waiting and waiting[0].start < end:
            span = waiting.pop(0)
            if span.start >= at and span.end <= start:
                moved.append(Span(span.start - gone, span.end - gone, span.kind))
        gone += end - start
        at = end
    return "".join(pieces), moved


def claim_spans(taken: list[Span], more: Iterable[Span]) -> None:
    """Insert each of ``more`` into ``taken``, sorted, where it overlaps no earlier one."""
    for span in more:
        at = bisect_left(taken, span)
        free = at == 0 or taken[at - 1].end <= span.start
        if free and (at == len(taken) or span.end <= taken[at].start):
            taken.insert(at, span)
