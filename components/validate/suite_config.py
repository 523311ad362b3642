"""Configuration of a Great Expectations suite, as people write it in ``data/expectations/``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, ValidationError, field_validator

from components.core.config.config_errors import ConfigSource, collect_problems
from components.core.config.stage_config import StageConfig, read_yaml
from components.core.errors import ConfigError
from components.core.stats.report_config import ReportConfig
from components.validate.document_frame import FRAME_SCHEMA

UNUSABLE_EXPECTATIONS = ("expect_column_quantile_values_to_be_between",)
"""Expectations on which Great Expectations 1.24 itself fails."""


class Expectation(StageConfig):
    """One expectation in Great Expectations' own terms."""

    type: str = Field(
        pattern=r"^expect_[a-z_]+$",
        description="name of the expectation: expect_column_mean_to_be_between ...",
    )
    kwargs: dict[str, Any] = Field(default={}, description="column, min_value, max_value, mostly")
    why: str = Field(default="", description="fault it protects from; shown when it fails")
    asked_in: str = Field(
        default="check.expectations",
        description="field of a run's config that asks for it; named when it fails",
    )

    @field_validator("type")
    @classmethod
    def _works(cls, name: str) -> str:
        if name in UNUSABLE_EXPECTATIONS:
            raise ValueError(f"{name} cannot be used; write two bounds on another figure")
        return name

    @field_validator("kwargs")
    @classmethod
    def _known_column(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        column = kwargs.get("column")
        if column is not None and column not in FRAME_SCHEMA.names:
            raise ValueError(f"no column {column!r}; columns: {', '.join(FRAME_SCHEMA.names)}")
        return kwargs

    @property
    def column(self) -> str:
        return str(self.kwargs.get("column", "table"))


class SuiteConfig(ReportConfig):
    """Suite of expectations, as data."""

    figures: ClassVar = ("documents", "characters", "kept_share", "duplicate_share")

    expectations: tuple[Expectation, ...] = Field(
        min_length=1, description="expectations that the corpus must meet"
    )
    examples: int = Field(default=3, ge=0, le=20, description="pages named when one fails")

    def figure_names(self) -> tuple[str, ...]:
        """Sizes of the corpus, then a figure for each expectation."""
        return (*self.figures, *self.expectation_names())

    def expectation_names(self) -> tuple[str, ...]:
        """Figures of the expectations in order: ``TYPE.COLUMN``, numbered where it recurs."""
        names: list[str] = []
        seen: Counter[str] = Counter()
        for expectation in self.expectations:
            name = f"{expectation.type.removeprefix('expect_')}.{expectation.column}"
            seen[name] += 1
            names.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
        return tuple(names)


def load_suite(path: Path) -> SuiteConfig:
    """Load the suite of a YAML file: a mapping with the field ``expectations``.

    Raises:
        ConfigError: the file is missing or no suite; names file and line.
    """
    values, lines = read_yaml(path)
    try:
        return SuiteConfig.model_validate(values)
    except ValidationError as error:
        problems = collect_problems(error, SuiteConfig, values)
        raise ConfigError(ConfigSource(path, lines).format_problems(problems)) from error
