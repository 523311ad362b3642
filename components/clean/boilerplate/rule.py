"""Rule on the share of a page that is boilerplate."""

from __future__ import annotations

from pydantic import Field

from components.clean.selection_rule import BoundsRule


class BoilerplateRule(BoundsRule):
    """Largest part of a page that may be menus and footers."""

    roles = ("boilerplate",)
    max_mean_probability: float = Field(
        default=0.8, ge=0, le=1, description="mean probability of a page's lines being boilerplate"
    )
    max_line_share: float = Field(
        default=0.85, ge=0, le=1, description="share of lines that are boilerplate"
    )
    max_character_share: float = Field(
        default=0.85, ge=0, le=1, description="share of characters in such lines"
    )
