"""Trial of the first rows of a user's file, before a run spends hours on other stages."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from components.clean.conversations.chat_rows.chat_files import read_chat_rows
from components.clean.conversations.chat_rows.conversation import Conversation
from components.clean.conversations.chat_rows.refused_row import RefusedRow
from components.clean.conversations.set_aside_rows import RowWords
from components.core.config.hashed_file import HashedFile
from components.core.errors import DataError
from components.core.io.json_values import BrokenJson

_TRIED_ROWS = 50
"""First rows of which one must be good: a file may begin with some bad ones."""


def explain_unusable_file(
    file: HashedFile, read: Callable[[Any], Conversation], words: RowWords, max_characters: int
) -> str:
    """Problem of a file none of whose first rows is good; empty where there is none.

    Args:
        file: the user's file.
        read: reads a decoded row; raises ``RefusedRow``.
        words: for the rows.
        max_characters: longest text of a row.
    """
    first = ""
    try:
        with tempfile.TemporaryDirectory() as scratch:
            rows = read_chat_rows(file, max_characters, Path(scratch), words.section)
            for number, row in islice(rows, _TRIED_ROWS):
                try:
                    if isinstance(row, BrokenJson):
                        raise RefusedRow(row.reason)
                    read(row)
                except RefusedRow as refused:
                    first = first or f"row {number} {refused}"
                else:
                    return ""
    except DataError as error:
        return str(error).removeprefix(f"{words.section}.files: ")  # the caller names the field
    if not first:
        return f"{file.name} holds no row"
    return (
        f"none of the first rows of {file.name} is a {words.thing}, the first: {first}; fields "
        f"looked for: {words.fields}"
    )
