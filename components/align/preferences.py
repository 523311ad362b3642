"""Preference pairs: a policy answers each question several times, the principles judge.

    modelmill stage preferences --input policy=PATH --input instructions=PATH \\
        --input tokenizer=PATH --output DIR

``train.parquet`` asks questions of training pages, ``heldout.parquet`` of held-out ones. The best
and the worst of a question's answers make a pair, the second best and the second worst another,
as far as they differ by ``margin``. Judged by principles instead of people: arXiv:2212.08073.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class PreferencesConfig(StageConfig):
    """How many questions are answered how often, and what makes a pair."""

    constitution: Constitution = Field(
        default_factory=house_constitution, description="the principles that judge"
    )
    questions: int = Field(default=512, ge=1, description="training questions, at most")
    heldout_questions: int = Field(default=96, ge=1, description="held-out questions, at most")
    answers: int = Field(default=4, ge=2, le=64, description="answers sampled to a question")
    pairs: int = Field(default=2, ge=1, description="pairs taken from a question, at most")
    margin: float = Field(
        default=0.08, gt=0, le=1, description="least difference of two answers' judgements"
    )
    temperature: float = Field(default=1.0, gt=0, le=5, description="of the sampling")
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
            f"preferences: no two answers differ by margin {config.margin}: "
            "lower it, or raise answers or temperature"
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
        rows.extend(pairs(config, one, given))
    return rows


def pairs(
    config: PreferencesConfig, asked: Asked, answers: Sequence[Answer]
) -> list[dict[str, Any]]:
    """Rows of ``PAIR`` from the answers to one question, the widest apart first."""
    judged = [
        (_judged(config.constitution, asked, answer), answer.text)
        for answer in dict.fromkeys(answers)
    ]
    judged.sort(key=lambda pair: -pair[0].total)
    rows: list[dict[str, Any]] = []
    for better, worse in zip(judged[: len(judged) // 2], reversed(judged), strict=False):
        margin = better[0].total - worse[0].total
        if len(rows) < config.pairs and margin >= config.margin and better[1] != worse[1]:
            rows.append(_row(asked, better, worse, margin))
    return rows


def _judged(constitution: Constitution, asked: Asked, answer: Answer) -> Judgement:
    return judge(
        constitution,
        asked.question,
        asked.subject,
        answer.text,
        asked.reference,
        finished=answer.finished,
    )


def _row(
    asked: Asked, better: tuple[Judgement, str], worse: tuple[Judgement, str], margin: float
) -> dict[str, Any]:
    votes = [
        {"principle": name, "chosen": score, "rejected": worse[0].scores[name]}
        for name, score in better[0].scores.items()
    ]
    return {
        "question": asked.question,
        "subject": asked.subject,
        "reference": asked.reference,
        "chosen": better[1],
        "rejected": worse[1],
        "margin": margin,
        "votes": votes,
    }
