"""Preference pairs: a policy answers each question several times, the principles judge.

    modelmill stage preferences --input policy=PATH --input instructions=PATH \\
        --input tokenizer=PATH --output DIR

``train.parquet`` asks questions of training pages, ``heldout.parquet`` of held-out ones. Every two
answers to a question that differ by ``margin`` make a pair. Beside the policy's own answers stand
those that show the reward model what a policy hardly ever says itself, but PPO would find: answers
borrowed from other questions, and the documentation's. Judged by principles instead of people:
arXiv:2212.08073.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from pydantic import Field

from components.core.artifact import Checkpoint, Instructions, Preferences, Tokenizer
from components.core.config import StageConfig
from components.core.errors import DataError
from components.core.shards import read_shard, shard_name, write_shard
from components.core.weights import load_model
from components.core.workdir import Workdir
from components.text.answering import Answer, Asked, answer_all, read_questions
from components.text.chat import open_tokenizer
from components.text.principles import Constitution, Judgement, house_constitution, judge

if TYPE_CHECKING:
    import tokenizers

    from models.decoder import Decoder

PAIR = pa.schema(
    [
        pa.field("question", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("chosen", pa.string(), nullable=False),
        pa.field("rejected", pa.string(), nullable=False),
        pa.field("margin", pa.float64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field(
            "votes",
            pa.list_(
                pa.struct(
                    [
                        pa.field("principle", pa.string()),
                        pa.field("chosen", pa.float64()),
                        pa.field("rejected", pa.float64()),
                    ]
                )
            ),
            nullable=False,
        ),
    ]
)
Split = Literal["train", "heldout"]
Origin = Literal["own", "borrowed", "documented"]


class PreferencesConfig(StageConfig):
    """How many questions are answered how often, and what makes a pair."""

    constitution: Constitution = Field(
        default_factory=house_constitution, description="the principles that judge"
    )
    questions: int = Field(default=448, ge=1, description="training questions, at most")
    heldout_questions: int = Field(default=96, ge=1, description="held-out questions, at most")
    answers: int = Field(default=4, ge=2, le=64, description="answers sampled to a question")
    borrowed: int = Field(
        default=1, ge=0, le=16, description="answers to other questions beside a question's own"
    )
    documented: bool = Field(
        default=True, description="whether the documentation's answer stands beside the sampled"
    )
    margin: float = Field(
        default=0.02, gt=0, le=1, description="least difference of two answers' judgements"
    )
    temperature: float = Field(default=0.7, gt=0, le=5, description="of the sampling")
    max_new: int = Field(default=64, ge=1, le=4096, description="tokens an answer, at most")
    chunk: int = Field(default=32, ge=1, description="questions of one batch and of one resume")
    seed: int = Field(default=0, ge=0, lt=1 << 32, description="of the questions and the sampling")


def make_preferences(
    config: PreferencesConfig,
    policy: Checkpoint,
    instructions: Instructions,
    tokenizer: Tokenizer,
    work: Workdir,
) -> Preferences:
    """Sample, judge and pair; writes ``train.parquet`` and ``heldout.parquet`` (``PAIR``).

    Raises:
        DataError: an input cannot be read, or no training question gives a pair.
    """
    model = load_model(work.path(policy))
    opened = open_tokenizer(work.path(tokenizer))
    longest = model.shape.context - config.max_new
    work.progress.start(config.questions + config.heldout_questions, "questions")
    stats: dict[str, float] = {}
    limits: dict[Split, int] = {
        "train": config.questions,
        "heldout": config.heldout_questions,
    }
    for split, limit in limits.items():
        asked = read_questions(
            work.path(instructions), split, opened, longest=longest, limit=limit, seed=config.seed
        )
        table = _pairs_of_split(config, split, asked, model, opened, work)
        write_shard(work.folder / f"{split}.parquet", table)
        stats[f"{split}_questions"], stats[f"{split}_pairs"] = len(asked), table.num_rows
    if not stats["train_pairs"]:
        raise DataError(
            f"preferences: {stats['train_questions']:.0f} training questions, and no two answers "
            f"to one are judged {config.margin:g} apart: lower preferences.margin, raise "
            "preferences.answers or preferences.temperature, or give more pages with headings"
        )
    return work.seal(Preferences, stats=stats)


def _pairs_of_split(
    config: PreferencesConfig,
    split: Split,
    asked: Sequence[Asked],
    model: Decoder,
    tokenizer: tokenizers.Tokenizer,
    work: Workdir,
) -> pa.Table:
    """Pairs of all chunks; a chunk that an earlier try finished is not sampled again."""
    folder = work.scratch / split
    folder.mkdir(exist_ok=True)
    before = len(list(folder.glob(f"*{Path(shard_name(0)).suffix}")))
    if before:
        work.progress.resume(f"after {before} batches of {split} questions")
    tables: list[pa.Table] = []
    for index, start in enumerate(range(0, len(asked), config.chunk)):
        chunk = asked[start : start + config.chunk]
        path: Path = folder / shard_name(index)
        if not path.exists():
            rows = _pairs_of_chunk(
                config, 2 * index + (split == "heldout"), chunk, model, tokenizer
            )
            write_shard(path, pa.Table.from_pylist(rows, schema=PAIR))
        tables.append(read_shard(path))
        work.progress.advance(len(chunk), note=f"{sum(t.num_rows for t in tables)} pairs")
    return pa.concat_tables(tables)


def _pairs_of_chunk(
    config: PreferencesConfig,
    number: int,
    chunk: Sequence[Asked],
    model: Decoder,
    tokenizer: tokenizers.Tokenizer,
) -> list[dict[str, Any]]:
    answers = answer_all(
        model,
        tokenizer,
        [one.prompt for one in chunk for _ in range(config.answers)],
        max_new=config.max_new,
        temperature=config.temperature,
        seed=(config.seed << 32) + number,
        batch=len(chunk) * config.answers,
    )
    rows: list[dict[str, Any]] = []
    for index, one in enumerate(chunk):
        given = answers[index * config.answers : (index + 1) * config.answers]
        others = [
            answers[(index + step) % len(chunk) * config.answers]
            for step in range(1, min(config.borrowed, len(chunk) - 1) + 1)
        ]
        rows.extend(pairs(config, one, given, others))
    return rows


def pairs(
    config: PreferencesConfig, asked: Asked, answers: Sequence[Answer], borrowed: Sequence[Answer]
) -> list[dict[str, Any]]:
    """Rows of ``PAIR``, a question's together: the better answer, the worse, what each is."""
    given: list[tuple[Origin, Answer]] = [("own", answer) for answer in answers]
    given += [("borrowed", answer) for answer in borrowed]
    if config.documented:
        given.append(("documented", Answer(asked.reference, (), True)))
    unique = {answer.text: (origin, answer) for origin, answer in reversed(given)}
    judged = [_judged(config.constitution, asked, *one) for one in unique.values()]
    judged.sort(key=lambda one: -one.judgement.total)
    return [
        _row(asked, better, worse)
        for better, worse in combinations(judged, 2)
        if better.judgement.total - worse.judgement.total >= config.margin
    ]


@dataclass(frozen=True)
class Judged:
    """An answer with where it comes from and what the principles say of it."""

    origin: Origin
    text: str
    judgement: Judgement


def _judged(constitution: Constitution, asked: Asked, origin: Origin, answer: Answer) -> Judged:
    judgement = judge(
        constitution,
        asked.question,
        asked.subject,
        answer.text,
        asked.reference,
        finished=answer.finished,
    )
    return Judged(origin, answer.text, judgement)


def _row(asked: Asked, better: Judged, worse: Judged) -> dict[str, Any]:
    votes = [
        {"principle": name, "chosen": score, "rejected": worse.judgement.scores[name]}
        for name, score in better.judgement.scores.items()
    ]
    strange = [one.origin for one in (better, worse) if one.origin != "own"]
    return {
        "question": asked.question,
        "subject": asked.subject,
        "reference": asked.reference,
        "chosen": better.text,
        "rejected": worse.text,
        "margin": better.judgement.total - worse.judgement.total,
        "kind": strange[0] if strange else "own",
        "votes": votes,
    }
