"""Deletion of versions, logged models and runs, with their files."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from typing_extensions import override

from components.core.settings import Settings
from components.core.store.gc_plan import DeletionSystem, GcPlan, discard_paths, left_paths
from components.publish.registry.mlflow_client import connect_mlflow
from components.publish.registry.mlflow_tables import (
    artifacts_folder,
    logged_model_folder,
    pass_over_missing,
    row_deletion,
    select_description,
)
from components.publish.registry.model_registry import (
    DOSSIER_FILE,
    FORGOTTEN_TAG,
    RegisteredVersion,
    forgotten_orders,
    list_versions,
    registry_lock,
)
from components.publish.registry.registry_gc import (
    PLACE,
    plan_training_deletions,
    plan_version_deletion,
)
from components.publish.registry.training_runs import run_folder


def mark_forgotten(settings: Settings, entries: Collection[RegisteredVersion], note: str) -> None:
    """Tag versions that were made of what is to be forgotten.

    Args:
        settings: workspace whose registry holds the versions.
        entries: the versions.
        note: target of the order: an address or a document.
    """
    missing = [entry for entry in entries if note not in forgotten_orders(entry)]
    if not missing:
        return
    with registry_lock(settings):
        client = connect_mlflow(settings)
        for entry in missing:
            orders = ", ".join([*forgotten_orders(entry), note])
            client.set_model_version_tag(entry.model, str(entry.version), FORGOTTEN_TAG, orders)


def plan_registry_purge(
    settings: Settings, entries: Iterable[RegisteredVersion], removed: Collection[Path]
) -> GcPlan:
    """Plan to delete versions with logged models and runs, and texts that may quote a page.

    Args:
        settings: workspace whose registry holds the versions.
        entries: the versions.
        removed: folders of the store that go too, and records of trainings with them.
    """
    plan = GcPlan(PLACE, settings.mlflow)
    for entry in entries:
        folder = logged_model_folder(settings, entry.source)
        plan_version_deletion(plan, entry, "to be forgotten", [folder])
        described = select_description(settings, entry.model, entry.version)
        if described is not None and (run := described[2]):
            plan.add_deletion(run, "of such a version", [run_folder(settings, run)], kind="run")
    plan_training_deletions(settings, plan, removed)
    # Dossiers quote pages; the next `dossier` of a version writes it again.
    dossiers = artifacts_folder(settings).glob(f"models/*/artifacts/{DOSSIER_FILE}")
    for dossier in sorted(dossiers):
        plan.add_deletion(f"dossier of {dossier.parts[-3]}", "it may quote the page", [dossier])
    return plan


class RegistryDeletion(DeletionSystem):
    """MLflow's tables and files."""

    @override
    def delete(self, settings: Settings, plan: GcPlan) -> None:
        """Delete what ``plan`` names; the registry's lock must be held.

        Rows go before files, so a version never stands there without them.
        """
        rows = [item for item in plan.deletions if item.kind != "files"]
        if rows:
            _delete_rows(settings, plan)
        discard_paths(plan)

    @override
    def find_left(self, settings: Settings, plan: GcPlan) -> list[str]:
        planned = {item.name for item in plan.deletions if item.kind == "version"}
        there = (f"{entry.model}/{entry.version}" for entry in list_versions(settings))
        return [*(name for name in there if name in planned), *left_paths(plan)]


def _delete_rows(settings: Settings, plan: GcPlan) -> None:
    client = connect_mlflow(settings)
    with row_deletion(settings) as rows:
        for item in plan.deletions:
            if item.kind == "version":
                model, number = item.facts["model"], str(item.facts["version"])
                with pass_over_missing():
                    for alias in client.get_model_version(model, number).aliases:
                        client.delete_registered_model_alias(model, alias)
                    client.delete_model_version(model, number)
                rows.delete_logged_model(item.facts["source"].removeprefix("models:/"))
            elif item.kind == "logged model":
                rows.delete_logged_model(item.name)
            elif item.kind == "run":
                rows.delete_run(item.name)
