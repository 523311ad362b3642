"""Stage ``own_preferences``: a team's own judged answers, from files to a corpus.

A row of a file is a document, so that rules, ledger, trace and orders to forget reach it as they
reach a page: its text is the prompt with all answers. ``judged.parquet`` beside the shards holds
the turns and the judgements. The held-out ones are drawn by their prompt, before all else.
"""

from __future__ import annotations

from functools import partial

from pydantic import Field

from components.clean.conversations.conversations_config import ConversationsConfig
from components.clean.conversations.row_corpus import RowKind, write_row_corpus
from components.clean.conversations.set_aside_rows import RowWords
from components.clean.preferences.judged_row import read_judged_row
from components.clean.preferences.preference_copies import find_preference_copies
from components.clean.preferences.preference_formats import KNOWN_FIELDS
from components.core.errors import DataError
from components.core.log import get_logger
from components.core.store.artifact import Corpus
from components.core.store.workdir import Workdir
from components.text.chat.judged_prompts import JUDGED_FILE, read_judged_prompts

log = get_logger(__name__)
PREFERENCE_WORDS = RowWords("preferences", "own_preferences", "preference", KNOWN_FIELDS)


class OwnPreferencesConfig(ConversationsConfig):
    """Files of judged answers, the split of held-out ones, and the scores and rules on them."""

    heldout_share: float = Field(
        default=0.1, ge=0, le=0.5, description="share of prompts that no reward is learnt from"
    )
    ratings: tuple[str, ...] = Field(
        default=(), description="fields whose mean is an answer's rating; none looks for usual ones"
    )


def read_preferences(config: OwnPreferencesConfig, work: Workdir) -> Corpus:
    """Read, split and clean the judged answers of all files.

    Args:
        config: Files, bounds, and the scores and rules on rows.
        work: Folder of the corpus.

    Raises:
        ConfigError: there are no files, or names are wanted and their pipeline is missing.
        DataError: a file changed or holds no judged answer, too many rows are bad, none is left,
            or no prompt has answers that are judged apart.
    """
    read = partial(read_judged_row, max_characters=config.max_characters, ratings=config.ratings)
    kind = RowKind(PREFERENCE_WORDS, JUDGED_FILE, read, find_preference_copies)
    stats = write_row_corpus(config, kind, work)
    prompts = read_judged_prompts(work.folder)
    apart = [prompt for prompt in prompts if prompt.spread > 0]
    if not any(not prompt.heldout for prompt in apart):
        raise DataError(
            f"own_preferences: {len(prompts)} prompts, and none to learn from has two answers "
            "judged apart; give pairs, or more than one rated answer to a prompt, under "
            "preferences.files"
        )
    if len(apart) < len(prompts):
        log.warning(
            "own_preferences: %d of %d prompts have no two answers judged apart, which teach "
            "nothing",
            *(len(prompts) - len(apart), len(prompts)),
        )
    counts = {"prompts": float(len(prompts)), "prompts_apart": float(len(apart))}
    return work.seal(Corpus, stats={**stats, **counts})
