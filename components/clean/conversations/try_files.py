"""Trial of the first rows of a file of conversations, before a run spends hours on other stages."""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path

from components.clean.conversations.chat_rows.chat_files import read_chat_rows
from components.clean.conversations.chat_rows.chat_formats import KNOWN_FIELDS
from components.clean.conversations.chat_rows.conversation import read_conversation
from components.clean.conversations.chat_rows.refused_row import RefusedRow
from components.core.config.hashed_file import HashedFile
from components.core.errors import DataError
from components.core.io.json_values import BrokenJson

_TRIED_ROWS = 50
"""First rows of which one must be a conversation: a file may begin with some bad ones."""


def explain_unusable_file(file: HashedFile, max_characters: int) -> str:
    """Problem of a file none of whose first rows is a conversation; empty where there is none.

    Args:
        file: the user's file.
        max_characters: longest text of a conversation.
    """
    first = ""
    try:
        with tempfile.TemporaryDirectory() as scratch:
            rows = read_chat_rows(file, max_characters, Path(scratch))
            for number, row in islice(rows, _TRIED_ROWS):
                try:
                    if isinstance(row, BrokenJson):
                        raise RefusedRow(row.reason)
                    read_conversation(row, max_characters)
                except RefusedRow as refused:
                    first = first or f"row {number} {refused}"
                else:
                    return ""
    except DataError as error:
        return str(error)
    if not first:
        return f"{file.name} holds no row"
    return (
        f"none of the first rows of {file.name} is a conversation, the first: {first}; fields "
        f"looked for: {KNOWN_FIELDS}"
    )
