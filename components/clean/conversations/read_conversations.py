"""Stage ``conversations``: a team's own conversations, from files to a corpus of dialogues.

A conversation is a document: its text is that of all turns, so that scores, rules, ledger, trace
and orders to forget treat it as a page; ``messages.parquet`` beside the shards holds the messages.
The held-out ones are drawn by the digest of their content before anything is judged. Then, as for
pages: evaluation items, personal data and secrets, copies. The ledger has a line for every row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from components.clean.contamination.score import measure_contamination
from components.clean.conversations.chat_rows.chat_files import read_chat_rows
from components.clean.conversations.chat_rows.conversation import read_conversation
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
)
from components.clean.conversations.conversations_config import (
    ConversationsConfig,
    ConversationSelectConfig,
)
from components.clean.conversations.set_aside_rows import SetAsideRow, SetAsideRows
from components.clean.duplicates.dedup_decision import DUPLICATES
from components.clean.duplicates.score import measure_duplicates
from components.clean.pii.named_entities import check_pipeline
from components.clean.pii.score import score_pii_shard
from components.core.errors import ConfigError, DataError
from components.core.io.json_values import BrokenJson
from components.core.store.artifact import Corpus
from components.core.store.document_rows import shard_of
from components.core.store.shards import map_shards, shard_name
from components.core.store.workdir import Workdir


def read_conversations(config: ConversationsConfig, work: Workdir) -> Corpus:
    """Read, split and clean the conversations of all files.

    Args:
        config: Files, bounds, and the scores and rules on conversations.
        work: Folder of the corpus.

    Raises:
        ConfigError: there are no files, or names are wanted and their pipeline is missing.
        DataError: a file changed or holds no conversation, too many rows are bad, or none is left.
    """
    if not config.files:
        raise ConfigError("conversations: no files; name them under instructions.files")
    check_pipeline(config.pii.names)
    folders = ShardFolders(*(work.scratch / name for name in ("rows", "documents", "compared")))
    set_aside = _read_files(config, folders, work)
    scores = _score(config, folders, work)
    judge = ConversationJudge(_forget_everywhere(config), folders, scores)
    judge.write_corpus(work.folder, _by_shard(set_aside, config.shards))
    if not judge.tally.conversations:
        raise DataError(_nothing_left(judge.tally))
    rows = {"rows": float(sum(set_aside.read.values())), "set_aside": float(len(set_aside.rows))}
    return work.seal(Corpus, stats={**judge.tally.as_stats(), **rows})


def _read_files(config: ConversationsConfig, folders: ShardFolders, work: Workdir) -> SetAsideRows:
    """Write the conversations of all files to shards; the rows that hold none.

    Raises:
        DataError: a file gives nothing, or too many rows are bad.
    """
    set_aside = SetAsideRows()
    writer = ShardWriter(folders.rows, config.shards)
    work.progress.start_count(None, "rows")
    for ordinal, file in enumerate(config.files):
        name = file.place
        for number, row in read_chat_rows(file, config.max_characters, work.scratch):
            place = RowPlace(name, ordinal, number)
            set_aside.read[name] = set_aside.read.get(name, 0) + 1
            try:
                if isinstance(row, BrokenJson):
                    raise RefusedRow(row.reason)
                writer.add(place, read_conversation(row, config.max_characters))
            except RefusedRow as refused:
                set_aside.rows.append(SetAsideRow(place, str(refused)))
            work.progress.advance()
        set_aside.check_file(name)
    writer.close()
    # Written also where too many are bad, so that `trace` has the reason of each.
    set_aside.write_quarantine(work.folder)
    set_aside.check_share(config.max_bad_share)
    sort_shards(folders, writer.digests, config.heldout_share)
    return set_aside


def _score(config: ConversationsConfig, folders: ShardFolders, work: Workdir) -> dict[str, Path]:
    """Role -> folder of the scores of all conversations."""
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
    """Rules whose orders to forget one conversation hold for equal ones of every file."""
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


def _nothing_left(tally: ConversationTally) -> str:
    rule, count = min(tally.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return (
        f"conversations: none is left of {tally.dropped}; rule {rule} took most ({count}); widen "
        "its bound under select"
    )
