"""Config of the stage that reads conversations: its files, bounds and split, and the cleaning."""

from __future__ import annotations

from pydantic import Field, field_validator

from components.clean.contamination.rule import ContaminationRule
from components.clean.contamination.score import ContaminationConfig
from components.clean.duplicates.rule import DuplicateRule
from components.clean.duplicates.score import DuplicatesConfig
from components.clean.pii.rule import PiiRule
from components.clean.pii.score import PiiConfig
from components.clean.select import SelectConfig
from components.core.config.hashed_file import HashedFile, check_names_differ
from components.core.config.stage_config import StageConfig


class ConversationSelectConfig(SelectConfig):
    """Rules on conversations: those on pages that say something of a dialogue, in their order."""

    contamination: ContaminationRule = Field(
        default=ContaminationRule(), description="evaluation items that a conversation may hold"
    )
    pii: PiiRule = Field(default=PiiRule(), description="personal data and secrets")
    duplicates: DuplicateRule = Field(
        default=DuplicateRule(), description="copies of a conversation that is kept"
    )


class ConversationsConfig(StageConfig):
    """Files of conversations, the split of held-out ones, and the scores and rules on them."""

    files: tuple[HashedFile, ...] = Field(
        default=(), description="JSON lines, JSON lists or Parquet, plain, gzip or zstd"
    )
    heldout_share: float = Field(
        default=0.1, ge=0, le=0.5, description="share of conversations that no model is trained on"
    )
    max_characters: int = Field(
        default=200_000, ge=1, description="longest text of a conversation; longer is set aside"
    )
    max_bad_share: float = Field(
        default=0.1, ge=0, le=1, description="share of rows set aside above which a run ends"
    )
    shards: int = Field(default=4, ge=1, le=100_000, description="number of shards of the corpus")
    pii: PiiConfig = Field(default=PiiConfig(), description="spans of personal data and secrets")
    contamination: ContaminationConfig = Field(
        default=ContaminationConfig(), description="overlaps with evaluation items"
    )
    duplicates: DuplicatesConfig = Field(
        default=DuplicatesConfig(), description="pairs of equal and nearly equal conversations"
    )
    select: ConversationSelectConfig = Field(
        default=ConversationSelectConfig(), description="rules on the scores"
    )

    _names_differ = field_validator("files")(check_names_differ)
