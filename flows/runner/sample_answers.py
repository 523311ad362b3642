"""Questions with a model's answers beside the documentation's, from a run's report ``facts``."""

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
from components.core.stats.figures import REPORT_FILE, Figure, read_extra, read_report

STAGE = "facts"
LONGEST = 240
"""Characters of an answer that are shown: three lines at 80 columns."""
_GROUPS = {
    "heldout": "held-out pages",
    "trained": "trained pages",
    "reworded": "trained pages, in other words",
}
"""What a model was never shown comes first."""


class Example(BaseModel):
    """One question as the report tells of it."""

    group: str
    kind: str
    question: str
    reference: str
    answer: str
    exact: bool


@dataclass(frozen=True)
class ModelAnswers:
    """Examples, chosen by the report and not by quality, and the shares that were exact."""

    examples: list[Example] = field(default_factory=list)
    shares: dict[str, Figure] = field(default_factory=dict)
    """Group -> its share of exact answers, over all that were asked."""

    def as_json(self) -> list[dict[str, Any]]:
        """A list of examples, as the report holds them."""
        return [example.model_dump() for example in self.examples]

    def show(self, console: Console) -> None:
        """Each group's questions and answers, then a line of shares; nothing without examples."""
        for group, title in _GROUPS.items():
            examples = [example for example in self.examples if example.group == group]
            if examples:
                console.print(f"\nanswers, {title}", style="bold")
                console.print(_table(examples))
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
            right = sum(example.exact for example in self.examples)
            parts = [f"{right} of these {len(self.examples)}"]
        return f"answered exactly: {'; '.join(parts)}" if parts else ""


def _table(examples: Iterable[Example]) -> Table:
    """A question a block: the question, the model's answer, the documentation's."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for example in examples:
        mark = Text("✓", "green") if example.exact else Text("✗", "red")
        table.add_row(mark, "question", _plain(example.question))
        table.add_row("", "model", _plain(example.answer) or Text("(nothing)", "dim"))
        table.add_row("", "documentation", _plain(example.reference))
    return table


def _plain(text: str) -> Text:
    """A text in one line, no markup and nothing that moves a terminal's cursor."""
    line = " ".join(text.split())
    shown = line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
    return Text("".join(sign if sign.isprintable() else "�" for sign in shown))


def read_answers(folder: Path) -> ModelAnswers:
    """What the report in ``folder`` holds; empty where the store holds it no more.

    Raises:
        DataError: the report is damaged.
    """
    if not (folder / REPORT_FILE).is_file():
        return ModelAnswers()
    examples = read_extra(folder).get("examples", [])
    figures = read_report(folder)
    try:
        checked = TypeAdapter(list[Example]).validate_python(examples)
    except ValidationError as error:
        raise DataError(f"{folder.name}: {REPORT_FILE}: examples cannot be read") from error
    return ModelAnswers(checked, {group: figures[group] for group in _GROUPS if group in figures})


def answers_of_run(store: Path, steps: Iterable[tuple[str, str]]) -> ModelAnswers:
    """The answers of the model that a run made.

    Args:
        store: the store's root.
        steps: (stage, artifact's name) of each step.

    Raises:
        DataError: the report is damaged.
    """
    for stage, artifact in steps:
        if stage == STAGE:
            return read_answers(store / artifact)
    return ModelAnswers()
