"""Configuration of preference data: sampled answers, and a team's own judged ones."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from components.core.config.hashed_file import HashedFile, check_names_differ
from components.core.config.stage_config import StageConfig
from components.text.constitution.principles import Constitution, default_constitution


class PreferencesConfig(StageConfig):
    """Prompts, answers to each, the margin that makes two answers a pair, and files of your own."""

    files: tuple[HashedFile, ...] = Field(
        default=(),
        description="preferences of your own: JSON lines, JSON lists or Parquet of chosen and "
        "rejected answers, or of answers with a rating",
    )
    principles: bool = Field(
        default=True,
        description="sample answers and judge them by the principles; false learns from your own "
        "preferences alone",
    )
    ratings: tuple[str, ...] = Field(
        default=(),
        description="fields of your files whose mean is an answer's rating (helpfulness, "
        "correctness); left out, rating, score or label",
    )
    rating_margin: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="least difference of two answers to a prompt of yours that makes them a pair, "
        "as a share of their file's scale of ratings",
    )
    heldout_share: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="share of your own prompts that no reward is learnt from, to measure it on",
    )
    max_characters: int = Field(
        default=200_000,
        ge=1,
        description="longest text of a row of yours, prompt and answers; a longer one is set aside",
    )
    max_bad_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="share of the rows of your files that may hold no preference; more end a run",
    )
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

    _names_differ = field_validator("files")(check_names_differ)

    @model_validator(mode="after")
    def _judged_by_something(self) -> PreferencesConfig:
        if not self.principles and not self.files:
            raise ValueError("principles: false needs files of preferences of your own")
        return self
