"""Preference data: several answers of a policy to each prompt, judged and paired.

    modelmill stage preferences --input policy=PATH --input instructions=PATH \\
        --input tokenizer=PATH --output DIR

``answers.parquet`` (``ANSWER_SCHEMA``) holds every sampled answer with its judgement,
``train.parquet`` and ``heldout.parquet`` (``PAIR_SCHEMA``) every two answers to a prompt that are
judged ``margin`` apart.
Training prompts are of the pages kept out of fine-tuning, held-out ones of the half of the
held-out pages that chooses, so the half that reports stays unseen. Judged by principles instead
of people: arXiv:2212.08073. Few prompts, none, or answers that are all alike give few rows or
none, which is no error: what comes after says that there was too little to learn from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from pydantic import Field

from components.align.attempt import AttemptFailed
from components.align.judge_samples import judge_sample
from components.core.config.stage_config import StageConfig
from components.core.log import get_logger
from components.core.store.artifact import Checkpoint, Instructions, Preferences, Tokenizer
from components.core.store.shards import read_shard, shard_name, write_shard
from components.core.store.workdir import Workdir
from components.text.chat.ask_model import (
    ModelAnswer,
    QuestionPrompt,
    read_instructions,
    read_questions,
    sample_answers,
)
from components.text.chat.chat_tokenizer import ChatTokenizer, open_tokenizer
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokenizer,
    write_tokenizer_digest,
)
from components.text.constitution.principles import Constitution, default_constitution
from components.text.decoder_files import load_model

if TYPE_CHECKING:
    from models.decoder import Decoder

log = get_logger(__name__)
ANSWERS_FILE = "answers.parquet"
ANSWER_SCHEMA = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("page", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("tokens", pa.list_(pa.int32()), nullable=False),
        pa.field("judgement", pa.float64(), nullable=False),
        pa.field(
            "votes",
            pa.list_(
                pa.struct([pa.field("principle", pa.string()), pa.field("score", pa.float64())])
            ),
            nullable=False,
        ),
    ]
)
"""``tokens`` as sampled: they end with the end token unless the answer was cut."""
PAIR_SCHEMA = pa.schema(
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
SPLITS: tuple[Split, ...] = ("train", "heldout")
Row = dict[str, Any]


class PreferencesConfig(StageConfig):
    """Prompts, answers to each, and the margin that makes two answers a pair."""

    constitution: Constitution = Field(
        default_factory=default_constitution, description="the principles that judge"
    )
    questions: int = Field(default=448, ge=1, description="training prompts, at most")
    heldout_questions: int = Field(default=96, ge=1, description="held-out prompts, at most")
    answers: int = Field(default=8, ge=2, le=64, description="answers sampled to a prompt")
    margin: float = Field(
        default=0.02, gt=0, le=1, description="least difference of two answers' judgements"
    )
    temperature: float = Field(default=0.7, gt=0, le=5, description="temperature of the sampling")
    max_new: int = Field(default=64, ge=1, le=4096, description="longest answer, in tokens")
    chunk: int = Field(
        default=32,
        ge=1,
        description="prompts sampled in one batch; a killed try resumes after its last batch",
    )
    seed: int = Field(
        default=0, ge=0, lt=1 << 32, description="seed of the prompts and the sampling"
    )


def make_preferences(
    config: PreferencesConfig,
    policy: Checkpoint,
    instructions: Instructions,
    tokenizer: Tokenizer,
    work: Workdir,
) -> Preferences:
    """Sample, judge and pair answers; zero rows where nothing can be preferred.

    Args:
        config: sampling, principles and margin.
        policy: the model that answers.
        instructions: its ``align.parquet`` and ``heldout.parquet`` are asked.
        tokenizer: tokenizer of the policy.
        work: folder of the preferences; its scratch keeps finished batches.

    Raises:
        ConfigError: the policy is of another tokenizer.
        DataError: an input cannot be read.
    """
    digest = check_one_tokenizer(
        "preferences",
        record_of_model(work.artifact_folder(policy), "policy"),
        record_of_tokenizer(work.artifact_folder(tokenizer)),
    )
    model = load_model(work.artifact_folder(policy))
    fast_tokenizer = open_tokenizer(work.artifact_folder(tokenizer))
    longest_prompt = model.shape.context - config.max_new
    prompts = read_preference_prompts(
        config, work.artifact_folder(instructions), fast_tokenizer, longest_prompt
    )
    work.progress.start_count(sum(map(len, prompts.values())), "questions")
    rows: list[Row] = []
    failure: dict[str, float] = {}
    note = ""
    try:
        for split in SPLITS:
            rows.extend(
                _answers_of_split(config, split, prompts[split], model, fast_tokenizer, work)
            )
    except AttemptFailed as error:
        rows, failure, note = [], error.stats, f"nothing to prefer: {error}"
    write_shard(work.folder / ANSWERS_FILE, pa.Table.from_pylist(rows, schema=ANSWER_SCHEMA))
    pairs: dict[Split, list[Row]] = {}
    for split in SPLITS:
        pairs[split] = make_preference_pairs(
            [row for row in rows if row["split"] == split], config.margin
        )
        write_shard(
            work.folder / f"{split}.parquet", pa.Table.from_pylist(pairs[split], schema=PAIR_SCHEMA)
        )
    write_tokenizer_digest(work.folder, digest)
    if not pairs["train"] and not failure:
        note = (
            f"nothing to prefer: {len(prompts['train'])} prompts, and no two answers to one are "
            f"judged {config.margin:g} apart (preferences.margin, .answers, .temperature)"
        )
    if note:
        log.warning("preferences: %s", note)
    stats = {f"{split}_pairs": float(len(pairs[split])) for split in SPLITS}
    stats |= {f"{split}_questions": float(len(prompts[split])) for split in SPLITS}
    stats["answers"] = float(len(rows))
    return work.seal(Preferences, stats={**stats, **failure}, note=note)


def read_preference_prompts(
    config: PreferencesConfig, folder: Path, tokenizer: ChatTokenizer, longest: int
) -> dict[Split, list[QuestionPrompt]]:
    """Prompts to learn from and to measure on, disjoint by page.

    Where the held-out pages are too few for halves, none of them reports on a choice among
    candidates, and all of them measure here.

    Args:
        config: how many prompts of each split, and the seed of their order.
        folder: folder of sealed ``Instructions``.
        tokenizer: makes the prompts.
        longest: prompts of more tokens are left out.

    Raises:
        DataError: a file or a column is missing.
    """
    halved = bool(read_instructions(folder, "heldout", "choosing"))
    heldout = read_questions(
        folder,
        "heldout",
        tokenizer,
        longest=longest,
        limit=config.heldout_questions,
        seed=config.seed,
        half="choosing" if halved else None,
        alone=True,
    )
    train = read_questions(
        folder,
        "align",
        tokenizer,
        longest=longest,
        limit=config.questions,
        seed=config.seed,
        alone=True,
    )
    return {"train": train, "heldout": heldout}


def _answers_of_split(
    config: PreferencesConfig,
    split: Split,
    prompts: Sequence[QuestionPrompt],
    model: Decoder,
    tokenizer: ChatTokenizer,
    work: Workdir,
) -> list[Row]:
    """Rows of a split's answers; a chunk that an earlier try finished is not sampled again."""
    folder = work.scratch / split
    folder.mkdir(exist_ok=True)
    finished = len(list(folder.glob(f"*{Path(shard_name(0)).suffix}")))
    if finished:
        work.progress.note_resumed(f"after {finished} batches of {split} questions")
    rows: list[Row] = []
    for index, start in enumerate(range(0, len(prompts), config.chunk)):
        chunk = prompts[start : start + config.chunk]
        path = folder / shard_name(index)
        if not path.exists():
            # Both splits and all chunks of a seed, and all seeds, draw different random numbers.
            seed = (config.seed << 32) + 2 * index + SPLITS.index(split)
            judged = _judged_answers(config, split, chunk, seed, model, tokenizer)
            write_shard(path, pa.Table.from_pylist(judged, schema=ANSWER_SCHEMA))
        rows.extend(read_shard(path).to_pylist())
        work.progress.advance(len(chunk), note=f"{len(rows)} answers")
    return rows


