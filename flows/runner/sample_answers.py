"""Sample of a model's answers beside the documentation's, from a run's report ``facts``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.core.errors import DataError
from components.core.stats.figures import REPORT_FILE, Figure, read_report, read_report_content

FACTS_STAGE = "facts"
MOST_CHARACTERS = 240
"""Characters of an answer that are shown: three lines at 80 columns."""
_GROUPS = {
    "heldout": "held-out pages",
    "trained": "trained pages",
    "reworded": "trained pages, in other words",
}
"""Title of each group of pages; those the model was never trained on come first."""


class SampleAnswer(BaseModel):
    """One question with the model's answer, as the report holds it."""

    group: str
    kind: str
    question: str
    reference: str
    answer: str
    exact: bool


@dataclass(frozen=True)
class ModelAnswers:
    """Sample answers, chosen by the report and not by quality, and the shares of exact ones."""

    examples: list[SampleAnswer] = field(default_factory=list)
    shares: dict[str, Figure] = field(default_factory=dict)
    """Share of exact answers among all questions of a group, by group."""

    def as_json(self) -> list[dict[str, Any]]:
        """JSON list of the examples, as the report holds them."""
        return [example.model_dump() for example in self.examples]

    def show(self, console: Console) -> None:
        """Print each group's questions and answers, then the shares of exact ones."""
        for group, title in _GROUPS.items():
            examples = [example for example in self.examples if example.group == group]
            if examples:
                console.print(f"\nanswers, {title}", style="bold")
                console.print(_answers_table(examples))
        if line := self._share_line():
            console.print(line, soft_wrap=True)

    def _share_line(self) -> str:
        """``answered exactly: held-out pages 3.1 % [1.2, 6.4]; …``."""
        parts = [
            f"{title} {100 * share.value:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"
            for group, title in _GROUPS.items()
            if (share := self.shares.get(group)) is not None
        ]
        if not parts and self.examples:
            exact = sum(example.exact for example in self.examples)
            parts = [f"{exact} of these {len(self.examples)}"]
        return f"answered exactly: {'; '.join(parts)}" if parts else ""


def _answers_table(examples: Iterable[SampleAnswer]) -> Table:
    """Table of three lines an example: question, the model's answer, the documentation's."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for example in examples:
        mark = Text("✓", "green") if example.exact else Text("✗", "red")
        table.add_row(mark, "question", _plain_line(example.question))
        table.add_row("", "model", _plain_line(example.answer) or Text("(nothing)", "dim"))
        table.add_row("", "documentation", _plain_line(example.reference))
    return table


def _plain_line(text: str) -> Text:
    """Text on one line, without markup and control characters that move a terminal's cursor."""
    line = " ".join(text.split())
    shown = line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 1]}…"
    return Text("".join(sign if sign.isprintable() else "�" for sign in shown))


def read_answers(folder: Path) -> ModelAnswers:
    """Sample answers in the report in ``folder``; empty where the store no longer has it.

    Raises:
        DataError: the report is damaged.
    """
    if not (folder / REPORT_FILE).is_file():
        return ModelAnswers()
    examples = read_report_content(folder).get("examples", [])
    figures = read_report(folder)
    try:
        checked = TypeAdapter(list[SampleAnswer]).validate_python(examples)
    except ValidationError as error:
        raise DataError(f"{folder.name}: {REPORT_FILE}: examples cannot be read") from error
    return ModelAnswers(checked, {group: figures[group] for group in _GROUPS if group in figures})


def answers_of_run(store: Path, steps: Iterable[tuple[str, str]]) -> ModelAnswers:
    """Sample answers of the model that a run made.

    Args:
        store: the store's root.
        steps: (stage, artifact's name) of each step.

    Raises:
        DataError: the report is damaged.
    """
    for stage, artifact in steps:
        if stage == FACTS_STAGE:
            return read_answers(store / artifact)
    return ModelAnswers()
