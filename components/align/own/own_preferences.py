"""A team's own judged answers as preference data: tokens, pairs, and what cannot be learnt from.

``answers.own.parquet`` (``OWN_ANSWER_SCHEMA``) holds every answer as the chat template writes it
behind its prompt, ``train.own.parquet`` and ``heldout.own.parquet`` (``OWN_PAIR_SCHEMA``) every two
answers to a prompt that are judged ``margin`` apart, ``unused.own.parquet`` every answer that
nothing is learnt from, with its reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.core.log import get_logger
from components.core.store.shards import write_shard
from components.text.chat.chat_tokenizer import ChatTokenizer
from components.text.chat.chat_turns import conversation_subject, last_answer, last_question
from components.text.chat.judged_prompts import (
    OWN_ANSWERS_FILE,
    JudgedPrompt,
    OwnAnswer,
    read_judged_prompts,
)
from components.text.chat.template_sandbox import ChatFormatError

log = get_logger(__name__)
UNUSED_FILE = "unused.own.parquet"
OWN_ANSWER_SCHEMA = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("page", pa.string(), nullable=False),  # digest of the prompt
        pa.field("source", pa.string(), nullable=False),  # pairs, or the file of the ratings
        pa.field("question", pa.string(), nullable=False),  # the user's last turn
        pa.field("subject", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("messages", pa.string(), nullable=False),  # JSON: the prompt's turns, the answer
        pa.field("tools", pa.string()),  # JSON, null where there are none
        pa.field("prompt", pa.list_(pa.int32()), nullable=False),  # tokens
        pa.field("tokens", pa.list_(pa.int32()), nullable=False),  # of the answer, with its end
        pa.field("judgement", pa.float64(), nullable=False),
        pa.field("rows", pa.list_(pa.string()), nullable=False),  # addresses it was judged in
    ]
)
OWN_PAIR_SCHEMA = pa.schema(
    [
        pa.field("page", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),  # JSON, the turns before the answers
        pa.field("tools", pa.string()),
        pa.field("chosen", pa.string(), nullable=False),  # JSON, the assistant's turn
        pa.field("rejected", pa.string(), nullable=False),
        pa.field("margin", pa.float64(), nullable=False),
    ]
)
UNUSED_SCHEMA = pa.schema(
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
_SPLIT_OF = {False: "train", True: "heldout"}
_SHOWN_REASONS = 3
Row = dict[str, Any]


@dataclass
class OwnPreferences:
    """Rows of a team's own judged answers."""

    answers: list[Row] = field(default_factory=list)
    pairs: dict[str, list[Row]] = field(default_factory=lambda: {"train": [], "heldout": []})
    unused: list[Row] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write a file for each kind of rows."""
        tables = {
            OWN_ANSWERS_FILE: (self.answers, OWN_ANSWER_SCHEMA),
            **{f"{s}.own.parquet": (rows, OWN_PAIR_SCHEMA) for s, rows in self.pairs.items()},
            UNUSED_FILE: (self.unused, UNUSED_SCHEMA),
        }
        for name, (rows, schema) in tables.items():
            write_shard(folder / name, pa.Table.from_pylist(rows, schema=schema))

    def as_stats(self) -> dict[str, float]:
        """Counts of rows."""
        return {
            "own_answers": float(len(self.answers)),
            "own_unused": float(len(self.unused)),
            **{f"own_{split}_pairs": float(len(rows)) for split, rows in self.pairs.items()},
        }


def prepare_own_preferences(
    corpus: Path, tokenizer: ChatTokenizer, *, context: int, margin: float
) -> OwnPreferences:
    """Write each judged answer as the template does, and pair those to one prompt.

    Args:
        corpus: folder of a corpus of judged answers.
        tokenizer: of the policy.
        context: longest prompt with its answer, in tokens.
        margin: least difference of two judgements that makes a pair.

    Raises:
        DataError: the corpus holds no judged answers.
    """
    own = OwnPreferences()
    prompts = read_judged_prompts(corpus)
    trained = {prompt.id for prompt in prompts if not prompt.heldout}
    for prompt in prompts:
        if prompt.heldout and prompt.id in trained:  # equal once personal data is redacted
            _set_aside(own, prompt.answers, "training has its prompt")
            continue
        _add_prompt(own, prompt, _encode_answers(own, prompt, tokenizer, context), margin)
    if own.unused:
        reasons = Counter(row["reason"].partition(":")[0] for row in own.unused).most_common()
        shown = "; ".join(f"{count} × {reason}" for reason, count in reasons[:_SHOWN_REASONS])
        log.warning("preferences: %d answers of yours teach nothing: %s", len(own.unused), shown)
    return own


def _encode_answers(
    own: OwnPreferences, prompt: JudgedPrompt, tokenizer: ChatTokenizer, context: int
) -> list[tuple[OwnAnswer, Row]]:
    """Answers that fit into the context, with the tokens of the prompt and their own."""
    encoded: list[tuple[OwnAnswer, list[int], int]] = []
    for answer in prompt.answers:
        messages = [*prompt.messages, answer.message]
        try:
            conversation = tokenizer.encode_conversation(messages, prompt.tools)[-1]
        except ChatFormatError as error:
            _set_aside(own, [answer], f"the chat template refuses it: {error}")
            continue
        start, end = conversation.answers[-1]
        if end > context:
            reason = f"longer than the model's context of {context} tokens: {end}"
            _set_aside(own, [answer], reason)
        elif start == end:
            _set_aside(own, [answer], "the chat template writes nothing of it")
        else:
            encoded.append((answer, conversation.ids[:end], start))
    # A token may hold the prompt's last sign and an answer's first: what all share is the prompt.
    shared = _count_shared([ids[:start] for _, ids, start in encoded])
    return [
        (answer, {"prompt": ids[:shared], "tokens": ids[shared:]}) for answer, ids, _ in encoded
    ]


def _count_shared(prompts: Sequence[Sequence[int]]) -> int:
    """Number of first tokens that all prompts have in common."""
    shortest = min(map(len, prompts), default=0)
    columns = enumerate(zip(*prompts, strict=False))
    return next((at for at, tokens in columns if len(set(tokens)) > 1), shortest)


def _add_prompt(
    own: OwnPreferences,
    prompt: JudgedPrompt,
    encoded: Sequence[tuple[OwnAnswer, Row]],
    margin: float,
) -> None:
    """Add the answers to a prompt, and its pairs; none where all are judged alike."""
    answers = [answer for answer, *_ in encoded]
    judgements = [answer.judgement for answer in answers]
    if not answers or max(judgements) == min(judgements):
        _set_aside(own, answers, "no other answer to its prompt is judged better or worse")
        return
    split = _SPLIT_OF[prompt.heldout]
    tools = None if prompt.tools is None else _dump(prompt.tools)
    for answer, tokens in encoded:
        messages = [*prompt.messages, answer.message]
        own.answers.append(
            {
                "split": split,
                "page": prompt.id,
                "source": prompt.source,
                "question": last_question(messages),
                "subject": conversation_subject(messages),
                "answer": last_answer(messages),
                "messages": _dump(messages),
                "tools": tools,
                **tokens,
                "judgement": answer.judgement,
                "rows": list(answer.urls),
            }
        )
    own.pairs[split].extend(_pair_answers(prompt, answers, tools, margin))


def _pair_answers(
    prompt: JudgedPrompt, answers: Sequence[OwnAnswer], tools: str | None, margin: float
) -> Iterator[Row]:
    ranked = sorted(answers, key=lambda answer: -answer.judgement)
    for better, worse in combinations(ranked, 2):
        if better.judgement - worse.judgement >= margin:
            yield {
                "page": prompt.id,
                "source": prompt.source,
                "prompt": _dump(prompt.messages),
                "tools": tools,
                "chosen": _dump(better.message),
                "rejected": _dump(worse.message),
                "margin": better.judgement - worse.judgement,
            }


def _set_aside(own: OwnPreferences, answers: Sequence[OwnAnswer], reason: str) -> None:
    own.unused += [{"url": url, "reason": reason} for answer in answers for url in answer.urls]


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
