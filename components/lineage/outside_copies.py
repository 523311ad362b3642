"""Copies of artifacts outside the store: dataset and model versions, Bentos, the endpoint."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from components.core.settings import Settings
from components.publish.registry.model_registry import (
    BASE_LICENCE_TAG,
    BASE_TAG,
    BUNDLE_TAG,
    FORGOTTEN_TAG,
    TAG,
    RegisteredVersion,
    list_versions,
)

_SAME_START_SECONDS = 2.0


@dataclass(frozen=True)
class DatasetVersion:
    """Dataset version: one pin of DVC."""

    name: str
    corpus: str
    """Digest of the corpus it holds."""
    listing: str
    """DVC's name for its list of files."""


@dataclass(frozen=True)
class PackedBento:
    """Packaged Bento, by its ``endpoint.json``."""

    name: str
    """Its folder: the Bento's version."""
    model: str
    version: str
    bundle: str
    """Digest."""


def list_dataset_versions(settings: Settings) -> list[DatasetVersion]:
    """List the dataset versions: every pin that names its corpus."""
    versions = []
    for pin in sorted(settings.datasets.glob("*.dvc")):
        if not pin.is_file():
            continue
        try:
            content = yaml.safe_load(pin.read_text(encoding="utf-8"))
            listing = str(content["outs"][0]["md5"])
            versions.append(DatasetVersion(pin.stem, str(content["meta"]["corpus"]), listing))
        except (OSError, ValueError, KeyError, IndexError, TypeError, yaml.YAMLError):
            continue  # somebody else's pin, or half written
    return versions


def find_versions(settings: Settings, digests: Collection[str]) -> list[RegisteredVersion]:
    """Find registered versions of the bundles or checkpoints with these digests."""
    roles = (BUNDLE_TAG, f"{TAG}model")
    return [
        entry
        for entry in list_versions(settings)
        if any(entry.tags.get(role) in digests for role in roles)
    ]


def list_bentos(settings: Settings) -> list[PackedBento]:
    """List the Bentos that declare what they serve."""
    packed = []
    for path in sorted((settings.bentos / "bentos" / "modelmill").glob("*/src/endpoint.json")):
        try:
            endpoint = json.loads(path.read_bytes())
            packed.append(
                PackedBento(
                    path.parents[1].name,
                    str(endpoint["model"]),
                    str(endpoint["version"]),
                    str(endpoint["bundle"]),
                )
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue  # half built
    return packed


def read_served_bento(settings: Settings) -> dict[str, Any] | None:
    """Model, version and bento that a running endpoint manager reports; None if none runs."""
    path = settings.home / "endpoint" / "keeper.json"
    try:
        state = json.loads(path.read_bytes())
        started = psutil.Process(int(state["pid"])).create_time()
        alive = abs(started - float(state["create_time"])) < _SAME_START_SECONDS
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    served = state.get("serving")
    return dict(served) if alive and isinstance(served, dict) else None


def describe_version(
    settings: Settings, entry: RegisteredVersion, packed: Collection[PackedBento]
) -> dict[str, Any]:
    """Describe a version: aliases, Bentos, and whether the endpoint serves it now.

    Args:
        settings: workspace of the registry and the endpoint.
        entry: version to describe.
        packed: all Bentos.
    """
    bundle = entry.tags.get(BUNDLE_TAG, "")
    own_bentos = [b.name for b in packed if b.bundle == bundle and b.model == entry.model]
    endpoint = read_served_bento(settings)
    return {
        "model": entry.model,
        "version": str(entry.version),
        "aliases": list(entry.aliases),
        "bundle": bundle,
        "base": entry.tags.get(BASE_TAG, ""),
        "base_licence": entry.tags.get(BASE_LICENCE_TAG, ""),
        "bentos": own_bentos,
        "served_now": endpoint is not None and endpoint.get("bento") in own_bentos,
        "forgotten": entry.tags.get(FORGOTTEN_TAG, ""),
        "files": str(Path("mlflow") / entry.files_folder(settings).relative_to(settings.mlflow)),
    }
