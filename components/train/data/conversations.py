"""Tokenized conversations for fine-tuning, in batches of similar length.

Each epoch asks every question in another of its wordings; the order of the batches is a pure
function of seed, digest and step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.core.errors import DataError
from components.core.store.shards import read_shard
from components.text.chat.chat_template import answer_ids, open_tokenizer, prompt_ids

POOL_BATCHES = 32
"""Batches' worth of examples that are sorted by length together.

Larger pools pad less, smaller ones keep the order more random.
"""


@dataclass(frozen=True)
class TokenizedConversation:
    """Token ids of one conversation, with the answer's first token at ``answer_start``."""

    ids: list[int]
    answer_start: int


class Conversations:
    """Instructions of a Parquet file as tokenized conversations.

    A question has the wordings of its column ``wordings``, where there is one, and is asked in the
    next of them every epoch, so that the fact is learnt and not a sentence.

    Args:
        path: the file.
        tokenizer_folder: folder of the model's tokenizer.
        longest: longer conversations, in tokens, are left out.
        kinds: kinds of question to learn from; none is all.

    Raises:
        DataError: none is left.
    """

    def __init__(
        self, path: Path, tokenizer_folder: Path, *, longest: int, kinds: Sequence[str] = ()
    ) -> None:
        self._tokenizer = open_tokenizer(tokenizer_folder)
        self._longest = longest
        table = read_shard(path)
        missing = [n for n in ("kind", "question", "answer") if n not in table.column_names]
        if missing:
            raise DataError(f"{path.name}: column {missing[0]!r} is missing")
        rows = [row for row in table.to_pylist() if not kinds or row["kind"] in kinds]
        self._wordings = [row.get("wordings") or [row["question"]] for row in rows]
        self._answers = [answer_ids(self._tokenizer, row["answer"]) for row in rows]
        self._first_epoch = self._tokenize_epoch(0)  # counted here, trained on next
        self.count = len(self._first_epoch)
        if not self.count:
            raise DataError(
                f"sft: {path.name} holds no instruction of at most {longest} tokens"
                + (f" of the kinds {', '.join(kinds)} (sft.kinds)" if kinds else "")
                + ": give more pages with headings under scrape, or raise sft.longest"
            )

    def epoch_conversations(self, epoch: int) -> list[TokenizedConversation]:
        """All conversations in the wording of ``epoch``; answers are the same in each."""
        return self._tokenize_epoch(epoch) if epoch else self._first_epoch

    def _tokenize_epoch(self, epoch: int) -> list[TokenizedConversation]:
        examples: list[TokenizedConversation] = []
        for wordings, answer in zip(self._wordings, self._answers, strict=True):
            question = wordings[epoch % len(wordings)]
            prompt = prompt_ids(self._tokenizer, [("user", question)])
            if len(prompt) + len(answer) <= self._longest:
                examples.append(TokenizedConversation([*prompt, *answer], len(prompt)))
        return examples


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
