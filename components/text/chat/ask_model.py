"""Sampling of a model's answers to instructions: choice of questions, prompts, decoding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.core.errors import DataError
from components.core.log import get_logger
from components.core.store.shards import read_shard
from components.text.chat.chat_turns import text_before_question, turns_before_answer
from components.text.chat.own_rows import OWN_ROW_SCHEMA, own_rows_file
from components.text.chat.template_sandbox import ChatFormatError
from components.text.heldout_split import Half, rows_of_half

if TYPE_CHECKING:
    from components.text.chat.chat_tokenizer import ChatTokenizer
    from models.decoder import Decoder

log = get_logger(__name__)
InstructionSplit = Literal["train", "align", "heldout"]
"""Files of ``Instructions``: to fine-tune on, to align on, and those of held-out pages."""
Row = dict[str, Any]
INSTRUCTION_COLUMNS = ["id", "kind", "subject", "question", "answer"]


@dataclass(frozen=True)
class QuestionPrompt:
    """One question with the answer of the documentation and its prompt."""

    page: str
    """Id of the page it was made from."""
    kind: str
    subject: str
    question: str
    reference: str
    """The documentation's answer."""
    token_ids: tuple[int, ...]
    """The prompt."""
    context: str = ""
    """Text of all turns before the question; empty where it is the only one."""


@dataclass(frozen=True)
class ModelAnswer:
    """Sampled answer of a model."""

    text: str
    tokens: tuple[int, ...]
    """As sampled, with the end token where ``finished``."""
    finished: bool
    """False where the answer was cut at a limit."""


def read_instructions(folder: Path, split: InstructionSplit, half: Half | None = None) -> list[Row]:
    """Read the rows of a split: those made of pages, then a team's own, in the order of the files.

    Rows have all columns of their file; ``messages`` and ``tools`` of those made of pages are None.

    Args:
        folder: folder of sealed ``Instructions``.
        split: which of its files.
        half: only pages of this half.

    Raises:
        DataError: the file or a column is missing.
    """
    table = read_shard(folder / f"{split}.parquet")
    missing = [name for name in INSTRUCTION_COLUMNS if name not in table.column_names]
    if missing:
        raise DataError(f"{split}.parquet: column {missing[0]!r} is missing")
    rows: list[Row] = [{**row, "messages": None, "tools": None} for row in table.to_pylist()]
    own = folder / own_rows_file(split)
    if own.is_file():
        rows += read_shard(own, OWN_ROW_SCHEMA.names).to_pylist()
    return rows if half is None else rows_of_half(rows, half)


def read_questions(
    folder: Path,
    split: InstructionSplit,
    tokenizer: ChatTokenizer,
    *,
    longest: int,
    limit: int | None,
    seed: int,
    half: Half | None = None,
    alone: bool = False,
) -> list[QuestionPrompt]:
    """Choose at most ``limit`` instructions of a split, in an order drawn by digest; maybe none.

    A team's own conversation is asked with all turns before the last answer.

    Args:
        folder: folder of sealed ``Instructions``.
        split: which of its files.
        tokenizer: makes the prompts.
        longest: questions of a longer prompt, in tokens, are left out.
        limit: most questions; None asks all.
        seed: seed of the order.
        half: only pages of this half of the held-out ones.
        alone: only questions that nothing stands before, so that a row with the question alone
            gives the prompt again.

    Raises:
        DataError: the file or a column is missing.
    """
    rows = read_instructions(folder, split, half)
    rows.sort(key=lambda row: _rank(seed, row["id"], row["question"], row["answer"]))
    chosen: list[QuestionPrompt] = []
    for row in rows:
        if len(chosen) == limit:
            break
        context = _context_of(row)
        if alone and (context or row["tools"]):
            continue
        prompt = _prompt_of(tokenizer, row)
        if prompt and len(prompt) <= longest:
            chosen.append(
                QuestionPrompt(
                    page=row["id"],
                    kind=row["kind"],
                    subject=row["subject"],
                    question=row["question"],
                    reference=row["answer"],
                    token_ids=prompt,
                    context=context,
                )
            )
    return chosen


def _prompt_of(tokenizer: ChatTokenizer, row: Row) -> tuple[int, ...]:
    """Prompt of an instruction; none where the chat template refuses its turns."""
    if row["messages"] is None:
        return tuple(tokenizer.encode_question(row["question"]))
    tools = None if row["tools"] is None else json.loads(row["tools"])
    try:
        turns = turns_before_answer(json.loads(row["messages"]))
        return tuple(tokenizer.encode_prompt(turns, tools))
    except ChatFormatError as error:
        log.info("not asked: conversation %s: %s", row["url"], error)
        return ()


def _context_of(row: Row) -> str:
    if row["messages"] is None:
        return ""
    return text_before_question(json.loads(row["messages"]))


def _rank(seed: int, *parts: str) -> bytes:
    return hashlib.sha256("\0".join((str(seed), *parts)).encode(errors="surrogatepass")).digest()


def sample_answers(
    model: Decoder,
    tokenizer: ChatTokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    max_new: int,
    temperature: float,
    seed: int,
    batch: int,
    report_answered: Callable[[int], None] = lambda count: None,
) -> list[ModelAnswer]:
    """Sample one answer per prompt, in their order.

    Prompts of like length share a batch. Equal prompts, seed and batch give every model the same
    random numbers.

    Args:
        model: decoder in evaluation mode.
        tokenizer: decodes the answers.
        prompts: token ids, up to and with the assistant's opening token.
        max_new: most tokens of an answer.
        temperature: temperature of sampling; 0 is greedy.
        seed: seed of the random numbers.
        batch: prompts in a batch.
        report_answered: called after each batch with the number of its answers.
    """
    import torch

    from models.generate import generate_answers

    generator = torch.Generator().manual_seed(seed)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers: dict[int, ModelAnswer] = {}
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        sampled = generate_answers(
            model,
            [prompts[index] for index in chosen],
            max_new=max_new,
            stop_ids=tokenizer.answer_end_ids,
            temperature=temperature,
            generator=generator,
        )
        for index, sample in zip(chosen, sampled, strict=True):
            answers[index] = decode_answer(tokenizer, sample.tokens, finished=sample.stopped)
        report_answered(len(chosen))
    return [answers[index] for index in range(len(prompts))]


def decode_answer(
    tokenizer: ChatTokenizer, tokens: Sequence[int], *, finished: bool
) -> ModelAnswer:
    """Decode sampled tokens; the token that ends an answer is no part of its text.

    Args:
        tokenizer: tokenizer of the model.
        tokens: tokens of the answer, without the prompt.
        finished: True where the last token is the end token.
    """
    answer_tokens = list(tokens[:-1] if finished else tokens)
    text = tokenizer.decode(answer_tokens).strip()
    return ModelAnswer(text, tuple(tokens), finished)
