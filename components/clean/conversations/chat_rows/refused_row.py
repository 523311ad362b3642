"""Refusal of a row of a user's file, with the reason that its line in the ledger gives."""

from __future__ import annotations

_LONGEST_VALUE = 40
"""Characters shown of a value in a reason: enough to know it by, too few to copy a text."""


class RefusedRow(ValueError):
    """A row that holds no conversation to learn from; the message is the reason."""


def show_short(value: object) -> str:
    """A value as a reason shows it, on one line and cut."""
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}…"
