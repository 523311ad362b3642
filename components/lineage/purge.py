"""Deletes every affected copy, from a journal, so that a kill at any instant loses nothing.

``<home>/purge.json`` names all that goes before the first of it goes. Every deletion may be
repeated; the journal is taken away last. It holds addresses and digests, never text.
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
from components.core.settings import Settings
from components.core.store.artifact import Corpus, canonical
from components.core.store.store import Store, remove
from components.lineage.affected_copies import Affected
from components.lineage.text_search import Hit, search
from components.publish.promotion import audit_log
from components.publish.registry.delete_versions import (
    dataset_objects,
    known_remotes,
    withdraw_dataset,
    withdraw_version,
)
from components.publish.registry.training_runs import withdraw_trainings

_KNOWN = ("store/", "datasets/", "mlflow/", "bentos/", "prefect/", "blocklist.", "audit.", "runs/")
"""Places whose copies are found by lineage, or that no file is deleted from one by one."""
_SENTENCES, _SHORTEST = 8, 40


@dataclass(frozen=True)
class Purge:
    """Everything that goes, by names relative to the workspace."""

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
    """Where an unfinished purge is written down."""
    return settings.home / "purge.json"


def unfinished(settings: Settings) -> Purge | None:
    """The purge that was begun and not finished.

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
    settings: Settings, targets: Sequence[str], affected: Affected, remotes: Sequence[str] = ()
) -> tuple[Purge, list[str]]:
    """What goes, and the sentences by which what is left can be found afterwards.

    Args:
        remotes: where datasets were pushed to beyond what the workspace itself knows.
    """
    texts = sentences(settings, affected, targets)
    places = sorted({*known_remotes(settings), *remotes})
    strays = _strays(settings, texts)
    smoke = [bento.name for bento in affected.bentos]
    purge = Purge(
        targets=sorted(targets),
        folders=[
            *(f"store/{node.name}" for node in affected.nodes),
            *(f"store/partial/{key}" for key in affected.unfinished),
            *(f"bentos/bentos/modelmill/{name}" for name in smoke),
            *(f"bentos/smoke/{name}" for name in smoke),
            "bentos/partial",
            *(path.relative_to(settings.home).as_posix() for path in _trash(settings)),
        ],
        files=[*(f"logs/smoke-{name}.log" for name in smoke), *strays],
        datasets={d.name: dataset_objects(settings, d.name, places) for d in affected.datasets},
        remotes=places,
        versions=[(e.model, e.version, e.source) for e in affected.versions],
    )
    return purge, texts


def sentences(settings: Settings, affected: Affected, targets: Sequence[str]) -> list[str]:
    """Lines that stand in the affected pages and in no other page of their corpora."""
    blocklist = Blocklist(targets)
    mine: set[str] = set()
    others: set[str] = set()
    for node in affected.nodes:
        if node.format != Corpus.format or node.key not in affected.holders:
            continue
        for shard in sorted((settings.store / node.name).glob("*.parquet")):
            if shard.name == "quarantine.parquet":
                continue
            table = pq.ParquetFile(shard).read(["url", "text"])
            for url, text in zip(*(table[c].to_pylist() for c in ("url", "text")), strict=True):
                lines = {line.strip() for line in text.splitlines() if len(line) >= _SHORTEST}
                (mine if blocklist.covers(url) else others).update(lines)
    return sorted(mine - others, key=lambda line: (-len(line), line))[:_SENTENCES]


def _strays(settings: Settings, texts: Sequence[str]) -> list[str]:
    """Other files with the text: dossiers, logs, and what else a user finds in the workspace."""
    found = search(settings, texts, lambda name: not name.startswith(_KNOWN))
    return sorted({hit.path for hit in found.hits})


def _trash(settings: Settings) -> list[Path]:
    """What other deletions moved aside and did not come to delete."""
    return sorted([*settings.home.glob(".trash"), *settings.home.glob("*/.trash")])


def begin(settings: Settings, purge: Purge) -> None:
    """Write down what goes; from here on it goes, also after a kill.

    Raises:
        MillError: a stage is at work in this workspace.
    """
    store = Store(settings.store)
    for name in purge.folders:
        key = Path(name).name
        if name.startswith("store/partial/") and store.is_locked(key):
            raise MillError(f"a run is at work on {key[:12]}: wait for it or stop it, then repeat")
    write_atomically(journal_path(settings), canonical(asdict(purge)))


def carry_out(settings: Settings, purge: Purge) -> None:
    """Delete all that ``purge`` names, then its journal. May be repeated.

    The registry goes first, so that nothing ever names files that are gone.
    """
    for model, version, source in purge.versions:
        withdraw_version(settings, model, version, source)
    for name, objects in purge.datasets.items():
        withdraw_dataset(settings, name, objects, purge.remotes)
    for name in purge.folders:
        remove(_inside(settings, name))
    for name in purge.files:
        _inside(settings, name).unlink(missing_ok=True)
    # They quote pages, and the next look at a version writes its dossier anew.
    for dossier in settings.mlflow.glob("artifacts/models/*/artifacts/dossier.html"):
        dossier.unlink()
    withdraw_trainings(settings)
    _untag(settings)
    audit_log.append(settings, "purge", targets=purge.targets, **purge.counts())
    journal_path(settings).unlink()


def _inside(settings: Settings, name: str) -> Path:
    """A path of the journal, held to the workspace."""
    path = settings.home / name
    if not path.parent.resolve().is_relative_to(settings.home.resolve()) or ".." in path.parts:
        raise DataError(f"{journal_path(settings)}: {name} lies outside the workspace")
    return path


def _untag(settings: Settings) -> None:
    """Take BentoML's ``latest`` away where it names a Bento that is gone."""
    folder = settings.bentos / "bentos" / "modelmill"
    latest = folder / "latest"
    if latest.is_file() and not (folder / latest.read_text().strip()).is_dir():
        latest.unlink()


def left_over(settings: Settings, texts: Sequence[str]) -> list[Hit]:
    """Files that hold one of the purged sentences all the same: of pages outside the order."""
    return search(settings, texts).hits if texts else []


def remotes_of(records: Sequence[dict[str, Any]]) -> list[str]:
    """Where runs were told to push their datasets."""
    return sorted(set(_remotes(records)))


def _remotes(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    for record in records:
        config = (record.get("repeat") or {}).get("config") or {}
        remote = (config.get("dataset") or {}).get("remote")
        if remote:
            yield str(remote)
