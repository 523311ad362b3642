"""Purge of every affected copy, by a journal, so that it survives a kill at any instant.

``<home>/purge.json`` lists everything before the first deletion. Every deletion may be repeated;
the journal is deleted last. It holds addresses and digests, never text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from components.core.config.blocklist import Blocklist
from components.core.errors import DataError, MillError
from components.core.io.atomic_write import write_atomically
from components.core.io.trash import delete_path, list_trashes
from components.core.settings import Settings
from components.core.store.artifact import Corpus, canonical_json
from components.core.store.shards import shard_paths
from components.core.store.store import Store
from components.lineage.affected_copies import AffectedCopies
from components.lineage.text_search import SearchHit, search_workspace
from components.publish.dataset.delete_dataset import (
    delete_dataset_version,
    find_unshared_objects,
    list_remotes,
)
from components.publish.promotion import audit_log
from components.publish.registry.delete_versions import delete_version
from components.publish.registry.training_runs import delete_orphaned_runs

_EXCLUDED_PLACES = (
    "store/",
    "datasets/",
    "mlflow/",
    "bentos/",
    "prefect/",
    "blocklist.",
    "audit.",
    "runs/",
)
"""Places whose copies lineage finds, or where single files are never deleted."""
_MOST_SENTENCES, _SHORTEST_SENTENCE = 8, 40


@dataclass(frozen=True)
class Purge:
    """Everything to delete, by names relative to the workspace."""

    targets: list[str]
    folders: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    datasets: dict[str, list[str]] = field(default_factory=dict)
    """Version -> DVC's names of the files that no other version shares."""
    remotes: list[str] = field(default_factory=list)
    versions: list[tuple[str, int, str]] = field(default_factory=list)
    """(model, version, address of its logged model)."""

    def counts(self) -> dict[str, int]:
        return {
            "folders": len(self.folders),
            "files": len(self.files),
            "datasets": len(self.datasets),
            "versions": len(self.versions),
        }


def journal_path(settings: Settings) -> Path:
    """Journal of an unfinished purge."""
    return settings.home / "purge.json"


def read_unfinished_purge(settings: Settings) -> Purge | None:
    """Read the purge that was begun and not finished; None if there is none.

    Raises:
        DataError: the journal is damaged.
    """
    path = journal_path(settings)
    try:
        content = json.loads(path.read_bytes())
        versions = [(str(m), int(v), str(s)) for m, v, s in content.pop("versions")]
        return Purge(**content, versions=versions)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: not a journal of a purge ({error}); delete it, then repeat the order"
        ) from error


def plan_purge(
    settings: Settings,
    targets: Sequence[str],
    affected: AffectedCopies,
    remotes: Sequence[str] = (),
) -> tuple[Purge, list[str]]:
    """Plan a purge, with sentences by which remaining copies can be found afterwards.

    Args:
        settings: workspace to purge, with the remotes of its datasets.
        targets: addresses and domains to forget.
        affected: copies of what these targets name.
        remotes: places that datasets were pushed to, besides those the workspace knows.
    """
    texts = distinctive_sentences(settings, affected, targets)
    places = sorted({*list_remotes(settings), *remotes})
    strays = _stray_files(settings, texts)
    bento_names = [bento.name for bento in affected.bentos]
    purge = Purge(
        targets=sorted(targets),
        folders=[
            *(f"store/{node.name}" for node in affected.nodes),
            *(f"store/partial/{key}" for key in affected.unfinished),
            *(f"bentos/bentos/modelmill/{name}" for name in bento_names),
            *(f"bentos/smoke/{name}" for name in bento_names),
            "bentos/partial",
            *(t.folder.relative_to(settings.home).as_posix() for t in list_trashes(settings.home)),
        ],
        files=[*(f"logs/smoke-{name}.log" for name in bento_names), *strays],
        datasets={
            d.name: find_unshared_objects(settings, d.name, places) for d in affected.datasets
        },
        remotes=places,
        versions=[(e.model, e.version, e.source) for e in affected.versions],
    )
    return purge, texts


