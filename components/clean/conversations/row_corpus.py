"""Corpus of the rows of users' files: read, split, scored, judged, written with a ledger.

A row is a document, so that rules, trace and orders to forget treat it as a page. The split is
fixed before anything is judged. Then, as for pages: evaluation items, personal data and secrets,
copies. The ledger has a line for every row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.clean.contamination.score import measure_contamination
from components.clean.conversations.chat_rows.chat_files import read_chat_rows
from components.clean.conversations.chat_rows.conversation import Conversation
from components.clean.conversations.chat_rows.refused_row import RefusedRow
from components.clean.conversations.conversation_shards import (
    RowPlace,
    ShardFolders,
    ShardWriter,
    sort_shards,
)
from components.clean.conversations.conversation_verdicts import (
    ConversationJudge,
    ConversationTally,
    CopyFinder,
)
from components.clean.conversations.conversations_config import (
    ConversationsConfig,
    ConversationSelectConfig,
)
from components.clean.conversations.set_aside_rows import RowWords, SetAsideRow, SetAsideRows
from components.clean.duplicates.dedup_decision import DUPLICATES
from components.clean.duplicates.score import measure_duplicates
from components.clean.pii.named_entities import check_pipeline
from components.clean.pii.score import score_pii_shard
from components.core.errors import ConfigError, DataError
from components.core.io.json_values import BrokenJson
from components.core.store.document_rows import shard_of
from components.core.store.shards import map_shards, shard_name
from components.core.store.workdir import Workdir


@dataclass(frozen=True)
class RowKind:
    """Kind of rows: conversations, or judged answers."""

    words: RowWords
    messages_file: str
    """Name of the file of the messages, beside the shards."""
    read: Callable[[Any], Conversation]
    """Reads a decoded row; raises ``RefusedRow``."""
    find_copies: CopyFinder


def write_row_corpus(config: ConversationsConfig, kind: RowKind, work: Workdir) -> dict[str, float]:
    """Read, split and clean the rows of all files into the stage's folder; its stats.

    Args:
        config: Files, bounds, and the scores and rules on rows.
        kind: What a row holds.
        work: Folder of the corpus.

    Raises:
        ConfigError: there are no files, or names are wanted and their pipeline is missing.
        DataError: a file changed or holds no good row, too many rows are bad, or none is left.
    """
    words = kind.words
    if not config.files:
        raise ConfigError(f"{words.stage}: no files; name them under {words.section}.files")
    check_pipeline(config.pii.names)
    folders = ShardFolders(*(work.scratch / name for name in ("rows", "documents", "compared")))
    set_aside = _read_files(config, kind, folders, work)
    scores = _score(config, folders, work)
    judge = ConversationJudge(_forget_everywhere(config), folders, scores, kind.find_copies)
    judge.write_corpus(work.folder, _by_shard(set_aside, config.shards), kind.messages_file)
    if not judge.tally.conversations:
        raise DataError(_nothing_left(judge.tally, words))
    rows = {"rows": float(sum(set_aside.read.values())), "set_aside": float(len(set_aside.rows))}
    return {**judge.tally.as_stats(words.things), **rows}


def _read_files(
    config: ConversationsConfig, kind: RowKind, folders: ShardFolders, work: Workdir
) -> SetAsideRows:
    """Write the good rows of all files to shards; the others are returned.

    Raises:
        DataError: a file gives nothing, or too many rows are bad.
    """
    set_aside = SetAsideRows(kind.words)
    section = kind.words.section
    writer = ShardWriter(folders.rows, config.shards)
    work.progress.start_count(None, "rows")
    for ordinal, file in enumerate(config.files):
        name = file.place
        for number, row in read_chat_rows(file, config.max_characters, work.scratch, section):
            place = RowPlace(name, ordinal, number)
            set_aside.read[name] = set_aside.read.get(name, 0) + 1
            try:
                if isinstance(row, BrokenJson):
                    raise RefusedRow(row.reason)
                writer.add(place, kind.read(row))
            except RefusedRow as refused:
                set_aside.rows.append(SetAsideRow(place, str(refused)))
            work.progress.advance()
        set_aside.check_file(name)
    writer.close()
    # Written also where too many are bad, so that `trace` has the reason of each.
    set_aside.write_quarantine(work.folder)
    set_aside.check_share(config.max_bad_share)
    sort_shards(folders, writer.draws, config.heldout_share)
    return set_aside


def _score(config: ConversationsConfig, folders: ShardFolders, work: Workdir) -> dict[str, Path]:
    """Role -> folder of the scores of all rows."""
    scores = {role: work.scratch / role for role in ("contamination", "pii", DUPLICATES)}
    measure_contamination(config.contamination, folders.documents, scores["contamination"], work)
    map_shards(
        work,
        folders.documents,
        score_pii_shard,
        folder=scores["pii"],
        kinds=[*config.pii.kinds],
        model=config.pii.names.model,
    )
    measure_duplicates(config.duplicates, folders.compared, scores[DUPLICATES], work)
    return scores


def _forget_everywhere(config: ConversationsConfig) -> ConversationSelectConfig:
    """Rules whose orders to forget one row hold for equal ones of every file."""
    digests = {
        url.rpartition("#")[2]
        for url in config.select.blocked_urls
        if url.startswith("file:///") and "#" in url
    }
    copies = {f"file:///{file.place}#{digest}" for file in config.files for digest in digests}
    blocked = tuple(sorted({*config.select.blocked_urls, *copies}))
    return config.select.model_copy(update={"blocked_urls": blocked})


def _by_shard(set_aside: SetAsideRows, shards: int) -> Mapping[str, list[SetAsideRow]]:
    by_shard: dict[str, list[SetAsideRow]] = defaultdict(list)
    for row in set_aside.rows:
        by_shard[shard_name(shard_of(row.id, shards))].append(row)
    return by_shard


def _nothing_left(tally: ConversationTally, words: RowWords) -> str:
    rule, count = min(tally.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return (
        f"{words.stage}: none is left of {tally.dropped}; rule {rule} took most ({count}); widen "
        "its bound under select"
    )
