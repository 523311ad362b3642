"""Stage ``conversations``: a team's own conversations, from files to a corpus of dialogues.

A conversation is a document: its text is that of all turns; ``messages.parquet`` beside the shards
holds the messages. The held-out ones are drawn by the digest of their content.
"""

from __future__ import annotations

from functools import partial

from components.clean.conversations.chat_rows.chat_formats import KNOWN_FIELDS
from components.clean.conversations.chat_rows.conversation import read_conversation
from components.clean.conversations.conversation_copies import find_copies
from components.clean.conversations.conversations_config import ConversationsConfig
from components.clean.conversations.row_corpus import RowKind, write_row_corpus
from components.clean.conversations.set_aside_rows import RowWords
from components.core.store.artifact import Corpus
from components.core.store.workdir import Workdir
from components.text.chat.chat_turns import MESSAGES_FILE

CONVERSATION_WORDS = RowWords("instructions", "conversations", "conversation", KNOWN_FIELDS)


def read_conversations(config: ConversationsConfig, work: Workdir) -> Corpus:
    """Read, split and clean the conversations of all files.

    Args:
        config: Files, bounds, and the scores and rules on conversations.
        work: Folder of the corpus.

    Raises:
        ConfigError: there are no files, or names are wanted and their pipeline is missing.
        DataError: a file changed or holds no conversation, too many rows are bad, or none is left.
    """
    read = partial(read_conversation, max_characters=config.max_characters)
    kind = RowKind(CONVERSATION_WORDS, MESSAGES_FILE, read, find_copies)
    return work.seal(Corpus, stats=write_row_corpus(config, kind, work))
