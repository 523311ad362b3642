"""Prompts of a team's own with answers that people judged, as a corpus of them holds them.

Answers of one prompt are gathered by how they were judged: pairs of all files together, ratings
file by file, since each has a scale of its own. In pairs an answer's judgement is the share of its
comparisons that it won (Borda's count); ratings are scaled to [0, 1] by the least and the greatest
of their file.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.store.artifact import digest_value
from components.core.store.shards import read_shard

JUDGED_FILE = "judged.parquet"
"""Messages of a corpus of judged answers, beside its shards: turns of the prompt, then each answer
with its ``judgement`` or ``rating``."""
OWN_ANSWERS_FILE = "answers.own.parquet"
"""Answers of ``Preferences`` that a team judged itself, with the rows each was judged in."""
_PROMPT_DIGITS = 32
Message = Mapping[str, Any]


@dataclass(frozen=True)
class OwnAnswer:
    """An answer with its judgement, and the rows that it was judged in."""

    message: Message
    judgement: float
    """In [0, 1]."""
    urls: tuple[str, ...]


@dataclass(frozen=True)
class JudgedPrompt:
    """A prompt with distinct answers, all judged in one way."""

    id: str
    """Digest of the prompt, shared by its pairs and its ratings."""
    source: str
    """``pairs``, or the file of the ratings."""
    heldout: bool
    messages: Sequence[Message]
    tools: Sequence[Message] | None
    answers: Sequence[OwnAnswer]

    @property
    def spread(self) -> float:
        """Difference of the best and the worst answer."""
        judgements = [answer.judgement for answer in self.answers]
        return max(judgements) - min(judgements)


def read_judged_prompts(corpus: Path) -> list[JudgedPrompt]:
    """Prompts of a corpus of judged answers, sorted by split, id and source.

    Raises:
        DataError: the corpus holds no judged answers.
    """
    columns = ["url", "heldout", "messages", "tools"]
    rows = read_shard(corpus / JUDGED_FILE, columns).to_pylist()
    scales = _read_scales(rows)
    gathered: dict[tuple[bool, str, str], _GatheredAnswers] = {}
    for row in rows:
        messages = json.loads(row["messages"])
        tools = None if row["tools"] is None else json.loads(row["tools"])
        prompt = [message for message in messages if not _is_judged(message)]
        identifier = digest_value([prompt, tools])[:_PROMPT_DIGITS]
        for answer in filter(_is_judged, messages):
            source = "pairs" if "judgement" in answer else _file_of(row["url"])
            key = (row["heldout"], identifier, source)
            group = gathered.setdefault(key, _GatheredAnswers(prompt, tools))
            group.add(answer, _scale(answer, scales.get(source)), row["url"])
    return [
        JudgedPrompt(identifier, source, heldout, group.prompt, group.tools, group.list_answers())
        for (heldout, identifier, source), group in sorted(gathered.items())
    ]


class _GatheredAnswers:
    """Answers of one prompt while they are gathered."""

    def __init__(self, prompt: Sequence[Message], tools: Sequence[Message] | None) -> None:
        self.prompt, self.tools = prompt, tools
        self._answers: dict[str, tuple[Message, list[float], list[str]]] = {}

    def add(self, answer: Message, judgement: float, url: str) -> None:
        said = {k: v for k, v in answer.items() if k not in ("judgement", "rating")}
        _, judgements, urls = self._answers.setdefault(digest_value(said), (said, [], []))
        judgements.append(judgement)
        urls.append(url)

    def list_answers(self) -> list[OwnAnswer]:
        """Distinct answers in the order of their digests, each with its mean judgement."""
        return [
            OwnAnswer(message, math.fsum(values) / len(values), tuple(sorted(set(urls))))
            for _, (message, values, urls) in sorted(self._answers.items())
        ]


def _is_judged(message: Message) -> bool:
    return "judgement" in message or "rating" in message


def _file_of(url: str) -> str:
    return url.rpartition("#")[0]


def _read_scales(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """(least, greatest) rating of each file."""
    ratings: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for rating in _ratings_of(json.loads(row["messages"])):
            ratings[_file_of(row["url"])].append(rating)
    return {file: (min(values), max(values)) for file, values in ratings.items()}


def _ratings_of(messages: Sequence[Message]) -> Iterator[float]:
    return (float(message["rating"]) for message in messages if "rating" in message)


def _scale(answer: Message, scale: tuple[float, float] | None) -> float:
    """Judgement in [0, 1]; a rating by the scale of its file, 0 where all are equal."""
    if "judgement" in answer:
        return float(answer["judgement"])
    assert scale is not None
    low, high = scale
    return (float(answer["rating"]) - low) / (high - low) if high > low else 0.0