def distinctive_sentences(
    settings: Settings, affected: AffectedCopies, targets: Sequence[str]
) -> list[str]:
    """Lines that occur in the affected pages and in no other page of their corpora.

    Args:
        settings: workspace whose store holds the corpora.
        affected: copies of what the targets name.
        targets: addresses and domains to forget.
    """
    blocklist = Blocklist(targets)
    affected_lines: set[str] = set()
    other_lines: set[str] = set()
    for node in affected.nodes:
        if node.format != Corpus.format or node.key not in affected.holders:
            continue
        for shard in shard_paths(settings.store / node.name):
            table = pq.ParquetFile(shard).read(["url", "text"])
            for url, text in zip(*(table[c].to_pylist() for c in ("url", "text")), strict=True):
                lines = {
                    line.strip() for line in text.splitlines() if len(line) >= _SHORTEST_SENTENCE
                }
                (affected_lines if blocklist.covers(url) else other_lines).update(lines)
    return sorted(affected_lines - other_lines, key=lambda line: (-len(line), line))[
        :_MOST_SENTENCES
    ]


def _stray_files(settings: Settings, texts: Sequence[str]) -> list[str]:
    """Other files that hold the text: dossiers, logs, anything else in the workspace."""
    findings = search_workspace(settings, texts, lambda name: not name.startswith(_EXCLUDED_PLACES))
    return sorted({hit.path for hit in findings.hits})


def begin_purge(settings: Settings, purge: Purge) -> None:
    """Write the journal; from here on the purge happens, even after a kill.

    Raises:
        MillError: a stage is at work in this workspace.
    """
    store = Store(settings.store)
    for name in purge.folders:
        key = Path(name).name
        if name.startswith("store/partial/") and store.is_key_locked(key):
            raise MillError(f"a run is at work on {key[:12]}: wait for it or stop it, then repeat")
    write_atomically(journal_path(settings), canonical_json(asdict(purge)))


def carry_out_purge(settings: Settings, purge: Purge) -> None:
    """Delete everything that ``purge`` names, then its journal. May be repeated.

    The registry comes first, so that nothing ever names files that are gone.
    """
    for model, version, source in purge.versions:
        delete_version(settings, model, version, source)
    for name, objects in purge.datasets.items():
        delete_dataset_version(settings, name, objects, purge.remotes)
    for name in purge.folders:
        delete_path(_path_inside(settings, name))
    for name in purge.files:
        _path_inside(settings, name).unlink(missing_ok=True)
    # Dossiers quote pages; the next `dossier` of a version writes it again.
    for dossier in settings.mlflow.glob("artifacts/models/*/artifacts/dossier.html"):
        dossier.unlink()
    delete_orphaned_runs(settings)
    _remove_stale_latest(settings)
    audit_log.append_entry(settings, "purge", targets=purge.targets, **purge.counts())
    journal_path(settings).unlink()


def _path_inside(settings: Settings, name: str) -> Path:
    """Path of the journal, refused outside the workspace."""
    path = settings.home / name
    if not path.parent.resolve().is_relative_to(settings.home.resolve()) or ".." in path.parts:
        raise DataError(f"{journal_path(settings)}: {name} lies outside the workspace")
    return path


def _remove_stale_latest(settings: Settings) -> None:
    """Delete BentoML's ``latest`` file if it names a Bento that is gone."""
    folder = settings.bentos / "bentos" / "modelmill"
    latest = folder / "latest"
    if latest.is_file() and not (folder / latest.read_text().strip()).is_dir():
        latest.unlink()


def find_left_over(settings: Settings, texts: Sequence[str]) -> list[SearchHit]:
    """Find files that still hold one of the purged sentences, from pages outside the order."""
    return search_workspace(settings, texts).hits if texts else []


def recorded_remotes(records: Sequence[dict[str, Any]]) -> list[str]:
    """Remotes that past runs pushed their datasets to."""
    return sorted(set(_remotes(records)))


def _remotes(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    for record in records:
        config = (record.get("repeat") or {}).get("config") or {}
        remote = (config.get("dataset") or {}).get("remote")
        if remote:
            yield str(remote)
