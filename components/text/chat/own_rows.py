"""Rows of a team's own conversations in ``Instructions``, beside those that are made of pages."""

from __future__ import annotations

import pyarrow as pa

OWN_KIND = "conversation"
"""Kind of every row of a team's own; the kinds of page-made ones say what a question asks for."""
OWN_ROW_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # of the conversation
        pa.field("url", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),  # first line of the last question
        pa.field("question", pa.string(), nullable=False),  # the user's last turn
        pa.field("answer", pa.string(), nullable=False),  # the assistant's last turn
        pa.field("wordings", pa.list_(pa.string()), nullable=False),  # the question alone
        pa.field("reworded", pa.list_(pa.string()), nullable=False),  # none
        pa.field("messages", pa.string(), nullable=False),  # JSON, all turns
        pa.field("tools", pa.string()),  # JSON, null where there are none
    ]
)


def own_rows_file(split: str) -> str:
    """Name of the file of a split: ``train.conversations.parquet``."""
    return f"{split}.conversations.parquet"
