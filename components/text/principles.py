"""The principles an answer is judged by, as people write them in ``data/constitution.yaml``.

What a policy is trained towards and what it is compared by is a list that can be read and edited;
each principle is measured by one of ``components/text/checks.py``. The idea of principles instead
of labels: Bai et al. 2022 (arXiv:2212.08073).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from components.core.config import Location, StageConfig, read_yaml
from components.core.errors import ConfigError
from components.core.settings import checkout
from components.text.checks import Case, Check

HOUSE_FILE = Path("data") / "constitution.yaml"


class Principle(StageConfig):
    """One thing that makes an answer good, and how it is seen."""

    name: str = Field(min_length=1, max_length=40, description="what reports call it")
    description: str = Field(min_length=1, description="what it asks, for a person")
    weight: float = Field(
        default=1.0, ge=0, le=100, description="how much it counts beside the others"
    )
    check: Check = Field(description="how it is measured")


class Constitution(StageConfig):
    """All principles, in the order reports show them."""

    principles: tuple[Principle, ...] = Field(min_length=1, description="what makes answers good")

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


@dataclass(frozen=True)
class Judgement:
    """Each principle's score of one answer and their weighted mean, all in [0, 1]."""

    scores: Mapping[str, float]
    total: float


def judge(
    constitution: Constitution,
    question: str,
    subject: str,
    answer: str,
    reference: str,
    *,
    finished: bool = True,
) -> Judgement:
    """Judge one answer by every principle."""
    case = Case(question, subject, answer, reference, finished)
    scores = {p.name: p.check.score(case) for p in constitution.principles}
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
        raise ConfigError(_explain(error, path, values, lines)) from error


def house_constitution() -> Constitution:
    """The constitution of this checkout, ``data/constitution.yaml``."""
    return load_constitution(checkout(Path(__file__).parent) / HOUSE_FILE)


def _explain(error: ValidationError, path: Path, values: Any, lines: Mapping[Location, int]) -> str:
    """``file:line: field: what is wrong`` for the first mistake."""
    first = error.errors(include_url=False)[0]
    field = _as_written(first["loc"], values)
    known = field
    while known and known not in lines:
        known = known[:-1]
    dotted = ".".join(str(part) for part in field) or "(whole file)"
    message = first["msg"].removeprefix("Value error, ")
    return f"{path}:{lines.get(known, 1)}: {dotted}: {message[0].lower()}{message[1:]}"


def _as_written(loc: Location, values: Any) -> Location:
    """A validation error's location without the tags that pydantic adds for kinds of check."""
    kept: list[str | int] = []
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        inside = isinstance(values, list | Mapping) and (
            part in values if isinstance(values, Mapping) else isinstance(part, int)
        )
        if inside:
            values = values[part]
        if inside or last:
            kept.append(part)
    return tuple(kept)
