"""Adapters of a served graph by name: content of ``adapters.json`` beside the graph."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from components.core.errors import DataError

ADAPTERS_FILE = "adapters.json"


class AdapterEntry(BaseModel):
    """One adapter; the first of an index is number 1 in its graph."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Requests ask for it."""
    digest: str
    """sha256 of its files."""


class AdapterIndex(BaseModel):
    """Adapters of a graph, and the bundle whose graph it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    """Digest of the bundle."""
    form: str
    adapters: tuple[AdapterEntry, ...]


def read_adapter_index(folder: Path, bundle: str, form: str) -> AdapterIndex:
    """Read a folder's index.

    Args:
        folder: holds the graph with adapters.
        bundle: digest of the bundle that is served.
        form: form of it that is served.

    Raises:
        DataError: it cannot be read, or belongs to another bundle.
    """
    try:
        index = AdapterIndex.model_validate_json((folder / ADAPTERS_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"{folder}: {ADAPTERS_FILE} cannot be read: {error}") from error
    if (index.bundle, index.form) != (bundle, form):
        raise DataError(
            f"{folder}: the adapters are of the bundle {index.bundle[:12]} ({index.form}), served "
            f"is {bundle[:12]} ({form}): start `modelmill serve --adapter` again"
        )
    return index
