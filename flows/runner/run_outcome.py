"""Outcome of a run: its closing table, sample answers and the next command."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from components.core.store.artifact import Bento, ModelVersion
from flows.runner.progress_display import closing_table
from flows.runner.run_records import step_json
from flows.runner.runner import (
    StepResult,
)
from flows.runner.sample_answers import ModelAnswers, answers_of_run


@dataclass
class RunOutcome:
    """End of a run, its results, and the closing lines for its user."""

    run: str
    home: Path
    target: str
    stopped_after: str | None = None
    end_reason: str = ""
    """Reason of the action that ended the run early; empty where it went to its last step."""
    results: list[StepResult] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """JSON object of the run."""
        return {
            "run": self.run,
            "until": self.stopped_after,
            "ended": self.end_reason,
            "seconds": round(sum(result.seconds for result in self.results), 3),
            "steps": [step_json(result) for result in self.results],
            "answers": self.answers.as_json(),
        }

    @property
    def answers(self) -> ModelAnswers:
        """Sample of the model's answers; empty where the run measured none."""
        steps = ((result.name, result.artifact.name) for result in self.results)
        return answers_of_run(self.home / "store", steps)

    def show(self, console: Console) -> None:
        """Print the closing table, sample answers, places of what was made, the next command."""
        console.print()
        console.print(closing_table(self.results))
        self.answers.show(console)
        for result in self.results:
            if isinstance(result.artifact, ModelVersion) and result.name == "registry":
                console.print(f"made: {result.artifact.name} in the MLflow registry")
            elif isinstance(result.artifact, Bento):
                console.print(f"made: {_relative_path(self.home / 'store' / result.artifact.name)}")
        if self.end_reason:
            console.print(f"ended early: {self.end_reason}")
        console.print(f"kept: {_relative_path(self.home)}")
        following = (
            f"modelmill show {self.run}" if self.stopped_after is not None else "modelmill serve"
        )
        console.print(f"next: [bold]{following}[/bold]", soft_wrap=True)


def _relative_path(path: Path) -> str:
    relative = os.path.relpath(path.resolve())
    return str(path.resolve()) if relative.startswith("..") else relative
