"""Copies of artifacts outside the store: registered versions, and what is served of them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from components.core.settings import Settings
from components.publish.bento_folders import BentoContents
from components.publish.promotion.endpoint_swap import EndpointSwap
from components.publish.registry.model_registry import (
    BASE_LICENCE_TAG,
    BASE_TAG,
    BUNDLE_TAG,
    FORGOTTEN_TAG,
    TAG,
    RegisteredVersion,
    list_versions,
)


def find_versions(settings: Settings, digests: Collection[str]) -> list[RegisteredVersion]:
    """Find registered versions of the bundles or checkpoints with these digests."""
    roles = (BUNDLE_TAG, f"{TAG}model")
    return [
        entry
        for entry in list_versions(settings)
        if any(entry.tags.get(role) in digests for role in roles)
    ]


def read_served_bento(settings: Settings) -> str | None:
    """Name of the Bento that a running endpoint manager serves; None if none does.

    Raises:
        DataError: the manager's record is damaged.
    """
    status = EndpointSwap(settings).read_status()
    return status.serving.bento if status is not None and status.serving else None


def describe_version(
    settings: Settings, entry: RegisteredVersion, packed: Collection[BentoContents]
) -> dict[str, Any]:
    """Describe a version: aliases, Bentos, and whether the endpoint serves it now.

    Args:
        settings: workspace of the registry and the endpoint.
        entry: version to describe.
        packed: all Bentos.
    """
    bundle = entry.tags.get(BUNDLE_TAG, "")
    own_bentos = [b.folder for b in packed if b.bundle == bundle and b.model == entry.model]
    return {
        "model": entry.model,
        "version": str(entry.version),
        "aliases": list(entry.aliases),
        "bundle": bundle,
        "base": entry.tags.get(BASE_TAG, ""),
        "base_licence": entry.tags.get(BASE_LICENCE_TAG, ""),
        "bentos": own_bentos,
        "served_now": read_served_bento(settings) in own_bentos,
        "forgotten": entry.tags.get(FORGOTTEN_TAG, ""),
        "files": str(Path("mlflow") / entry.files_folder(settings).relative_to(settings.mlflow)),
    }
