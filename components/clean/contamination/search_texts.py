"""Texts that stand for the evaluation items in a search, with weights of their words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from components.clean.contamination.evaluation_items import EvaluationItem
from components.clean.contamination.ngram_index import NGRAM_WORDS
from components.clean.contamination.text_units import split_units

SAMPLE_DOCUMENTS = 2000
"""Documents of the corpus whose words are counted: a word of one in twenty is known to 10 %."""
SAMPLE_CHARACTERS = 20_000
"""Characters of a document that are counted, from its beginning."""
_SMOOTHING_TEXTS = 500
"""Texts added in the frequencies, so that weights from a handful of texts mean something."""
_LEAST_WEIGHT = 0.02
"""Weight of a word that every text holds: not 0, or texts of such words would have no overlap."""
_MAX_FUNCTION_WEIGHT = 0.125
"""Greatest weight of function words: in a corpus too small to know them they would count in full.

Six of them ("which of the following is true") stay below the information of a search text.
"""
_PLAIN_WORDS = 14
_PLAIN_INFORMATION = 4.0
"""Words and information of a question that is found without its answer, cut and edited too."""
_GAP_WORDS = 50
"""Words that may stand between the parts of any text: a sentence or two, or the other options."""
_STOP_WORDS = """
a about above after again all am an and any are as at be because been before being below between
both but by can could did do does doing down during each few for from further had has have having
he her here hers him his how i if in into is it its just me more most my no nor not now of off on
once only or other our out over own same she should so some such than that the their them then
there these they this those through to too under until up very was we were what when where which
while who whom why will with would you your s t
"""
_EXAM_WORDS = """
answer answers best choose correct described false following given incorrect likely option options
question select statement statements true
"""
_FUNCTION_WORDS = frozenset([*_STOP_WORDS.split(), *_EXAM_WORDS.split()])
"""Words of any sentence, and of any examination."""


@dataclass(frozen=True)
class SearchText:
    """A text that stands for an item: its question, or its question with an answer."""

    item: str
    words: tuple[str, ...]
    span: int
    """Words of a document within which its parts are looked for."""


@dataclass(frozen=True)
class WordCounts:
    """Documents of a sample, and how many of them hold each word."""

    documents: int
    holding: Mapping[str, int]


def count_document_words(items: Sequence[EvaluationItem], texts: Iterable[str]) -> WordCounts:
    """Count the documents that hold each word of the items."""
    wanted = {word for item in items for text in (item.question, *item.answers) for word in text}
    holding: Counter[str] = Counter()
    documents = 0
    for text in texts:
        holding.update(wanted.intersection(split_units(text[:SAMPLE_CHARACTERS])))
        documents += 1
    return WordCounts(documents, holding)


def weigh_words(items: Sequence[EvaluationItem], counts: WordCounts) -> dict[str, float]:
    """Weight of each word, in (0, 1]: by inverse frequency among items and documents together."""
    own = Counter(word for item in items for word in set(sum(item.answers, item.question)))
    total = len(items) + counts.documents + _SMOOTHING_TEXTS
    weights = {
        word: math.log(total / (count + counts.holding.get(word, 0))) / math.log(total)
        for word, count in own.items()
    }
    return {
        word: max(
            _LEAST_WEIGHT, min(weight, _MAX_FUNCTION_WEIGHT) if word in _FUNCTION_WORDS else weight
        )
        for word, weight in weights.items()
    }


def list_search_texts(
    items: Sequence[EvaluationItem],
    weights: Mapping[str, float],
    min_words: int,
    min_information: float,
) -> list[SearchText]:
    """Texts that stand for the items; items that say too little have none.

    A question that says little is searched for with each answer too, in any order with it.

    Args:
        items: Evaluation items.
        weights: Word -> weight, for all their words.
        min_words: Words of the shortest text.
        min_information: Sum of weights of the text that says least.
    """
    texts: list[SearchText] = []
    for item in items:
        longest = max(map(len, item.answers), default=0)
        wholes = [item.question]
        if (
            len(item.question) < _PLAIN_WORDS
            or sum(weights[word] for word in item.question) < _PLAIN_INFORMATION
        ):
            wholes += [item.question + answer for answer in item.answers]
        for words in wholes:
            if (
                len(words) >= max(min_words, NGRAM_WORDS)
                and sum(weights[word] for word in words) >= min_information
            ):
                # An answer may stand between sentences that were moved; one in ten may be added.
                span = len(words) + len(words) // 10 + min(longest, 2 * len(words)) + _GAP_WORDS
                texts.append(SearchText(item.name, words, span))
    return texts
