"""Edits on documents that are kept: marked spans are cut, then each rule does its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.clean.selection_rule import MarkedSpan, Rule, ScoredShard
from components.text.spans import Span, remove_stretches


def edit_document(
    document: dict[str, Any],
    marks: Sequence[tuple[Rule, list[MarkedSpan]]],
    shard: ScoredShard,
    row: int,
) -> None:
    """Cut and redact a kept document in place.

    Args:
        document: Its columns.
        marks: Each rule with its marks on the document's text.
        shard: The shard the document comes from.
        row: Its row there.
    """
    cuts = merge_overlapping(
        [(s.start, s.end) for _, spans in marks for s in spans if s.action == "cut"]
    )
    rest = [[Span(*s[:3]) for s in spans if s.action != "cut"] for _, spans in marks]
    if cuts:
        rest = _cut_out(document, cuts, rest)
    for (rule, _), spans in zip(marks, rest, strict=True):
        rule.edit_document(document, spans, shard, row)


def merge_overlapping(stretches: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(start, end) in order and apart; what overlaps is one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _cut_out(
    document: dict[str, Any], cuts: list[tuple[int, int]], spans_of_rules: list[list[Span]]
) -> list[list[Span]]:
    """Take ``cuts`` out of a document's text and headings; where each rule's spans stand now."""
    text = document["text"]
    for start, end in cuts:
        heading = text[start:end].strip().lstrip("#").strip()
        if heading in document["headings"]:
            document["headings"].remove(heading)
    left, _ = remove_stretches(text, cuts, [])
    document["text"] = left.strip("\n")
    blank = len(left) - len(left.lstrip("\n"))
    return [
        [
            Span(s.start - blank, s.end - blank, s.kind)
            for s in remove_stretches(text, cuts, spans)[1]
        ]
        for spans in spans_of_rules
    ]
