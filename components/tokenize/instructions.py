"""Stage ``instructions``: questions with reference answers, made of pages or from users' files.

Held-out instructions come from exactly the pages held out in ``Tokens``; one that a training page
also answers, in the same words, is no test of anything and is left out. A share of the training
pages is kept out of fine-tuning for alignment: on questions whose answers a policy has learnt by
heart its samples hardly differ, so there is nothing to prefer. A team's own conversations stand in
files of their own, split by conversation as their corpus has it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, field_validator

from components.core.config.hashed_file import HashedFile, check_names_differ
from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, DataError
from components.core.log import get_logger
from components.core.store.artifact import Corpus, Instructions, Tokens
from components.core.store.shards import map_shards, read_shards, write_shard
from components.core.store.workdir import Workdir
from components.text.chat.own_rows import OWN_ROW_SCHEMA, own_rows_file
from components.text.chat.question_wordings import QuestionKind
from components.text.heldout_split import is_heldout, page_of
from components.tokenize.own_conversations import read_own_rows
from components.tokenize.page_questions import extract_questions

log = get_logger(__name__)

INSTRUCTION_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # of the page
        pa.field("url", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        # the question in the wordings to train on, and in those never trained on
        pa.field("wordings", pa.list_(pa.string()), nullable=False),
        pa.field("reworded", pa.list_(pa.string()), nullable=False),
    ]
)
Row = dict[str, Any]
ALIGN_SEED = 1 << 20
"""Seed of the draw of pages for alignment, another than that of held-out pages, so that the draws
are independent."""


class InstructionsConfig(StageConfig):
    """Files of conversations, kinds of question made of pages, and the least that a run needs."""

    files: tuple[HashedFile, ...] = Field(
        default=(),
        description="conversations of your own: JSON lines, JSON lists or Parquet of messages, "
        "ShareGPT, Alpaca or questions with answers",
    )
    heldout_share: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="share of your own conversations that no model is trained on",
    )
    max_characters: int = Field(
        default=200_000,
        ge=1,
        description="longest text of a conversation of yours; a longer one is set aside",
    )
    max_bad_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="share of the rows of your files that may hold no conversation; more end a run",
    )
    _names_differ = field_validator("files")(check_names_differ)

    kinds: tuple[QuestionKind, ...] = Field(
        default=("describe", "module", "parameters"),
        min_length=1,
        description="kinds of question to make",
    )
    max_per_page: int = Field(
        default=64, ge=1, le=100_000, description="most training rows of one kind from one page"
    )
    max_shared: int = Field(
        default=4,
        ge=1,
        description="subjects that may share one description, more is an inherited docstring; and "
        "descriptions of one subject, more is a label that many pages have as a heading",
    )
    max_answer_words: int = Field(
        default=40,
        ge=5,
        le=1000,
        description="longest reference answer, in words; longer ones are left out, never cut",
    )
    align_share: float = Field(
        default=0.05,
        ge=0,
        le=0.5,
        description="share of training pages and conversations for alignment, not fine-tuning",
    )
    min_align: int = Field(
        default=64,
        ge=1,
        le=100_000,
        description=(
            "fewest questions for alignment; if the share gives fewer, no page or conversation "
            "is kept out of fine-tuning and alignment asks the questions of fine-tuning again"
        ),
    )
    min_heldout: int = Field(
        default=4,
        ge=0,
        le=100_000,
        description="fewest held-out questions, on two pages or more, without pages fewest "
        "held-out conversations; fewer is an error here, before a model is trained that cannot be "
        "measured",
    )


@dataclass(frozen=True)
class SplitRows:
    """Rows to fine-tune on, to align on, and held-out ones."""

    train: list[Row]
    align: list[Row]
    heldout: list[Row]

    def write(self, folder: Path, schema: pa.Schema, name: Callable[[str], str]) -> None:
        """Write a file for each split.

        Args:
            folder: folder of the artifact.
            schema: of the rows.
            name: split -> name of its file.
        """
        splits = {"train": self.train, "align": self.align, "heldout": self.heldout}
        for split, rows in splits.items():
            write_shard(folder / name(split), pa.Table.from_pylist(rows, schema=schema))


def make_instructions(
    config: InstructionsConfig,
    work: Workdir,
    corpus: Corpus | None = None,
    tokens: Tokens | None = None,
    conversations: Corpus | None = None,
) -> Instructions:
    """Write ``train``, ``align`` and ``heldout.parquet`` of the pages, of ``INSTRUCTION_SCHEMA``.

    With ``conversations`` also ``train.conversations.parquet`` and so on, of ``OWN_ROW_SCHEMA``;
    without pages the files of the pages hold no row.

    Args:
        config: kinds of question, bounds of answers, and the shares of the splits.
        work: folder of the artifact.
        corpus: pages to ask about.
        tokens: fixes which pages are held out.
        conversations: a team's own, as ``read_conversations`` makes them.

    Raises:
        ConfigError: neither pages with their tokens nor conversations are given.
        DataError: there is nothing to train on, or too little is held out.
    """
    if (corpus is None) != (tokens is None) or (corpus is None and conversations is None):
        raise ConfigError("instructions: give corpus and tokens, or conversations, or all three")
    stats: dict[str, float] = {}
    pages = SplitRows([], [], [])
    if corpus is not None and tokens is not None:
        pages, stats = _make_of_pages(config, corpus, tokens, work)
    pages.write(work.folder, INSTRUCTION_SCHEMA, lambda split: f"{split}.parquet")
    if conversations is not None:
        own = _split_own(config, read_own_rows(work.artifact_folder(conversations)), pages)
        own.write(work.folder, OWN_ROW_SCHEMA, own_rows_file)
        stats = {
            **stats,
            "train_conversations": float(len(own.train)),
            "align_conversations": float(len(own.align)),
            "heldout_conversations": float(len(own.heldout)),
        }
    return work.seal(Instructions, stats=stats)


def _make_of_pages(
    config: InstructionsConfig, corpus: Corpus, tokens: Tokens, work: Workdir
) -> tuple[SplitRows, dict[str, float]]:
    """Rows of all pages, and their counts.

    Raises:
        DataError: no page gives an instruction to train on, or too few are held out.
    """
    shards = work.scratch / "questions"
    map_shards(
        work,
        work.artifact_folder(corpus),
        make_shard_instructions,
        folder=shards,
        max_words=config.max_answer_words,
        kinds=list(config.kinds),
    )
    heldout_ids = set(
        pq.read_table(work.artifact_folder(tokens) / "heldout.parquet", columns=["id"])[
            "id"
        ].to_pylist()
    )
    rows = _drop_shared_descriptions(
        _drop_ambiguous_modules(read_shards(shards).to_pylist()), config.max_shared
    )
    train = _drop_repeated(row for row in rows if row["id"] not in heldout_ids)
    train = _cap_per_page(train, config.max_per_page)
    heldout = _drop_repeated(row for row in rows if row["id"] in heldout_ids)
    unseen = _drop_known(heldout, train)
    pages = read_shards(work.artifact_folder(corpus), ["id", "headings"])
    if not train:
        raise DataError(_nothing_to_train_on(config, pages, heldout_ids))
    if len(unseen) < config.min_heldout or (config.min_heldout and _count_pages(unseen) < 2):
        raise DataError(_too_few_held_out(config, unseen, len(pages), len(heldout_ids)))
    tuned, aligned = split_for_alignment(config, train)
    stats = _stats(config, tuned, unseen, len(heldout))
    return SplitRows(tuned, aligned, unseen), {**stats, "align": float(len(aligned))}


def _split_own(
    config: InstructionsConfig, rows: tuple[list[Row], list[Row]], pages: SplitRows
) -> SplitRows:
    """Split conversations of a team's own; where pages are aligned on, their share is enough.

    Args:
        config: share of alignment, and the least that a run needs.
        rows: (training, held-out) ones.
        pages: rows of the pages; none in a run without.

    Raises:
        DataError: a run without pages has nothing to train on, or too little is held out.
    """
    train, heldout = rows
    if pages.train:
        if not heldout and config.heldout_share:
            log.warning("instructions: no conversation of yours is held out, of %d", len(train))
    elif not train or len(heldout) < config.min_heldout:
        raise DataError(
            f"instructions: {len(train)} conversations to train on and {len(heldout)} held out "
            f"(instructions.heldout_share {config.heldout_share:g}); 1 and {config.min_heldout} "
            "are needed: give more under instructions.files, raise instructions.heldout_share or "
            "lower instructions.min_heldout"
        )
    separate = bool(pages.train) and pages.align is not pages.train
    fewest = 0 if separate else config.min_align
    tuned, aligned = split_for_alignment(config.model_copy(update={"min_align": fewest}), train)
    return SplitRows(tuned, aligned, heldout)


def split_for_alignment(
    config: InstructionsConfig, train: list[Row]
) -> tuple[list[Row], list[Row]]:
    """(rows to fine-tune on, rows to align on), apart by page or conversation where there are
    enough of both.
    """
    sides: dict[bool, list[Row]] = {True: [], False: []}
    for row in train:
        sides[is_heldout(page_of(row), config.align_share, ALIGN_SEED)].append(row)
    aligned, tuned = sides[True], sides[False]
    if len(aligned) < config.min_align or len(aligned) > len(tuned):
        return train, train
    return tuned, aligned


def _nothing_to_train_on(config: InstructionsConfig, pages: pa.Table, heldout: set[str]) -> str:
    """Error line that says what pages hold, what they need and the field to set."""
    mine = [row for row in pages.to_pylist() if row["id"] not in heldout]
    headed = sum(bool(row["headings"]) for row in mine)
    finding = f"instructions: {headed} of {len(mine)} training pages have a heading"
    if headed:
        return (
            f"{finding}, none with a full sentence of at most {config.max_answer_words} words "
            "below it that tells of it: raise instructions.max_answer_words, or give other pages "
            "under scrape"
        )
    return (
        f"{finding}; questions are made of headings and the sentence below each: under scrape, "
        "give Markdown with # headings or HTML with <h1> (plain text has none)"
    )


def _too_few_held_out(config: InstructionsConfig, rows: list[Row], pages: int, heldout: int) -> str:
    return (
        f"instructions: {heldout} of {pages} pages are held out and give {len(rows)} questions on "
        f"{_count_pages(rows)} pages; {config.min_heldout} on 2 are needed to measure a model: "
        "raise tokens.heldout_share and tokenizer.heldout_share, give more pages with headings "
        "under scrape, or, for a run --until sft, set instructions.min_heldout to 0"
    )


def _count_pages(rows: list[Row]) -> int:
    return len({row["id"] for row in rows})


def make_shard_instructions(table: pa.Table, max_words: int, kinds: list[str]) -> pa.Table:
    """Make the instructions of one shard's pages (in a worker).

    Args:
        table: shard of a corpus.
        max_words: most words of an answer.
        kinds: kinds of question to keep.
    """
    rows: list[Row] = []
    for page in table.select(["id", "url", "title", "text"]).to_pylist():
        page_questions = extract_questions(page["text"], page["title"], max_words)
        rows.extend(
            {"id": page["id"], "url": page["url"], **question._asdict()}
            for question in page_questions
            if question.kind in kinds
        )
    return pa.Table.from_pylist(rows, schema=INSTRUCTION_SCHEMA)


def _cap_per_page(rows: Iterable[Row], limit: int) -> list[Row]:
    """Draw at most ``limit`` rows of one kind from one page, by digest; the order stays."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["id"], row["kind"]].append(row)
    capped: list[Row] = []
    for group in groups.values():
        ranked = sorted(range(len(group)), key=lambda index: _rank(group[index]))
        capped.extend(group[index] for index in sorted(ranked[:limit]))
    return capped


