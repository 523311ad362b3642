"""Collection of versions that nothing needs any more, with the files they hold.

Regardless of the options, a version stays that has an alias (champion, previous, challenger or a
user's own), that still waits for its gates or an approval, or that was rolled back. A finished
MLflow run stays too, as history: its figures are small; a training's goes with its stage, since its
texts may quote a page. What a killed registration left behind goes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import DataError
from components.core.io.trash import last_change_time
from components.core.settings import Settings
from components.core.store.gc_plan import GcPlan, RetentionPolicy
from components.core.store.gc_roots import GcRoot
from components.publish.registry.mlflow_tables import (
    LifecycleRow,
    database_path,
    logged_model_folder,
    select_logged_models,
    select_runs,
)
from components.publish.registry.model_registry import (
    BUNDLE_TAG,
    CHALLENGER,
    CHAMPION,
    GATES_TAG,
    PREVIOUS,
    PROMOTED_TAG,
    ROLLED_BACK_TAG,
    TAG,
    RegisteredVersion,
    list_versions,
)
from components.publish.registry.training_runs import find_orphaned_runs, run_folder

PLACE = "registry"
ALIASED = "champion, previous and challenger versions and what they came from"
NAMED = "versions with an alias of your own and what they came from"
WAITING = "versions that wait for their gates or an approval, and what they came from"
OLD_RUNS = "the last {runs} completed runs"
_ROLLED_BACK = "rolled back: its record keeps it from being promoted again"
_FOREIGN = "not made by Modelmill"
_LOGGED = re.compile(r"m-[0-9a-f]+")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class VersionRetention:
    """Reason why a version stays (empty: it goes); ``rooted``: its sources stay too."""

    entry: RegisteredVersion
    why: str
    rooted: bool = True

    def root(self) -> GcRoot:
        """The digests that its tags name: bundle, checkpoint, dataset, reports."""
        named = (value for key, value in self.entry.tags.items() if key.startswith(TAG))
        digests = frozenset(value for value in named if _DIGEST.fullmatch(value))
        return GcRoot(self.why, digests=digests if self.rooted else frozenset())


def decide_retention(
    settings: Settings, named: Mapping[str, str], keeping: RetentionPolicy, now: float
) -> list[VersionRetention]:
    """Decide on every version, newest first.

    Args:
        settings: workspace whose registry and pending approvals are read.
        named: ``models:/name/3`` -> why, of versions that something else keeps.
        keeping: rules of what is kept whatever its age, and for how long.
        now: Unix time.
    """
    versions = list_versions(settings)
    asked = _awaiting_approval(settings)
    champions = {entry.model: entry.version for entry in versions if CHAMPION in entry.aliases}
    return [
        VersionRetention(entry, WAITING)
        if (entry.model, entry.version) in asked
        else _decide(
            settings, entry, champions.get(entry.model, 0), named, keeping.cutoff(now), keeping
        )
        for entry in versions
    ]


def _awaiting_approval(settings: Settings) -> set[tuple[str, int]]:
    """(model, version) of all that a person was asked about and has not answered."""
    awaiting = set()
    for path in (settings.home / "approvals").glob("*.json"):
        try:
            pending = json.loads(path.read_bytes())
            awaiting.add((str(pending["model"]), int(pending["version"])))
        except FileNotFoundError:
            continue  # answered just now
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: no record of what waits for approval: {error}") from error
    return awaiting


def _decide(
    settings: Settings,
    entry: RegisteredVersion,
    champion: int,
    named: Mapping[str, str],
    cutoff: float,
    keeping: RetentionPolicy,
) -> VersionRetention:
    if {CHAMPION, PREVIOUS, CHALLENGER} & set(entry.aliases):
        return VersionRetention(entry, ALIASED)
    if entry.aliases:
        return VersionRetention(entry, NAMED)
    if _waits(entry, champion):
        return VersionRetention(entry, WAITING)
    if BUNDLE_TAG not in entry.tags:
        return VersionRetention(entry, _FOREIGN)
    if entry.uri in named:
        return VersionRetention(entry, named[entry.uri])
    if last_change_time(entry.files_folder(settings)) >= cutoff:
        return VersionRetention(entry, keeping.recent)
    if ROLLED_BACK_TAG in entry.tags:
        return VersionRetention(entry, _ROLLED_BACK, rooted=False)
    return VersionRetention(entry, "", rooted=False)


def _waits(entry: RegisteredVersion, champion: int) -> bool:
    """Passed and not promoted yet; or not judged, and newer than the champion."""
    if {PROMOTED_TAG, ROLLED_BACK_TAG} & entry.tags.keys() or BUNDLE_TAG not in entry.tags:
        return False
    outcome = entry.tags.get(GATES_TAG)
    return outcome == "passed" or (outcome is None and entry.version > champion)


def plan_registry_gc(
    settings: Settings,
    retentions: Collection[VersionRetention],
    keeping: RetentionPolicy,
    now: float,
    removed: Collection[Path] = (),
) -> GcPlan:
    """Plan which versions, logged models, runs and files go.

    Args:
        settings: workspace whose registry and its files are planned.
        retentions: retentions of every version.
        keeping: rules of what is kept whatever its age, and for how long.
        now: Unix time.
        removed: folders of the store that go too, and records of trainings with them.

    Raises:
        MillError: the database is not one that this MLflow writes.
    """
    plan = GcPlan(PLACE, settings.mlflow)
    kept_models: set[str] = set()
    for retention in retentions:
        entry, files = retention.entry, retention.entry.files_folder(settings)
        if retention.why:
            plan.add_retained(retention.why, [files])
            kept_models.add(entry.source.removeprefix("models:/"))
        else:
            outcome = entry.tags.get(GATES_TAG, "never judged")
            why = f"no alias and not awaited ({outcome}), of no kept run"
            held = [files.parent] if _LOGGED.fullmatch(files.parent.name) else []
            plan_version_deletion(plan, entry, why, held)
            kept_models.add(entry.source.removeprefix("models:/"))  # it goes with its version
    _leftovers(settings, plan, kept_models, keeping.cutoff(now))
    named = {item.name for item in plan.deletions}
    plan_training_deletions(settings, plan, removed, named)
    for folder in settings.mlflow.glob("tmp*/"):
        plan.add_deletion(f"mlflow/{folder.name}", "left by a promotion that was killed", [folder])
    return plan


def plan_version_deletion(
    plan: GcPlan, entry: RegisteredVersion, why: str, paths: Collection[Path]
) -> None:
    """Plan to delete a version with its logged model.

    Args:
        plan: of the registry.
        entry: the version.
        why: reason.
        paths: folder of its logged model.
    """
    facts = {"model": entry.model, "version": entry.version, "source": entry.source}
    plan.add_deletion(f"{entry.model}/{entry.version}", why, paths, kind="version", facts=facts)


def plan_training_deletions(
    settings: Settings, plan: GcPlan, removed: Collection[Path], passed_over: Collection[str] = ()
) -> None:
    """Plan to delete the records of trainings whose stage goes, or is gone.

    Args:
        settings: names the store and the database.
        plan: of the registry.
        removed: folders of the stages that go.
        passed_over: runs that are planned already.
    """
    for run in find_orphaned_runs(settings, removed):
        if run not in passed_over:
            why = "a training whose stage does not stay"
            plan.add_deletion(run, why, [run_folder(settings, run)], kind="run")


def _leftovers(settings: Settings, plan: GcPlan, versioned: Collection[str], cutoff: float) -> None:
    """Logged models and runs of registrations that did not finish, and what was deleted by hand."""
    if not database_path(settings).exists():
        return
    logged = select_logged_models(settings, BUNDLE_TAG)
    for model in logged:
        if model.id not in versioned and (why := _why_leftover(model, cutoff)):
            folder = logged_model_folder(settings, model.id)
            plan.add_deletion(model.id, why, [folder], kind="logged model")
    for run in select_runs(settings, BUNDLE_TAG):
        if why := _why_leftover(run, cutoff):
            plan.add_deletion(run.id, why, [run_folder(settings, run.id)], kind="run")
    known = {model.id for model in logged}
    for path in sorted(logged_model_folder(settings, "m-").parent.glob("m-*/")):
        if path.name not in known:
            plan.add_deletion(path.name, "files that no logged model names", [path])


def _why_leftover(row: LifecycleRow, cutoff: float) -> str:
    """Reason why a run or a logged model goes; empty where it stays."""
    if row.deleted_at is not None:
        return "deleted in MLflow" if row.deleted_at < cutoff else ""
    return "a registration that did not finish" if row.tagged and not row.finished else ""
