"""Where artifacts went beyond the store: versions of datasets and models, Bentos, endpoint."""

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
    BUNDLE_TAG,
    FORGOTTEN_TAG,
    TAG,
    Entry,
    entries,
)

_SAME_START_SECONDS = 2.0


@dataclass(frozen=True)
class DatasetVersion:
    """One pin of DVC."""

    name: str
    corpus: str
    """Digest of the corpus it holds."""
    listing: str
    """DVC's name of its list of files."""


@dataclass(frozen=True)
class PackedBento:
    """One built Bento."""

    name: str
    """Its folder: the Bento's version."""
    model: str
    version: str
    bundle: str
    """Digest."""


def dataset_versions(settings: Settings) -> list[DatasetVersion]:
    """Every pin that names its corpus."""
    found = []
    for pin in sorted(settings.datasets.glob("*.dvc")):
        if not pin.is_file():
            continue
        try:
            content = yaml.safe_load(pin.read_text(encoding="utf-8"))
            listing = str(content["outs"][0]["md5"])
            found.append(DatasetVersion(pin.stem, str(content["meta"]["corpus"]), listing))
        except (OSError, ValueError, KeyError, IndexError, TypeError, yaml.YAMLError):
            continue  # another's, or half written: it is no version of ours
    return found


def versions_of(settings: Settings, digests: Collection[str]) -> list[Entry]:
    """Registered versions that hold one of these bundles or came of one of these checkpoints."""
    roles = (BUNDLE_TAG, f"{TAG}model")
    return [
        entry
        for entry in entries(settings)
        if any(entry.tags.get(role) in digests for role in roles)
    ]


def bentos(settings: Settings) -> list[PackedBento]:
    """Every Bento that says what it serves."""
    found = []
    for path in sorted((settings.bentos / "bentos" / "modelmill").glob("*/src/endpoint.json")):
        try:
            told = json.loads(path.read_bytes())
            found.append(
                PackedBento(
                    path.parents[1].name,
                    str(told["model"]),
                    str(told["version"]),
                    str(told["bundle"]),
                )
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue  # half built
    return found


def serving(settings: Settings) -> dict[str, Any] | None:
    """What the living keeper of the endpoint says it serves: model, version, bento."""
    path = settings.home / "endpoint" / "keeper.json"
    try:
        told = json.loads(path.read_bytes())
        started = psutil.Process(int(told["pid"])).create_time()
        alive = abs(started - float(told["create_time"])) < _SAME_START_SECONDS
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    served = told.get("serving")
    return dict(served) if alive and isinstance(served, dict) else None


def describe_version(
    settings: Settings, entry: Entry, packed: Collection[PackedBento]
) -> dict[str, Any]:
    """A version with its aliases, its Bentos, and whether the endpoint serves it now."""
    bundle = entry.tags.get(BUNDLE_TAG, "")
    mine = [b.name for b in packed if b.bundle == bundle and b.model == entry.model]
    now = serving(settings)
    return {
        "model": entry.model,
        "version": str(entry.version),
        "aliases": list(entry.aliases),
        "bundle": bundle,
        "bentos": mine,
        "served_now": now is not None and now.get("bento") in mine,
        "forgotten": entry.tags.get(FORGOTTEN_TAG, ""),
        "files": str(Path("mlflow") / entry.files(settings).relative_to(settings.mlflow)),
    }
