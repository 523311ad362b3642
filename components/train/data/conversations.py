"""Conversations to fine-tune on: batches of like length, questions worded anew each epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.core.errors import DataError
from components.core.store.shards import read_shard
from components.text.chat.chat_template import answer_ids, open_tokenizer, prompt_ids

POOL = 32
"""Batches' worth of examples that are sorted by length together: order stays mostly random."""


@dataclass(frozen=True)
class Example:
    """One conversation: ``ids`` with the answer's first token at ``start``."""

    ids: list[int]
    start: int


class Conversations:
    """Instructions of a Parquet file as conversations.

    A question has the wordings of its column ``wordings``, where there is one, and is asked in the
    next of them every epoch: what is learnt then is the fact and not a sentence.

    Args:
        path: the file.
        tokenizer_folder: of the model's tokenizer.
        longest: longer conversations, in tokens, are left out.
        kinds: of question to learn from; none is all.

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
        self._first = self._word(0)  # what is counted is learnt from next
        self.count = len(self._first)
        if not self.count:
            raise DataError(
                f"sft: {path.name} holds no instruction of at most {longest} tokens"
                + (f" of the kinds {', '.join(kinds)} (sft.kinds)" if kinds else "")
                + ": give more pages with headings under scrape, or raise sft.longest"
            )

    def of_epoch(self, epoch: int) -> list[Example]:
        """Every question once, as it is worded in ``epoch``; its answer is the same in all."""
        return self._word(epoch) if epoch else self._first

    def _word(self, epoch: int) -> list[Example]:
        examples: list[Example] = []
        for wordings, answer in zip(self._wordings, self._answers, strict=True):
            question = wordings[epoch % len(wordings)]
            prompt = prompt_ids(self._tokenizer, [("user", question)])
            if len(prompt) + len(answer) <= self._longest:
                examples.append(Example([*prompt, *answer], len(prompt)))
        return examples


class Batches:
    """Batches of examples of like length: a pure function of (seed, digest, step).

    Args:
        of_epoch: the examples of an epoch; each is in one batch of it.
        tokens: most a batch holds, padding included.
        seed: of the order.
        digest: of the instructions; the order hangs on it too.
    """

    def __init__(
        self, of_epoch: Callable[[int], Sequence[Example]], tokens: int, seed: int, digest: str
    ) -> None:
        self._of_epoch, self._tokens, self._seed = of_epoch, tokens, seed
        self._digest = int(digest[:16] or "0", 16)
        self._epoch: tuple[int, list[list[Example]]] | None = None
        self.per_epoch = len(self._open(0))

    def batch(self, step: int) -> list[Example]:
        """The examples of one step."""
        epoch, index = divmod(step, self.per_epoch)
        batches = self._open(epoch)
        # An epoch of other lengths may come to a batch more or less than the first.
        return batches[index % len(batches)]

    def _open(self, epoch: int) -> list[list[Example]]:
        if self._epoch is None or self._epoch[0] != epoch:
            examples = self._of_epoch(epoch)
            draw = np.random.default_rng([self._seed, self._digest, epoch])
            order = [examples[number] for number in draw.permutation(len(examples))]
            batches: list[list[Example]] = []
            for pool in self._pools(order):
                pool.sort(key=lambda example: len(example.ids))
                batches.extend(self._cut(pool))
            self._epoch = (epoch, [batches[index] for index in draw.permutation(len(batches))])
        return self._epoch[1]

    def _pools(self, order: Sequence[Example]) -> list[list[Example]]:
        pools: list[list[Example]] = [[]]
        held = 0
        for example in order:
            if held >= POOL * self._tokens:
                pools.append([])
                held = 0
            pools[-1].append(example)
            held += len(example.ids)
        return pools

    def _cut(self, by_length: Sequence[Example]) -> list[list[Example]]:
        """Runs of examples whose padded size stays within the tokens of a batch."""
        batches: list[list[Example]] = [[]]
        for example in by_length:
            if batches[-1] and (len(batches[-1]) + 1) * len(example.ids) > self._tokens:
                batches.append([])
            batches[-1].append(example)
        return batches


@dataclass(frozen=True)
class ReplayPlan:
    """Steps over page text between those over answers, evenly spread: pure in the step's number."""

    share: float
    """Of all steps, those that replay."""

    def is_replay(self, step: int) -> bool:
        return self.replays_before(step + 1) > self.replays_before(step)

    def replays_before(self, step: int) -> int:
        """How many of the first ``step`` steps replay."""
        return int(step * self.share)

    def total(self, answer_steps: int) -> int:
        """The fewest steps that hold so many over answers."""
        steps = int(answer_steps / (1.0 - self.share))
        while steps - self.replays_before(steps) < answer_steps:
            steps += 1
        while steps > 1 and steps - 1 - self.replays_before(steps - 1) >= answer_steps:
            steps -= 1
        return steps
