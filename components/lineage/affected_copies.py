"""Everything that an order to forget affects: copies of the pages, and what was made from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from components.core.config.blocklist import Blocklist
from components.core.errors import DataError
from components.core.settings import Settings
from components.core.store.artifact import Corpus, Instructions, Pages, Tokens
from components.core.store.lineage_graph import ArtifactGraph, ArtifactNode
from components.lineage.outside_copies import (
    find_versions,
    read_served_bento,
)
from components.lineage.page_history import (
    INSTRUCTION_SPLITS,
    document_addresses,
    held_page_addresses,
    is_selected,
    read_columns,
)
from components.publish.bento_folders import BentoContents, list_packed
from components.publish.dataset.dataset_pins import DatasetPin, read_pins
from components.publish.registry.model_registry import BUNDLE_TAG, RegisteredVersion
from components.text.chat.own_rows import own_rows_file

_INSPECTED_FORMATS = (Pages.format, Corpus.format)
"""Formats that name the address of every page they hold, so their content is inspected itself."""
_CORPUS_ROLES = ("corpus", "conversations", "own_preferences")
"""Roles under which stages take texts whose origin must be known."""


@dataclass(frozen=True)
class AffectedCopies:
    """Copies of the pages to forget, and everything that was made from them."""

    pages: tuple[str, ...]
    """Addresses of the order whose text a crawl or corpus holds."""
    holders: frozenset[str]
    """Keys of the crawls and corpora that hold that text."""
    nodes: tuple[ArtifactNode, ...]
    datasets: tuple[DatasetPin, ...]
    versions: tuple[RegisteredVersion, ...]
    bentos: tuple[BentoContents, ...]
    unfinished: tuple[str, ...]
    """Keys of running or abandoned stages, whose content is unknown."""
    near_duplicates: tuple[str, ...]
    """Pages outside the order whose text is a (near) duplicate of one in it."""
    unverifiable: tuple[str, ...]
    """Keys of artifacts that are unreadable, or whose origin is gone: content unknown."""
    served_now: bool
    """True if the endpoint serves one of ``bentos`` now."""

    def __bool__(self) -> bool:
        return bool(self.nodes or self.datasets or self.versions or self.bentos)

    @property
    def digests(self) -> frozenset[str]:
        return frozenset(node.digest for node in self.nodes)

    def as_json(self) -> dict[str, Any]:
        kinds = Counter(node.format.partition("/")[0] for node in self.nodes)
        return {
            "pages": list(self.pages),
            "artifacts": [
                {
                    "stage": node.stage,
                    "key": node.key,
                    "component": node.component,
                    "format": node.format,
                    "digest": node.digest,
                    "bytes": node.bytes,
                    "holds": node.key in self.holders,
                }
                for node in self.nodes
            ],
            "kinds": dict(sorted(kinds.items())),
            "datasets": [dataset.version for dataset in self.datasets],
            "versions": [
                {"model": v.model, "version": str(v.version), "aliases": list(v.aliases)}
                for v in self.versions
            ],
            "bentos": [bento.folder for bento in self.bentos],
            "served_now": self.served_now,
            "unfinished": list(self.unfinished),
            "near_duplicates": list(self.near_duplicates),
            "untold": list(self.unverifiable),
        }


def find_affected(settings: Settings, targets: Sequence[str]) -> AffectedCopies:
    """Find everything in the workspace that ``targets`` (addresses and domains) affect."""
    store, graph, blocklist = settings.store, ArtifactGraph.read(settings.store), Blocklist(targets)
    blocked, unreadable = _blocked_addresses(store, graph, blocklist)
    holders = {key for key, urls in blocked.items() if urls}
    nodes = graph.tainted_nodes(
        [graph.nodes[key] for key in holders], lambda node: node.format in _INSPECTED_FORMATS
    )
    digests = {node.digest for node in nodes}
    versions = find_versions(settings, digests)
    packed = _affected_bentos(settings, versions, digests)
    datasets = [
        d
        for d in read_pins(settings)
        if d.corpus and _dataset_holds(settings, d, digests, blocklist)
    ]
    pages = sorted({url for urls in blocked.values() for url in urls})
    return AffectedCopies(
        pages=tuple(pages),
        holders=frozenset(holders),
        nodes=tuple(nodes),
        datasets=tuple(datasets),
        versions=tuple(versions),
        bentos=packed,
        unfinished=tuple(sorted(path.name for path in (store / "partial").glob("*/"))),
        near_duplicates=tuple(sorted(set(_near_duplicates(store, graph, nodes, blocklist)))),
        unverifiable=tuple(sorted({*unreadable, *_orphaned_artifacts(graph, nodes)})),
        served_now=read_served_bento(settings) in {bento.folder for bento in packed},
    )


def _blocked_addresses(
    store: Path, graph: ArtifactGraph, blocklist: Blocklist
) -> tuple[dict[str, list[str]], list[str]]:
    """(key -> blocked addresses that it holds, keys of unreadable artifacts)."""
    addresses: dict[str, list[str]] = {}
    unreadable: list[str] = []
    for node in graph:
        try:
            addresses[node.key] = [
                url for url in _named_addresses(store, node) if blocklist.covers(url)
            ]
        except DataError:
            unreadable.append(node.key)
    return addresses, unreadable


def _named_addresses(store: Path, node: ArtifactNode) -> list[str]:
    """Addresses of the pages that an artifact holds, as far as it names them itself."""
    if node.format in _INSPECTED_FORMATS:
        return held_page_addresses(store, node)
    if node.format not in (Tokens.format, Instructions.format):
        return []
    splits = [f"{split}.parquet" for split in INSTRUCTION_SPLITS]
    splits += map(own_rows_file, INSTRUCTION_SPLITS)
    tables = [name for name in splits if name in node.files]
    return [
        url
        for name in tables
        for url in read_columns(store / node.name / name, ["url"])["url"].to_pylist()
    ]


def _affected_bentos(
    settings: Settings, versions: Sequence[RegisteredVersion], digests: set[str]
) -> tuple[BentoContents, ...]:
    bundles = digests | {version.tags.get(BUNDLE_TAG, "") for version in versions}
    return tuple(bento for bento in list_packed(settings) if bento.bundle in bundles)


def _dataset_holds(
    settings: Settings, dataset: DatasetPin, digests: set[str], blocklist: Blocklist
) -> bool:
    """True if a dataset version holds such a page, by its corpus or by its files under DVC."""
    if dataset.corpus in digests:
        return True
    shards = sorted((settings.datasets / dataset.version).glob("*.parquet"))
    return any(
        blocklist.covers(url)
        for shard in shards
        for url in read_columns(shard, ["url"])["url"].to_pylist()
    )


def _near_duplicates(
    store: Path, graph: ArtifactGraph, nodes: Sequence[ArtifactNode], blocklist: Blocklist
) -> Iterator[str]:
    """Pages dropped for a blocked page, and pages that a blocked one was dropped for."""
    for corpus in (node for node in graph.with_format(Corpus.format) if is_selected(node)):
        pairs: dict[str, str] = {}
        for name in (name for name in corpus.files if name.startswith("ledger/")):
            table = read_columns(store / corpus.name / name, ["id", "url", "duplicate_of"])
            table = table.filter(pc.is_valid(table["duplicate_of"]))
            for row in table.to_pylist():
                pairs[row["url"]] = row["duplicate_of"]
        wanted = sorted(set(pairs.values()))
        addresses = document_addresses(store, corpus, wanted) if wanted else {}
        for url, twin in pairs.items():
            both = (url, addresses.get(twin, ""))
            yield from (
                page
                for page, other in (both, both[::-1])
                if page and blocklist.covers(other) and not blocklist.covers(page)
            )


def _orphaned_artifacts(graph: ArtifactGraph, nodes: Sequence[ArtifactNode]) -> Iterator[str]:
    """Keys of artifacts not known to be affected whose corpus is gone."""
    known = {node.key for node in nodes}
    for node in graph:
        corpora = [node.parents.get(role) for role in _CORPUS_ROLES]
        gone = any(corpus and not graph.with_digest(corpus) for corpus in corpora)
        if gone and node.key not in known:
            yield node.key
