"""Somebody's models that a version was made of, found by its lineage."""

from __future__ import annotations

from collections.abc import Iterable

from components.core.settings import Settings
from components.core.store.lineage_graph import ArtifactGraph, ArtifactNode
from components.publish.registry.model_registry import BASE_LICENCE_TAG, BASE_TAG, TAG
from components.text.base_record import BASE_MODEL_FILE, BaseRecord, read_base_record


def read_base_records(settings: Settings, chain: Iterable[ArtifactNode]) -> list[BaseRecord]:
    """Records of the bases in a chain of provenance, in its order, each once.

    Args:
        settings: workspace whose store holds the artifacts.
        chain: ancestors of what was made.

    Raises:
        DataError: a record is damaged.
    """
    folders = [settings.store / node.name for node in chain if BASE_MODEL_FILE in node.files]
    records = [read_base_record(folder) for folder in folders]
    return [record for at, record in enumerate(records) if record not in records[:at]]


def base_tags(settings: Settings, digests: Iterable[str]) -> dict[str, str]:
    """Tags of a version that name its bases: name, licence, and sha256 of weights and tokenizer.

    Args:
        settings: workspace whose store holds the artifacts.
        digests: artifacts that the version was made of.

    Raises:
        DataError: a record is damaged.
    """
    chain = ArtifactGraph.read(settings.store).provenance_chain(digests)
    records = read_base_records(settings, chain)
    if not records:
        return {}
    values = {
        BASE_TAG: [record.label for record in records],
        BASE_LICENCE_TAG: [record.licence_name for record in records],
        f"{TAG}base_weights": [record.weights_sha256 for record in records],
        f"{TAG}base_tokenizer": [record.tokenizer for record in records],
    }
    return {tag: ", ".join(parts) for tag, parts in values.items()}