def _rank(row: Row) -> bytes:
    return hashlib.sha256(f"{row['subject']}\0{row['answer']}".encode()).digest()


def _drop_ambiguous_modules(rows: list[Row]) -> list[Row]:
    """Drop ``module`` questions that have several right answers (``dumps``: json, pickle)."""
    answers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["kind"] == "module":
            answers[row["subject"].rpartition(".")[2]].add(row["answer"])
    return [
        row
        for row in rows
        if row["kind"] != "module" or len(answers[row["subject"].rpartition(".")[2]]) == 1
    ]


def _drop_shared_descriptions(rows: list[Row], limit: int) -> list[Row]:
    """Drop descriptions that many subjects share and that tell none of them from another.

    Nor those of a subject that has many: a heading of many pages is a label, in any language.
    """
    subjects: dict[str, set[str]] = defaultdict(set)
    answers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["kind"] == "describe":
            subjects[row["answer"]].add(row["subject"])
            answers[row["subject"]].add(row["answer"])
    return [
        row
        for row in rows
        if row["kind"] != "describe"
        or max(len(subjects[row["answer"]]), len(answers[row["subject"]])) <= limit
    ]


def _drop_repeated(rows: Iterable[Row]) -> list[Row]:
    """Keep the first of each (kind, subject, answer)."""
    first: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        first.setdefault((row["kind"], row["subject"], row["answer"]), row)
    return list(first.values())


def _drop_known(heldout: list[Row], train: list[Row]) -> list[Row]:
    """Drop held-out rows whose answer training gives away.

    Known is an answer of the same kind to a subject of the same last name: an inherited method is
    documented, word for word, on the page of every class that inherits it.
    """
    known = {_gist(row) for row in train}
    return [row for row in heldout if _gist(row) not in known]


def _gist(row: Row) -> tuple[str, str, str]:
    return row["kind"], row["subject"].rpartition(".")[2], row["answer"]


def _stats(
    config: InstructionsConfig, train: list[Row], heldout: list[Row], before: int
) -> dict[str, float]:
    stats = {
        "train": float(len(train)),
        "heldout": float(len(heldout)),
        "heldout_known": float(before - len(heldout)),
    }
    for kind in config.kinds:
        stats[f"train_{kind}"] = float(sum(row["kind"] == kind for row in train))
        stats[f"heldout_{kind}"] = float(sum(row["kind"] == kind for row in heldout))
    return stats
