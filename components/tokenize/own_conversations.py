"""Instructions from a corpus of a team's own conversations: the last question, and all turns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.core.store.shards import read_shard
from components.text.chat.chat_turns import (
    MESSAGES_FILE,
    conversation_subject,
    last_answer,
    last_question,
)
from components.text.chat.own_rows import OWN_KIND

_COLUMNS = ["id", "url", "heldout", "messages", "tools"]


def read_own_rows(corpus: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(training, held-out) rows of ``OWN_ROW_SCHEMA``, in the order of the corpus.

    Raises:
        DataError: the corpus holds no messages, or they lack a column.
    """
    sides: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for row in read_shard(corpus / MESSAGES_FILE, _COLUMNS).to_pylist():
        messages = json.loads(row["messages"])
        question = last_question(messages)
        sides[row["heldout"]].append(
            {
                "id": row["id"],
                "url": row["url"],
                "kind": OWN_KIND,
                "subject": conversation_subject(messages),
                "question": question,
                "answer": last_answer(messages),
                "wordings": [question],
                "reworded": [],
                "messages": row["messages"],
                "tools": row["tools"],
            }
        )
    return sides[False], sides[True]
