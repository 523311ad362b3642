"""Checks of one answer: typed, bounded measures of text with a score in [0, 1].

Deterministic, and free of any model: what a check rewards can be read here and argued about.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from components.core.config.stage_config import StageConfig
from components.text.pii.find_pii import find_pii_spans
from components.text.spans import EXAMPLE_SUFFIX


@dataclass(frozen=True)
class AnswerCase:
    """One answer to judge. ``finished`` is False where it was cut at a limit."""

    question: str
    subject: str
    """Name or topic that the question is about."""
    answer: str
    reference: str
    """The documentation's answer."""
    finished: bool = True


class SubjectCheck(StageConfig):
    """Score 1 where the subject is named; else the weighed share of its name's words."""

    kind: Literal["subject"] = Field(default="subject", description="name of this kind of check")
    words_worth: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="score of an answer that has all words of the name but not the name",
    )

    def score(self, case: AnswerCase) -> float:
        last = case.subject.rpartition(".")[2]
        if not last or _contains_name(case.answer, last):
            return 1.0
        wanted = {strip_ending(word) for word in name_words(last)}
        answered = {strip_ending(word) for word in answer_words(case.answer)}
        return self.words_worth * len(wanted & answered) / len(wanted) if wanted else 0.0


class SentenceCheck(StageConfig):
    """A quarter each for a proper start, a full stop, closed brackets and ticks, no cut."""

    kind: Literal["sentence"] = Field(default="sentence", description="name of this kind of check")

    def score(self, case: AnswerCase) -> float:
        text = case.answer.strip()
        if not text:
            return 0.0
        begins = bool(re.match(r"[\"'(]?[A-Z0-9`_]|\w+[._(]", text))
        ends = bool(re.search(r"[.!?][\"')\]`]*$", text))
        return (begins + (ends and case.finished) + is_balanced(text) + case.finished) / 4


class RepetitionCheck(StageConfig):
    """Share of word n-grams that are distinct, stretched so that ``floor`` gives 0."""

    kind: Literal["repetition"] = Field(
        default="repetition", description="name of this kind of check"
    )
    words: int = Field(default=3, ge=1, le=10, description="words in an n-gram")
    floor: float = Field(
        default=0.5, ge=0, lt=1, description="distinct share that is worth nothing"
    )

    def score(self, case: AnswerCase) -> float:
        answered = answer_words(case.answer)
        grams = [tuple(answered[i : i + self.words]) for i in range(len(answered) - self.words + 1)]
        if not grams:
            return 1.0
        return _clamp((len(set(grams)) / len(grams) - self.floor) / (1 - self.floor))


class LengthCheck(StageConfig):
    """Score 1 from ``shortest`` to ``longest`` words; falls to 0 at none and twice the longest."""

    kind: Literal["length"] = Field(default="length", description="name of this kind of check")
    shortest: int = Field(default=4, ge=1, description="fewest words of a full score")
    longest: int = Field(default=50, ge=1, description="most words of a full score")

    @field_validator("longest")
    @classmethod
    def _above(cls, longest: int, info: ValidationInfo) -> int:
        if longest < info.data.get("shortest", 1):
            raise ValueError("longest must not be below shortest")
        return longest

    def score(self, case: AnswerCase) -> float:
        count = len(answer_words(case.answer))
        return _clamp(min(count / self.shortest, 2 - count / self.longest))


class ReferenceCheck(StageConfig):
    """F1 of the content words with those of the documentation; ``full`` and above gives 1."""

    kind: Literal["reference"] = Field(
        default="reference", description="name of this kind of check"
    )
    full: float = Field(default=1.0, gt=0, le=1, description="F1 that is worth a full score")

    def score(self, case: AnswerCase) -> float:
        answered, wanted = content_stems(case.answer), content_stems(case.reference)
        shared = (answered & wanted).total()
        if not shared:
            return 1.0 if not wanted else 0.0
        return _clamp(2 * shared / (answered.total() + wanted.total()) / self.full)


class IdentifiersCheck(StageConfig):
    """Names of code: F1 of naming what the documentation names and nothing it does not know.

    A name is known when the documentation or the question holds it. Where the documentation
    names nothing, the known share of the answer's names.
    """

    kind: Literal["identifiers"] = Field(
        default="identifiers", description="name of this kind of check"
    )

    def score(self, case: AnswerCase) -> float:
        named, wanted = find_identifiers(case.answer), find_identifiers(case.reference)
        known = f"{case.question} {case.subject} {case.reference}"
        precision = _share([_contains_name(known, name) for name in named])
        if not wanted:
            return precision
        recall = _share([_contains_name(case.answer, name) for name in wanted])
        return (
            2 * precision * recall / (precision + recall) if named and precision + recall else 0.0
        )


class PlainCheck(StageConfig):
    """Score 1 without left-over markup, falling to 0 at ``worst`` pieces of it."""

    kind: Literal["plain"] = Field(default="plain", description="name of this kind of check")
    worst: int = Field(default=3, ge=1, description="pieces of markup that give 0")

    def score(self, case: AnswerCase) -> float:
        return _clamp(1 - len(_NOISE.findall(case.answer)) / self.worst)


