"""Actions: what the decorator carries over, and the dry run."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from components.core.action import Change, Workspace, action
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.core.settings import Settings
from components.core.store.artifact import Report, component_name, placeholder_artifact

REPORT = placeholder_artifact(Report)


def look(config: StageConfig, report: Report, workspace: Workspace) -> Change[Report] | None:
    """Look for a file; DataError where it cannot be read."""
    path = workspace.settings.home / "announced"
    if path.is_dir():
        raise DataError(f"{path}: a folder")
    return Change(report, changed=not path.exists())


@action(dry_run=look)
def announce(config: StageConfig, report: Report, workspace: Workspace) -> Change[Report]:
    """Write the file."""
    (workspace.settings.home / "announced").touch()
    return Change(report, changed=True)


@action()
def unforeseen(config: StageConfig, workspace: Workspace) -> Change[Report]:
    return Change(REPORT, changed=True)


@action(reads_only=True)
def watch(config: StageConfig, workspace: Workspace) -> Change[Report]:
    return Change(REPORT, changed=False, note="looked")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(Settings(home=tmp_path, reference_data=tmp_path))


def test_an_action_bears_the_name_and_signature_of_its_function(workspace: Workspace) -> None:
    assert component_name(announce) == f"{__name__}.announce"
    assert announce.__doc__ == "Write the file."
    assert list(inspect.signature(announce).parameters) == ["config", "report", "workspace"]
    assert announce.kind is Report
    assert workspace.action_lineage(announce, {"report": REPORT}).component.endswith(".announce")


def test_the_dry_run_looks_and_changes_nothing(workspace: Workspace) -> None:
    config, inputs = StageConfig(), {"report": REPORT}
    for expected in (True, False):
        found = announce.dry_run(config, inputs, workspace)
        assert found is not None
        assert found.changed is expected
        assert (workspace.settings.home / "announced").exists() is not expected
        announce(config, REPORT, workspace=workspace)


def test_where_it_cannot_look_only_the_run_will_tell(workspace: Workspace) -> None:
    assert unforeseen.dry_run(StageConfig(), {}, workspace) is None
    (workspace.settings.home / "announced").mkdir()
    assert announce.dry_run(StageConfig(), {"report": REPORT}, workspace) is None


def test_an_action_that_only_reads_is_its_own_dry_run(workspace: Workspace) -> None:
    found = watch.dry_run(StageConfig(), {}, workspace)
    assert found is not None
    assert found.note == "looked"
