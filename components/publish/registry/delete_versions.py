"""Deletion of a model version for good, with every file it holds.

It is idempotent: what an interrupted call left is deleted by the next.
"""

from __future__ import annotations

from collections.abc import Collection

from components.core.io.trash import delete_path
from components.core.settings import Settings
from components.publish.registry.mlflow_client import connect_mlflow
from components.publish.registry.model_registry import (
    FORGOTTEN_TAG,
    RegisteredVersion,
    forgotten_orders,
    registry_lock,
)


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


def delete_version(settings: Settings, model: str, version: int, source: str) -> None:
    """Delete a version with its aliases, its logged model, its run and its files.

    Args:
        settings: workspace whose registry holds the version.
        model: a registered model.
        version: number of the version.
        source: ``models:/m-…``, the logged model that holds its files.
    """
    from mlflow.exceptions import MlflowException

    logged = source.removeprefix("models:/")
    with registry_lock(settings):
        client = connect_mlflow(settings)
        try:
            run = client.get_model_version(model, str(version)).run_id
            for alias in client.get_model_version(model, str(version)).aliases:
                client.delete_registered_model_alias(model, alias)
            client.delete_model_version(model, str(version))
            if run:
                client.delete_run(run)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        try:
            client.delete_logged_model(logged)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
        folder = settings.mlflow / "artifacts" / "models" / logged
        if logged:
            delete_path(folder)