class PersonalCheck(StageConfig):
    """Score 0 for personal data or a secret in the answer, documentation examples aside."""

    kind: Literal["personal"] = Field(default="personal", description="name of this kind of check")

    def score(self, case: AnswerCase) -> float:
        kinds = (span.kind for span in find_pii_spans(case.answer))
        return 0.0 if any(not kind.endswith(EXAMPLE_SUFFIX) for kind in kinds) else 1.0


class FormRule(StageConfig):
    """Patterns that an answer to a certain question must hold, or must not."""

    asked: str = Field(min_length=1, description="pattern of the questions it is about")
    says: str | None = Field(default=None, description="pattern the answer must hold")
    avoids: str | None = Field(default=None, description="pattern the answer must not hold")

    @field_validator("asked", "says", "avoids")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern

    def is_met(self, answer: str) -> bool:
        holds = self.says is None or re.search(self.says, answer, re.IGNORECASE) is not None
        return holds and (
            self.avoids is None or re.search(self.avoids, answer, re.IGNORECASE) is None
        )


class FormCheck(StageConfig):
    """Share of the forms asked for that the answer keeps; 1 where none is asked for."""

    kind: Literal["form"] = Field(default="form", description="name of this kind of check")
    forms: tuple[FormRule, ...] = Field(min_length=1, description="rules by question")

    def score(self, case: AnswerCase) -> float:
        asked = [f for f in self.forms if re.search(f.asked, case.question, re.IGNORECASE)]
        return sum(form.is_met(case.answer) for form in asked) / len(asked) if asked else 1.0


Check = Annotated[
    SubjectCheck
    | SentenceCheck
    | RepetitionCheck
    | LengthCheck
    | ReferenceCheck
    | IdentifiersCheck
    | PlainCheck
    | PersonalCheck
    | FormCheck,
    Field(discriminator="kind"),
]


_WORD = re.compile(r"[A-Za-z0-9]+(?:['’][a-z]+)?")
_NAME_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_IDENTIFIER = re.compile(
    r"`([^`\n]{1,80})`"  # in ticks
    r"|\b([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)"  # dotted
    r"|\b([A-Za-z]\w*_\w+)\b"  # snake_case
    r"|\b([a-z]+[A-Z]\w*|[A-Z][a-z0-9]+[A-Z]\w*)\b"  # camelCase, PascalCase
    r"|\b([a-z]\w*)\(\)"  # called()
)
_NOISE = re.compile(
    r"^\s*\.\. |:[a-z:]+:`|>>>|={3,}|-{3,}|~{3,}|\*{3,}|#{2,}"  # directives, prompts, rules
    r"|\||</?[a-z]\w*>|�|``|^#+ |\n\s*\n",  # tables and special tokens, tags, headings, breaks
    re.MULTILINE,
)
_ENDINGS = ("ations", "ation", "ings", "ing", "ions", "ion", "ers", "er", "ed", "es", "s", "e")
STOP_WORDS = frozenset(
    (
        *("a", "an", "and", "are", "as", "at", "be", "by", "can", "do", "does", "for", "from"),
        *("has", "have", "if", "in", "into", "is", "it", "its", "like", "may", "not", "of", "on"),
        *("one", "or", "so", "such", "than", "that", "the", "their", "them", "then", "there"),
        *("these", "this", "those", "to", "was", "what", "when", "which", "will", "with"),
        *("you", "your"),
    )
)


def answer_words(text: str) -> list[str]:
    """Words and numbers of an answer, lower case, in order."""
    return [word.lower() for word in _WORD.findall(text)]


def name_words(name: str) -> list[str]:
    """Words of an identifier: ``to_iceberg`` and ``toIceberg`` are both to, iceberg."""
    return [part.lower() for part in _NAME_PART.findall(name)]


def strip_ending(word: str) -> str:
    """Strip a word's ending, roughly: enough to match ``dumps`` with ``dump``."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def content_stems(text: str) -> Counter[str]:
    """Stems of the words that carry meaning, each as often as it is said."""
    return Counter(strip_ending(word) for word in answer_words(text) if word not in STOP_WORDS)


def find_identifiers(text: str) -> list[str]:
    """Find names of code, each once, in order: in ticks, dotted, snake or camel case."""
    names = (next(filter(None, match.groups())) for match in _IDENTIFIER.finditer(text))
    return list(dict.fromkeys(name.strip("() ") for name in names))


def is_balanced(text: str) -> bool:
    """True where brackets close in order and ticks and double quotes come in pairs."""
    waiting: list[str] = []
    pairs = {")": "(", "]": "[", "}": "{"}
    for sign in text:
        if sign in pairs.values():
            waiting.append(sign)
        elif sign in pairs and (not waiting or waiting.pop() != pairs[sign]):
            return False
    return not waiting and text.count("`") % 2 == 0 and text.count('"') % 2 == 0


def _contains_name(text: str, name: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE))


def _share(held: list[bool]) -> float:
    return sum(held) / len(held) if held else 1.0


def _clamp(value: float) -> float:
    return min(1.0, max(0.0, value))
