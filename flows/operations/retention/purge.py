"""Purge of every affected copy, by a journal, so that it survives a kill at any instant.

``<home>/purge.json`` lists everything before the first deletion. Every deletion may be repeated;
the journal is deleted last. It holds addresses and digests, never text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from components.core.config.blocklist import Blocklist
from components.core.errors import DataError, MillError
from components.core.io.atomic_write import write_atomically
from components.core.settings import Settings
from components.core.store.artifact import Corpus, canonical_json
from components.core.store.gc_plan import Deletion, GcPlan
from components.core.store.shards import shard_paths
from components.core.store.store import Store
from components.lineage.affected_copies import AffectedCopies
from components.lineage.text_search import SearchHit, search_workspace
from components.publish.bento_folders import SMOKE_FOLDER, plan_bento_purge
from components.publish.dataset.delete_dataset import list_remotes, plan_dataset_purge
from components.publish.promotion import audit_log
from components.publish.registry.delete_versions import plan_registry_purge
from flows.operations.retention.deletion_engine import (
    LOGS,
    STORE,
    WORKSPACE,
    delete_planned,
    empty_trashes,
    find_not_deleted,
    hold_system_locks,
)

_FORGOTTEN = "holds the page, or was made of it"
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
    """Everything to delete, a plan for each system."""

    targets: list[str]
    plans: list[GcPlan] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Number of things to delete, by their kind, and by their system where they are files."""
        counts: Counter[str] = Counter()
        for plan in self.plans:
            for item in plan.deletions:
                counts[plan.place if item.kind == "files" else f"{item.kind}s"] += 1
        return dict(counts)


def journal_path(settings: Settings) -> Path:
    """Journal of an unfinished purge."""
    return settings.home / "purge.json"


def read_unfinished_purge(settings: Settings) -> Purge | None:
    """Read the purge that was begun and not finished; None if there is none.

    Raises:
        DataError: the journal is damaged, or names what lies outside the workspace.
    """
    path = journal_path(settings)
    try:
        content = json.loads(path.read_bytes())
        plans = [_read_plan(settings, record) for record in content["plans"]]
        return Purge([str(target) for target in content["targets"]], plans)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: not a journal of a purge ({error}); delete it, then repeat the order"
        ) from error


def _read_plan(settings: Settings, record: dict[str, Any]) -> GcPlan:
    root = settings.home if record["root"] == "." else path_inside(settings, record["root"])
    plan = GcPlan(str(record["place"]), root)
    for item in record["deletions"]:
        paths = tuple(path_inside(settings, name) for name in item["paths"])
        name, why, kind = (str(item[key]) for key in ("name", "why", "kind"))
        deletion = Deletion(name, why, int(item["size"]), paths, kind, dict(item["facts"]))
        plan.deletions.append(deletion)
    return plan


def path_inside(settings: Settings, name: str) -> Path:
    """Path of the journal.

    Raises:
        DataError: it lies outside the workspace.
    """
    path = settings.home / name
    if not path.parent.resolve().is_relative_to(settings.home.resolve()) or ".." in path.parts:
        raise DataError(f"{journal_path(settings)}: {name} lies outside the workspace")
    return path


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
    strays: dict[Path, GcPlan] = {}
    for name in _stray_files(settings, texts):
        top, _, nested = name.partition("/")  # a folder of its own may be a file system of its own
        root = settings.home / top if nested else settings.home
        plan = strays.setdefault(root, GcPlan(WORKSPACE, root))
        plan.add_deletion(name, "it quotes the page", [settings.home / name])
    plans = [*plan_copies(settings, affected, remotes), *strays.values()]
    return Purge(sorted(targets), plans), texts


def plan_copies(
    settings: Settings, affected: AffectedCopies, remotes: Sequence[str] = ()
) -> list[GcPlan]:
    """Plan to delete all affected copies, in the order in which they go.

    The registry comes first, so that nothing ever names files that are gone. Where nothing is
    affected and nothing of unknown content is left, nothing is planned: no dossier quotes a page
    that no model was made of.

    Args:
        settings: workspace that holds them.
        affected: the copies.
        remotes: places that datasets were pushed to, besides those the workspace knows.
    """
    if not (affected or affected.unfinished or affected.unverifiable):
        return []
    store = GcPlan(STORE, settings.store)
    for node in affected.nodes:
        store.add_deletion(f"store/{node.name}", _FORGOTTEN, [settings.store / node.name])
    for key in affected.unfinished:
        folder = settings.store / "partial" / key
        store.add_deletion(f"store/partial/{key}", "of unknown content", [folder])
    removed = [path for deletion in store.deletions for path in deletion.paths]
    versions = [pin.version for pin in affected.datasets]
    places = sorted({*list_remotes(settings), *remotes})
    bentos = [bento.folder for bento in affected.bentos]
    logs = GcPlan(LOGS, settings.logs)
    for path in (settings.logs / f"{SMOKE_FOLDER}-{name}.log" for name in bentos):
        if path.exists():
            logs.add_deletion(path.name, "of such a Bento", [path])
    return [
        plan_registry_purge(settings, affected.versions, removed),
        plan_dataset_purge(settings, versions, places),
        store,
        plan_bento_purge(settings, bentos),
        logs,
    ]


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
    store, partial = Store(settings.store), settings.store / "partial"
    for path in (path for plan in purge.plans for item in plan.deletions for path in item.paths):
        if path.parent == partial and store.is_key_locked(path.name):
            raise MillError(
                f"a run is at work on {path.name[:12]}: wait for it or stop it, then repeat"
            )
    plans = [_plan_record(settings, plan) for plan in purge.plans]
    content = {"targets": purge.targets, "plans": plans}
    write_atomically(journal_path(settings), canonical_json(content))


def _plan_record(settings: Settings, plan: GcPlan) -> dict[str, Any]:
    deletions = [
        {**asdict(item), "paths": [_name_inside(settings, path) for path in item.paths]}
        for item in plan.deletions
    ]
    return {
        "place": plan.place,
        "root": _name_inside(settings, plan.root),
        "deletions": deletions,
    }


def _name_inside(settings: Settings, path: Path) -> str:
    return path.relative_to(settings.home).as_posix()


def carry_out_purge(settings: Settings, purge: Purge) -> None:
    """Delete everything that ``purge`` names, then its journal. May be repeated.

    Raises:
        MillError: something is still there; the journal stays.
    """
    with hold_system_locks(settings):
        delete_planned(settings, purge.plans)
    empty_trashes(settings)
    left = find_not_deleted(settings, purge.plans)
    if left:
        more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        raise MillError(f"{left[0]}{more} is still there: see who writes it, then repeat the order")
    audit_log.append_entry(settings, "purge", targets=purge.targets, **purge.counts())
    journal_path(settings).unlink()


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