def _judged_answers(
    config: PreferencesConfig,
    split: Split,
    prompts: Sequence[QuestionPrompt],
    seed: int,
    model: Decoder,
    tokenizer: ChatTokenizer,
) -> list[Row]:
    repeated_prompts = [prompt for prompt in prompts for _ in range(config.answers)]
    answers = sample_answers(
        model,
        tokenizer,
        [prompt.token_ids for prompt in repeated_prompts],
        max_new=config.max_new,
        temperature=config.temperature,
        seed=seed,
        batch=len(repeated_prompts),
    )
    return [
        _answer_row(config.constitution, split, prompt, answer)
        for prompt, answer in zip(repeated_prompts, answers, strict=True)
    ]


def _answer_row(
    constitution: Constitution, split: Split, prompt: QuestionPrompt, answer: ModelAnswer
) -> Row:
    judgement = judge_sample(constitution, prompt, answer)
    return {
        "split": split,
        "page": prompt.page,
        "question": prompt.question,
        "subject": prompt.subject,
        "reference": prompt.reference,
        "answer": answer.text,
        "tokens": list(answer.tokens),
        "judgement": judgement.total,
        "votes": [{"principle": k, "score": score} for k, score in judgement.scores.items()],
    }


def prompt_key(row: Row) -> tuple[str, str, str]:
    """Key of a row's prompt in ``ANSWER_SCHEMA``; rows of one prompt lie together."""
    return row["page"], row["question"], row["reference"]


def make_preference_pairs(rows: Iterable[Row], margin: float) -> list[Row]:
    """Pair every two distinct answers to a prompt that are judged at least ``margin`` apart.

    Takes rows of ``ANSWER_SCHEMA``, gives rows of ``PAIR_SCHEMA``.
    """
    pairs: list[Row] = []
    for _, answers in groupby(rows, prompt_key):
        distinct = {row["answer"]: row for row in answers}
        ranked = sorted(distinct.values(), key=lambda row: -row["judgement"])
        pairs.extend(
            _pair(better, worse)
            for better, worse in combinations(ranked, 2)
            if better["judgement"] - worse["judgement"] >= margin
        )
    return pairs


def _pair(better: Row, worse: Row) -> Row:
    worse_scores = {vote["principle"]: vote["score"] for vote in worse["votes"]}
    return {
        **{name: better[name] for name in ("question", "subject", "reference")},
        "chosen": better["answer"],
        "rejected": worse["answer"],
        "margin": better["judgement"] - worse["judgement"],
        "votes": [
            {
                "principle": vote["principle"],
                "chosen": vote["score"],
                "rejected": worse_scores[vote["principle"]],
            }
            for vote in better["votes"]
        ],
    }
