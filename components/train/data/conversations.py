"""Tokenized conversations for fine-tuning, in batches of similar length.

Each epoch asks every question in another of its wordings; the order of the batches is a pure
function of seed, digest and step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.core.errors import DataError
from components.core.log import get_logger
from components.core.store.shards import read_shard
from components.text.chat.chat_tokenizer import TokenizedConversation, open_tokenizer
from components.text.chat.template_sandbox import ChatFormatError

log = get_logger(__name__)
TRAIN_FILE, OWN_TRAIN_FILE = "train.parquet", "train.conversations.parquet"
QUESTION_COLUMNS = ("kind", "question", "answer")
OWN_COLUMNS = ("id", "kind", "messages", "tools")
Row = dict[str, Any]
POOL_BATCHES = 32
"""Batches' worth of examples that are sorted by length together.

Larger pools pad less, smaller ones keep the order more random.
"""


class Conversations:
    """Instructions as tokenized conversations: questions made of pages, and a team's own.

    A question has the wordings of its column ``wordings``, where there is one, and is asked in the
    next of them every epoch, so that the fact is learnt and not a sentence.

    Args:
        folder: that of ``Instructions``.
        tokenizer_folder: folder of the model's tokenizer.
        longest: longer conversations, in tokens, are left out.
        kinds: kinds of question to learn from; none is all.
        own_weight: times that each own conversation is in an epoch; of a fraction, a part of them
            that goes round.

    Raises:
        DataError: none is left.
    """

    def __init__(
        self,
        folder: Path,
        tokenizer_folder: Path,
        *,
        longest: int,
        kinds: Sequence[str] = (),
        own_weight: float = 1.0,
    ) -> None:
        self._tokenizer = open_tokenizer(tokenizer_folder)
        self._longest, self._own_weight = longest, own_weight
        self._questions = _read_rows(folder / TRAIN_FILE, QUESTION_COLUMNS, kinds)
        own_file = folder / OWN_TRAIN_FILE
        rows = _read_rows(own_file, OWN_COLUMNS, kinds) if own_file.is_file() else []
        self.left_out: dict[str, float] = {}
        """Number of own conversations that are too long, or that the template refuses."""
        self._own = self._encode_own(rows)
        self._first_epoch = self._encode_epoch(0)  # counted here, trained on next
        self.count = len(self._first_epoch)
        if not self.count:
            raise DataError(
                f"sft: no instruction of at most {longest} tokens"
                + (f" of the kinds {', '.join(kinds)} (sft.kinds)" if kinds else "")
                + f" in {folder.name[:24]}: raise sft.longest, or give more conversations under "
                "instructions.files or more pages with headings under scrape"
            )

    def epoch_conversations(self, epoch: int) -> list[TokenizedConversation]:
        """All conversations of an epoch; answers are the same in each."""
        return self._encode_epoch(epoch) if epoch else self._first_epoch

    def _encode_epoch(self, epoch: int) -> list[TokenizedConversation]:
        return [*self.encode_questions(epoch), *self.choose_own(epoch)]

    def encode_questions(self, epoch: int) -> list[TokenizedConversation]:
        """Questions made of pages, in the wording of an epoch."""
        examples: list[TokenizedConversation] = []
        for row in self._questions:
            wordings = row.get("wordings") or [row["question"]]
            question = wordings[epoch % len(wordings)]
            example = self._tokenizer.encode_answer(question, row["answer"])
            if len(example.ids) <= self._longest:
                examples.append(example)
        return examples

    def choose_own(self, epoch: int) -> list[TokenizedConversation]:
        """Own conversations by their weight: whole rounds, then a window that moves on."""
        rounds, part = divmod(self._own_weight, 1.0)
        size = round(part * len(self._own))
        window = [self._own[(epoch * size + at) % len(self._own)] for at in range(size)]
        return self._own * int(rounds) + window

    def _encode_own(self, rows: Sequence[Row]) -> list[TokenizedConversation]:
        examples: list[TokenizedConversation] = []
        refused: list[str] = []
        too_long = 0
        for row in rows:
            tools = json.loads(row["tools"]) if row["tools"] else None
            try:
                parts = self._tokenizer.encode_conversation(json.loads(row["messages"]), tools)
            except ChatFormatError as error:
                refused.append(f"{row.get('url') or row['id']}: {error}")
                continue
            fitting = [part for part in parts if len(part.ids) <= self._longest]
            too_long += len(fitting) < len(parts)
            examples += fitting
        if rows:
            self.left_out = {"own_too_long": float(too_long), "own_refused": float(len(refused))}
        if too_long:
            log.warning(
                "sft: %d of %d own conversations are longer than %d tokens in part or whole and "
                "left out: raise sft.longest",
                *(too_long, len(rows), self._longest),
            )
        if refused:
            log.warning(
                "sft: the chat template refuses %d of %d own conversations, the first is %s",
                *(len(refused), len(rows), refused[0]),
            )
        return examples


def _read_rows(path: Path, columns: Sequence[str], kinds: Sequence[str]) -> list[Row]:
    table = read_shard(path)
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise DataError(f"{path.name}: column {missing[0]!r} is missing")
    rows: list[Row] = table.to_pylist()
    return [row for row in rows if not kinds or row["kind"] in kinds]


class ConversationBatches:
    """Batches of conversations of similar length: a pure function of (seed, digest, step).

    Args:
        of_epoch: gives the conversations of an epoch; each is in one batch of it.
        tokens: tokens of a batch at most, padding included.
        seed: seed of the order.
        digest: digest of the instructions; the order depends on it too.
    """

    def __init__(
        self,
        of_epoch: Callable[[int], Sequence[TokenizedConversation]],
        tokens: int,
        seed: int,
        digest: str,
    ) -> None:
        self._of_epoch, self._tokens, self._seed = of_epoch, tokens, seed
        self._digest = int(digest[:16] or "0", 16)
        self._epoch: tuple[int, list[list[TokenizedConversation]]] | None = None
        self.batches_per_epoch = len(self._open_epoch(0))

    def batch(self, step: int) -> list[TokenizedConversation]:
        """Conversations of one step."""
        epoch, index = divmod(step, self.batches_per_epoch)
        batches = self._open_epoch(epoch)
        # With other wordings an epoch may have a batch more or less than the first.
        return batches[index % len(batches)]

    def _open_epoch(self, epoch: int) -> list[list[TokenizedConversation]]:
        if self._epoch is None or self._epoch[0] != epoch:
            examples = self._of_epoch(epoch)
            draw = np.random.default_rng([self._seed, self._digest, epoch])
            order = [examples[number] for number in draw.permutation(len(examples))]
            batches: list[list[TokenizedConversation]] = []
            for pool in self._pools(order):
                pool.sort(key=lambda example: len(example.ids))
                batches.extend(self._cut_pool(pool))
            self._epoch = (epoch, [batches[index] for index in draw.permutation(len(batches))])
        return self._epoch[1]

    def _pools(self, order: Sequence[TokenizedConversation]) -> list[list[TokenizedConversation]]:
        pools: list[list[TokenizedConversation]] = [[]]
        pool_tokens = 0
        for example in order:
            if pool_tokens >= POOL_BATCHES * self._tokens:
                pools.append([])
                pool_tokens = 0
            pools[-1].append(example)
            pool_tokens += len(example.ids)
        return pools

    def _cut_pool(
        self, by_length: Sequence[TokenizedConversation]
    ) -> list[list[TokenizedConversation]]:
        """Split a sorted pool into batches whose padded size stays within ``tokens``."""
        batches: list[list[TokenizedConversation]] = [[]]
        for example in by_length:
            if batches[-1] and (len(batches[-1]) + 1) * len(example.ids) > self._tokens:
                batches.append([])
            batches[-1].append(example)
        return batches


@dataclass(frozen=True)
class BatchPhases:
    """Batches of one set of conversations, then of another: a pure function of the step."""

    first: ConversationBatches
    second: ConversationBatches
    first_steps: int
    """Steps over the first set."""

    @property
    def batches_per_epoch(self) -> int:
        """Batches of one pass over both sets."""
        return self.first.batches_per_epoch + self.second.batches_per_epoch

    def batch(self, step: int) -> list[TokenizedConversation]:
        """Conversations of one step."""
        if step < self.first_steps:
            return self.first.batch(step)
        return self.second.batch(step - self.first_steps)


@dataclass(frozen=True)
class ReplayPlan:
    """Steps that replay page text, evenly spread: a pure function of the step's number."""

    share: float
    """Fraction of all steps that replay."""

    def is_replay(self, step: int) -> bool:
        return self.replays_before(step + 1) > self.replays_before(step)

    def replays_before(self, step: int) -> int:
        """Number of replaying steps among the first ``step``."""
        return int(step * self.share)

    def count_steps(self, answer_steps: int) -> int:
        """Fewest steps of which ``answer_steps`` go over answers."""
        steps = int(answer_steps / (1.0 - self.share))
        while steps - self.replays_before(steps) < answer_steps:
            steps += 1
        while steps > 1 and steps - 1 - self.replays_before(steps - 1) >= answer_steps:
            steps -= 1
        return steps
