"""Constitution: the principles answers are judged by, as written in ``data/constitution.yaml``.

What a policy is trained towards and what it is compared by is a list that can be read and edited;
each principle is measured by one of ``components/text/constitution/answer_checks.py``. The idea of
principles instead of labels: Bai et al. 2022 (arXiv:2212.08073).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError, field_validator

from components.core.config.config_errors import ConfigSource, collect_problems
from components.core.config.stage_config import StageConfig, read_yaml
from components.core.errors import ConfigError, DataError, typed_error_line
from components.core.settings import own_checkout
from components.text.constitution.answer_checks import AnswerCase, Check

DEFAULT_CONSTITUTION_FILE = Path("data") / "constitution.yaml"


class Principle(StageConfig):
    """One quality of a good answer, its weight and the check that measures it."""

    name: str = Field(min_length=1, max_length=40, description="name in reports")
    description: str = Field(min_length=1, description="demand on an answer, in words for people")
    weight: float = Field(
        default=1.0, ge=0, le=100, description="weight beside the other principles"
    )
    check: Check = Field(description="check that measures it, with its settings")


class Constitution(StageConfig):
    """All principles, in the order of reports."""

    principles: tuple[Principle, ...] = Field(
        min_length=1, description="qualities of a good answer, each with a weight and a check"
    )

    @field_validator("principles")
    @classmethod
    def _named_once(cls, principles: tuple[Principle, ...]) -> tuple[Principle, ...]:
        names = Counter(principle.name for principle in principles)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise ValueError(f"two principles are named {twice[0]!r}")
        if not sum(principle.weight for principle in principles):
            raise ValueError("at least one principle needs a weight above 0")
        return principles


class JudgementFailed(DataError):
    """Error of a principle whose check raised or gave no number."""

    def __init__(self, principle: str, question: str, why: str) -> None:
        super().__init__(f"the principle {principle} failed on {question!r} ({why})")


@dataclass(frozen=True)
class Judgement:
    """Each principle's score of one answer and their weighted mean, all in [0, 1]."""

    scores: Mapping[str, float]
    total: float


def judge_answer(
    constitution: Constitution,
    question: str,
    subject: str,
    answer: str,
    reference: str,
    *,
    finished: bool = True,
) -> Judgement:
    """Judge one answer by every principle.

    Args:
        constitution: the principles.
        question: as it was asked.
        subject: name or topic it is about.
        answer: text to judge.
        reference: the documentation's answer.
        finished: False where the answer was cut at a limit.

    Raises:
        JudgeFailed: a principle's check raised, or its score is no number.
    """
    case = AnswerCase(question, subject, answer, reference, finished)
    scores: dict[str, float] = {}
    for principle in constitution.principles:
        try:
            scores[principle.name] = principle.check.score(case)
        except Exception as error:  # a check is code that people edit: anything may come out of it
            raise JudgementFailed(principle.name, question, typed_error_line(error)) from error
        if not math.isfinite(scores[principle.name]):
            raise JudgementFailed(
                principle.name, question, f"its score is {scores[principle.name]}"
            )
    weights = sum(p.weight for p in constitution.principles)
    total = sum(p.weight * scores[p.name] for p in constitution.principles) / weights
    return Judgement(scores, total)


def load_constitution(path: Path) -> Constitution:
    """Read a constitution from YAML.

    Raises:
        ConfigError: it cannot be read, or a principle is wrong; names file, line and field.
    """
    values, lines = read_yaml(path)
    try:
        return Constitution.model_validate(values)
    except ValidationError as error:
        problems = collect_problems(error, Constitution, values)
        raise ConfigError(ConfigSource(path, lines).format_problems(problems)) from error


def default_constitution() -> Constitution:
    """The constitution of this checkout, ``data/constitution.yaml``."""
    return load_constitution(own_checkout() / DEFAULT_CONSTITUTION_FILE)
