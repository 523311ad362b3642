"""Ways in which evaluation items get into pages, and n-gram rules as peers of the scorer.

The peers flag a document that holds any n words in a row of an item: 13 as GPT-3 did (Brown et al.
2020, arXiv:2005.14165, appendix C) and lm-eval does, 8 as PaLM and Llama 3 count them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

from components.text.word_splitting import split_words

Edit = Callable[[str, str, random.Random, Sequence[str]], str]
PEER_NGRAMS = (8, 13)
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s*(?=\S)")
_INTERRUPTION_WORDS = 15
"""Words of the foreign sentence."""


def split_tokens(text: str) -> tuple[list[str], str]:
    """(words, or signs where a text has no spaces; what joins them)."""
    words = text.split()
    return (words, " ") if len(words) > 1 + len(text) // 30 else (list(text), "")


def _both(question: str, answer: str, *_: object) -> str:
    return f"{question} {answer}".strip()


def _change_words(
    question: str, answer: str, draw: random.Random, vocabulary: Sequence[str]
) -> str:
    words, joint = split_tokens(_both(question, answer))
    for at in draw.sample(range(len(words)), max(1, round(len(words) / 10))):
        words[at] = draw.choice(vocabulary)
    return joint.join(words)


def _change_case(question: str, answer: str, draw: random.Random, _: Sequence[str]) -> str:
    text = _both(question, answer)
    return draw.choice((text.upper(), text.lower(), text.title()))


def _move_sentences(question: str, _: str, draw: random.Random, __: Sequence[str]) -> str:
    """Sentences in another order; of a single one the second half first."""
    sentences = [part for part in _SENTENCE_END.split(question) if part.strip()]
    if len(sentences) < 2:
        words, joint = split_tokens(question)
        half = len(words) // 2
        return joint.join([*words[half:], *words[:half]])
    order = list(range(len(sentences)))
    while order == sorted(order):
        draw.shuffle(order)
    return " ".join(sentences[at] for at in order)


def _interrupt(question: str, _: str, draw: random.Random, vocabulary: Sequence[str]) -> str:
    words, joint = split_tokens(question)
    half = len(words) // 2
    foreign = " ".join(draw.choices(vocabulary, k=_INTERRUPTION_WORDS))
    return f"{joint.join(words[:half])} {foreign}. {joint.join(words[half:])}"


def _cut(question: str, *_: object) -> str:
    words, joint = split_tokens(question)
    return joint.join(words[: round(0.75 * len(words))])


EDITS: Mapping[str, tuple[Edit, float]] = {
    "verbatim": (_both, 0.99),
    "one word in ten changed": (_change_words, 0.95),
    "recased": (_change_case, 0.99),
    "question only": (lambda question, *_: question, 0.95),
    "question, sentences moved": (_move_sentences, 0.9),
    "question, a foreign sentence inside": (_interrupt, 0.9),
    "first three quarters of the question": (_cut, 0.9),
}
"""Name -> (edit, smallest recall)."""


def plant_items(
    items: Mapping[str, str], edit_name: str, bearers: Sequence[str]
) -> list[tuple[str, str, str]]:
    """(question, answer, a bearer with the edited item in it) for each item.

    Args:
        items: question -> answer.
        edit_name: one of ``EDITS``.
        bearers: texts without an item.
    """
    draw = random.Random(edit_name)  # noqa: S311 - a benchmark that must repeat
    vocabulary = sorted({word for text in bearers[:200] for word in text.split()})
    edit = EDITS[edit_name][0]
    planted = []
    for question, answer in items.items():
        bearer = draw.choice(bearers)
        at = draw.randrange(len(bearer))
        text = edit(question, answer, draw, vocabulary)
        planted.append((question, answer, f"{bearer[:at]}\n\n{text}\n\n{bearer[at:]}"))
    return planted


def list_ngrams(text: str, size: int) -> set[tuple[str, ...]]:
    """All runs of ``size`` words."""
    words = split_words(text)
    return set(zip(*(words[at:] for at in range(size)), strict=False))


def share_flagged_by_ngrams(planted: Sequence[tuple[str, str, str]], size: int) -> float:
    """Share of planted items of which the document holds ``size`` words in a row.

    Args:
        planted: (question, answer, document) of each.
        size: words of an n-gram.
    """
    hits = (
        bool(list_ngrams(f"{question} {answer}", size) & list_ngrams(document, size))
        for question, answer, document in planted
    )
    return sum(hits) / len(planted)
