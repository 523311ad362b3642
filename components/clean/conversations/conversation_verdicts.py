"""Verdicts on conversations: rules and copies decide, what is kept is redacted, all is recorded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.clean.conversations.chat_rows.conversation import dump_json
from components.clean.conversations.chat_rows.message_texts import (
    document_text,
    redact_messages,
    redact_strings,
)
from components.clean.conversations.conversation_copies import find_copies
from components.clean.conversations.conversation_shards import (
    ShardFolders,
    label_row,
    repeated_rows,
)
from components.clean.conversations.conversations_config import ConversationSelectConfig
from components.clean.conversations.set_aside_rows import SetAsideRow, list_verdicts
from components.clean.duplicates.dedup_decision import DUPLICATES
from components.clean.select import apply_rules, list_failures
from components.clean.selection_rule import MarkedSpan, ScoredShard
from components.clean.verdict_ledger import ledger_table
from components.core.store.artifact import DROPPED_BY_PREFIX
from components.core.store.document_rows import DOCUMENT_SCHEMA
from components.core.store.shards import write_shard, zip_shards
from components.text.chat.chat_turns import MESSAGES_FILE, conversation_subject
from components.text.pii.redact import Redactor
from components.text.spans import Span

MESSAGES_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("heldout", pa.bool_(), nullable=False),
        pa.field("messages", pa.string(), nullable=False),  # JSON, a list of OpenAI's messages
        pa.field("tools", pa.string()),  # JSON, a list of schemas; null where there are none
    ]
)
_OWN_LEDGER_FIELDS = (
    pa.field("row", pa.string()),  # file:number
    pa.field("heldout", pa.bool_()),  # null for a row that is set aside
    pa.field("cut_turns", pa.int64()),  # behind the last answer
)


@dataclass
class ConversationTally:
    """Counts of verdicts."""

    conversations: int = 0
    heldout: int = 0
    dropped: int = 0
    cut_turns: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)

    def as_stats(self) -> dict[str, float]:
        """Stats of the corpus, conversations that are kept first."""
        return {
            "conversations": float(self.conversations),
            "heldout": float(self.heldout),
            "dropped": float(self.dropped),
            "cut_turns": float(self.cut_turns),
            **{f"{DROPPED_BY_PREFIX}{rule}": float(n) for rule, n in sorted(self.reasons.items())},
            **{f"redacted_{kind}": float(n) for kind, n in sorted(self.redacted.items())},
        }


class ConversationJudge:
    """Judge of all conversations by the rules, then by the copies among those that pass.

    Args:
        rules: rules and orders to forget.
        folders: conversations as they were read.
        scores: role -> folder of the scores of ``folders.documents``.
    """

    def __init__(
        self, rules: ConversationSelectConfig, folders: ShardFolders, scores: Mapping[str, Path]
    ) -> None:
        self._rules, self._folders, self._scores = rules, folders, scores
        self.tally = ConversationTally()
        passing: set[str] = set()
        for _, shard in self._shards():
            failed = list_failures(apply_rules(rules, shard))
            identifiers = shard.documents["id"].to_pylist()
            passing.update(i for row, i in enumerate(identifiers) if row not in failed)
        self._copies = find_copies(folders.documents, scores[DUPLICATES], passing, rules.duplicates)

    def write_corpus(self, target: Path, set_aside: Mapping[str, Sequence[SetAsideRow]]) -> None:
        """Write shards, ledger and messages.

        Args:
            target: folder of the corpus.
            set_aside: name of a shard -> rows that hold no conversation, for its ledger.
        """
        (target / "ledger").mkdir(exist_ok=True)
        messages: list[dict[str, Any]] = []
        for name, shard in self._shards():
            findings = apply_rules(self._rules, shard)
            reasons = list_failures(findings)
            for row, identifier in enumerate(shard.documents["id"].to_pylist()):
                if identifier in self._copies:
                    reasons[row] = [self._copies[identifier].rule]
            marks = [rule.mark_spans(shard) for rule in self._rules.rules]
            ledger = ledger_table(self._rules.rules, shard, findings, reasons, marks, self._copies)
            repeated = list(repeated_rows(self._folders, name))
            ledger = _whole_ledger(ledger, shard.documents, repeated, set_aside.get(name, ()))
            write_shard(target / "ledger" / name, ledger)
            self._count(shard, reasons, repeated)
            rows = [
                self._redact(shard, row, [spans for mark in marks for spans in mark[row]])
                for row in range(len(shard.documents))
                if row not in reasons
            ]
            documents = [{**row, "text": document_text(row["messages"])} for row in rows]
            write_shard(target / name, pa.Table.from_pylist(documents, schema=DOCUMENT_SCHEMA))
            messages += [{**row, "messages": dump_json(row["messages"])} for row in rows]
        table = pa.Table.from_pylist(messages, schema=MESSAGES_SCHEMA)
        write_shard(target / MESSAGES_FILE, table)

    def _shards(self) -> Iterator[tuple[str, ScoredShard]]:
        for name, documents, tables in zip_shards(self._folders.documents, self._scores):
            yield name, ScoredShard(documents, tables)

    def _count(
        self,
        shard: ScoredShard,
        reasons: Mapping[int, list[str]],
        repeated: Sequence[Mapping[str, Any]],
    ) -> None:
        tally = self.tally
        tally.conversations += len(shard.documents) - len(reasons)
        tally.dropped += len(reasons) + len(repeated)
        tally.reasons.update(rule for failed in reasons.values() for rule in failed)
        tally.reasons.update({DUPLICATES: len(repeated)} if repeated else {})
        columns = (shard.documents[name].to_pylist() for name in ("heldout", "cut_turns"))
        for row, (heldout, cut_turns) in enumerate(zip(*columns, strict=True)):
            if row not in reasons:
                tally.heldout += heldout
                tally.cut_turns += cut_turns

    def _redact(self, shard: ScoredShard, row: int, marks: Sequence[MarkedSpan]) -> dict[str, Any]:
        """Columns of a kept conversation, its messages decoded and redacted."""
        document: dict[str, Any] = shard.documents.slice(row, 1).to_pylist()[0]
        kinds = self._rules.pii.redacted_kinds()
        redactor = Redactor(kinds)
        spans = [Span(mark.start, mark.end, mark.kind) for mark in marks]
        self.tally.redacted.update(span.kind for span in spans if span.kind in kinds)
        messages = redact_messages(json.loads(document["messages"]), spans, redactor)
        tools = document["tools"]
        if tools is not None:
            tools = dump_json(redact_strings(json.loads(tools), redactor))
        subject = conversation_subject(messages)
        return {**document, "messages": messages, "tools": tools, "title": subject}


def _whole_ledger(
    verdicts: pa.Table,
    documents: pa.Table,
    repeated: Sequence[Mapping[str, Any]],
    set_aside: Sequence[SetAsideRow],
) -> pa.Table:
    """Ledger of a shard with its own columns, and lines of rows that are no document of it."""
    labels = [label_row(row) for row in documents.select(["source", "number"]).to_pylist()]
    own = [pa.array(labels, type=pa.string()), documents["heldout"], documents["cut_turns"]]
    for column, values in zip(_OWN_LEDGER_FIELDS, own, strict=True):
        verdicts = verdicts.append_column(column, values)
    copies = [
        {
            "id": row["id"],
            "url": row["url"],
            "kept": False,
            "reasons": [DUPLICATES],
            "rules": [],
            "spans": [],
            "duplicate_of": row["id"],
            "similarity": 1.0,
            "max_similarity": 1.0,
            "row": label_row(row),
        }
        for row in repeated
    ]
    more = pa.Table.from_pylist([*copies, *list_verdicts(set_aside)], schema=verdicts.schema)
    return pa.concat_tables([verdicts, more])
