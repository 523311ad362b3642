"""Corpus drift: the share of documents that differ from a registered version's corpus.

A nightly run asks this once the corpus is curated, and ends there when too little has changed. The
corpora are compared by the ids of their documents. An id names one version of one page (address
and text), so a page whose text was edited counts twice: its old version is gone, a new one came.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from components.core.action import Change, Workspace, action
from components.core.config.stage_config import StageConfig
from components.core.settings import Settings
from components.core.store.artifact import MANIFEST_FILE, Corpus, Report, digest_value
from components.core.store.shards import read_shards
from components.publish.registry.model_registry import (
    CHAMPION,
    DATASET_TAG,
    RegisteredVersion,
    find_by_alias,
    list_versions,
)


class ChangeConfig(StageConfig):
    """Least change from which on a run trains again."""

    model: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?$",
        description="the registered model whose corpus is compared; the run's where it is empty",
    )
    least_change: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of documents added or removed; the run ends below it; 0 never ends one",
    )
    since: Literal["newest", "champion"] = Field(
        default="newest",
        description="the version compared with; a newest one that a gate refused counts as well",
    )


@dataclass(frozen=True)
class CorpusDifference:
    """Counts of documents that two corpora share or do not, by id."""

    added: int
    removed: int
    common: int

    @property
    def share(self) -> float:
        """Added or removed, of all documents that either corpus holds: 0 equal, 1 nothing shared.

        The Jaccard distance of the two sets of ids.
        """
        return (self.added + self.removed) / max(self.added + self.removed + self.common, 1)


@action(reads_only=True)
def measure_change(config: ChangeConfig, corpus: Corpus, workspace: Workspace) -> Change[Report]:
    """Compare with the corpus of a former version; ``ends`` the run below ``least_change``.

    Without a former version, or where its corpus is no longer in the store, the run goes on.

    Args:
        config: the model compared with and the least change.
        corpus: corpus of this run.
        workspace: holds the registry and the store.

    Raises:
        DataError: a shard of either corpus cannot be read.
    """
    settings = workspace.settings
    former = _former(config, settings)
    if former is None:
        return Change(_report(corpus, "", {}, workspace), True, "no version to compare with")
    digest, name = former.tags.get(DATASET_TAG, ""), f"version {former.version}"
    if digest == corpus.digest:
        difference = CorpusDifference(
            0, 0, read_shards(workspace.artifact_folder(corpus), ["id"]).num_rows
        )
    else:
        folder = _find(settings, digest)
        if folder is None:
            note = f"the corpus of {name} is not in the store; taken as changed"
            return Change(_report(corpus, digest, {}, workspace), True, note)
        difference = compare_corpora(workspace.artifact_folder(corpus), folder)
    report = _report(corpus, digest, _stats(difference), workspace)
    return Change(
        report,
        difference.share > 0,
        f"{_percent(difference.share)} of documents changed since {name}",
        ends=_verdict(config, difference),
    )


def compare_corpora(ours: Path, theirs: Path) -> CorpusDifference:
    """Count documents in ``ours`` alone, in ``theirs`` alone, and in both.

    Raises:
        DataError: a shard cannot be read.
    """
    mine: pa.ChunkedArray = read_shards(ours, ["id"])["id"]
    former: pa.ChunkedArray = read_shards(theirs, ["id"])["id"]
    common = pc.sum(pc.is_in(mine, value_set=former.combine_chunks())).as_py() or 0
    return CorpusDifference(len(mine) - common, len(former) - common, common)


def _former(config: ChangeConfig, settings: Settings) -> RegisteredVersion | None:
    versions = list_versions(settings, config.model)
    champion = find_by_alias(versions, CHAMPION) if config.since == "champion" else None
    return champion or next(iter(versions), None)


def _find(settings: Settings, digest: str) -> Path | None:
    """The sealed corpus of that digest."""
    for path in (settings.store / "sealed").glob(f"*/{MANIFEST_FILE}"):
        manifest = json.loads(path.read_bytes())
        if manifest["artifact"]["digest"] == digest and manifest["format"] == Corpus.format:
            return path.parent
    return None


def _stats(difference: CorpusDifference) -> dict[str, float]:
    return {
        "changed_share": round(difference.share, 6),
        "added": float(difference.added),
        "removed": float(difference.removed),
        "common": float(difference.common),
    }


def _report(corpus: Corpus, former: str, stats: dict[str, float], workspace: Workspace) -> Report:
    """The report on two corpora, named by both; it has no folder of its own."""
    compared = {"corpus": corpus.digest, "former": former}
    return Report(
        name=f"change-{corpus.digest[:12]}-{former[:12] or 'none'}",
        digest=digest_value(compared),
        lineage=workspace.action_lineage(measure_change, {"corpus": corpus}),
        stats=stats,
    )


def _verdict(config: ChangeConfig, difference: CorpusDifference) -> str:
    if difference.share >= config.least_change:
        return ""
    least = f"less than {_percent(config.least_change)}"
    return f"unchanged: {_percent(difference.share)} of documents changed, {least}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
