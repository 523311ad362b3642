"""Result of a run as a Python caller gets it: stages, artifacts, figures, version, answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path

from rich.console import Console

from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.stats.figures import Figure
from components.core.store.artifact import ModelVersion
from components.publish.registry.model_registry import list_versions
from flows.api.stored_artifact import StoredArtifact
from flows.runner.plan_view import RunPlan
from flows.runner.run_outcome import RunOutcome
from flows.runner.runner import StepResult
from flows.runner.sample_answers import SampleAnswer

_WIDTH = 100
"""Columns of a table in a text, whatever the width of the terminal."""


@dataclass(frozen=True)
class Run:
    """Finished run: ``run["select"]`` is the artifact of the stage ``select``."""

    outcome: RunOutcome
    settings: Settings

    @property
    def name(self) -> str:
        """Name of its record, as ``modelmill show`` lists it."""
        return self.outcome.run

    @property
    def home(self) -> Path:
        """Folder of its workspace."""
        return self.outcome.home

    @cached_property
    def stages(self) -> dict[str, StepResult]:
        """Stage -> its state (Cached, Completed, Unchanged), seconds and note, in their order."""
        return {result.name: result for result in self.outcome.results}

    @cached_property
    def artifacts(self) -> dict[str, StoredArtifact]:
        """Stage -> its artifact."""
        store = self.home / "store"
        return {name: StoredArtifact(step.artifact, store) for name, step in self.stages.items()}

    def __getitem__(self, stage: str) -> StoredArtifact:
        """Artifact of a stage.

        Raises:
            ConfigError: the run has no such stage; names those that it has.
        """
        if stage not in self.artifacts:
            raise ConfigError(f"{stage}: no stage of this run; it has {', '.join(self.artifacts)}")
        return self.artifacts[stage]

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """Figures of all reports with 95 % intervals, by the names of gates: ``STAGE.FIGURE``."""
        return {
            f"{stage}.{name}": figure
            for stage, artifact in self.artifacts.items()
            for name, figure in artifact.figures.items()
        }

    @property
    def version(self) -> str | None:
        """Version that the run registered or found: ``tiny/3``; None where it ended before."""
        versions = [
            step.artifact.name
            for step in self.outcome.results
            if isinstance(step.artifact, ModelVersion)
        ]
        return versions[-1].removeprefix("models:/") if versions else None

    @property
    def aliases(self) -> tuple[str, ...]:
        """Aliases of that version now: ``champion`` where it passed its gates and is served."""
        versions = list_versions(self.settings) if self.version else []
        held = (e.aliases for e in versions if f"{e.model}/{e.version}" == self.version)
        return next(held, ())

    @property
    def ended(self) -> str:
        """Reason for which the run ended before its last stage; empty where it did not."""
        if self.outcome.stopped_after is not None:
            return f"stopped after {self.outcome.stopped_after}"
        return self.outcome.end_reason

    @property
    def answers(self) -> list[SampleAnswer]:
        """Sample of the model's answers beside those of the pages; empty where none was taken."""
        return self.outcome.answers.examples

    @property
    def seconds(self) -> float:
        """Seconds of all stages together."""
        return sum(step.seconds for step in self.outcome.results)

    def __str__(self) -> str:
        """Closing table, answers and next command, as ``modelmill run`` prints them."""
        return _render(self.outcome)

    def __repr__(self) -> str:
        end = f", {self.ended}" if self.ended else ""
        version = f", version {self.version}" if self.version else ""
        return f"<run {self.name}: {len(self.stages)} stages, {self.seconds:.1f} s{version}{end}>"


@dataclass(frozen=True)
class Plan(RunPlan):
    """Plan of a run, whose text is the table of ``modelmill plan``."""

    def __str__(self) -> str:
        return _render(self)


def _render(shown: RunOutcome | RunPlan) -> str:
    console = Console(file=StringIO(), width=_WIDTH, force_terminal=False, color_system=None)
    shown.show(console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().strip("\n")
