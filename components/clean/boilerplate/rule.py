"""Rule on boilerplate."""

from __future__ import annotations

from pydantic import Field

from components.clean.selection_rule import BoundsRule


class BoilerplateRule(BoundsRule):
    """Largest part of a page that may be menus and footers."""

    roles = ("boilerplate",)
    max_mean_probability: float = Field(default=0.8, ge=0, le=1, description="mean over lines")
    max_line_share: float = Field(default=0.85, ge=0, le=1, description="lines that are")
    max_character_share: float = Field(default=0.85, ge=0, le=1, description="characters")
