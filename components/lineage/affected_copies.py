"""What an order to forget reaches: every copy of the pages, and all that was made of them."""

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
from components.core.store.lineage_graph import ArtifactGraph, Node
from components.lineage.outside_copies import (
    DatasetVersion,
    PackedBento,
    bentos,
    dataset_versions,
    serving,
    versions_of,
)
from components.lineage.page_history import addresses_of, held_addresses, is_selected, read_columns
from components.publish.registry.model_registry import BUNDLE_TAG, Entry

_LOOKED_INTO = (Pages.format, Corpus.format)
"""Formats that name the address of every page they hold: no lineage is needed to tell."""


@dataclass(frozen=True)
class Affected:
    """Every copy of what is to be forgotten, and every thing that was made of it."""

    pages: tuple[str, ...]
    """Addresses whose text a crawl or corpus holds."""
    holders: frozenset[str]
    """Keys of crawls and corpora that hold it."""
    nodes: tuple[Node, ...]
    datasets: tuple[DatasetVersion, ...]
    versions: tuple[Entry, ...]
    bentos: tuple[PackedBento, ...]
    unfinished: tuple[str, ...]
    """Keys of stages at work or given up: nobody can tell what they hold."""
    twins: tuple[str, ...]
    """Pages outside the order whose text is (nearly) that of one in it."""
    untold: tuple[str, ...]
    """Keys of what cannot be read, or whose origin is gone: nobody can tell what it holds."""
    served: bool
    """Whether the endpoint serves one of ``bentos`` now."""

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
            "datasets": [dataset.name for dataset in self.datasets],
            "versions": [
                {"model": v.model, "version": str(v.version), "aliases": list(v.aliases)}
                for v in self.versions
            ],
            "bentos": [bento.name for bento in self.bentos],
            "served_now": self.served,
            "unfinished": list(self.unfinished),
            "twins": list(self.twins),
            "untold": list(self.untold),
        }


def find_affected(settings: Settings, targets: Sequence[str]) -> Affected:
    """All that ``targets`` (addresses and domains) reach in this workspace."""
    store, graph, blocklist = settings.store, ArtifactGraph.read(settings.store), Blocklist(targets)
    held, unread = _held(store, graph, blocklist)
    holders = {key for key, urls in held.items() if urls}
    nodes = graph.tainted(
        [graph.nodes[key] for key in holders], lambda node: node.format in _LOOKED_INTO
    )
    digests = {node.digest for node in nodes}
    versions = versions_of(settings, digests)
    packed = _packed(settings, versions, digests)
    now = serving(settings)
    datasets = [d for d in dataset_versions(settings) if _pinned(settings, d, digests, blocklist)]
    pages = sorted({url for urls in held.values() for url in urls})
    return Affected(
        pages=tuple(pages),
        holders=frozenset(holders),
        nodes=tuple(nodes),
        datasets=tuple(datasets),
        versions=tuple(versions),
        bentos=packed,
        unfinished=tuple(sorted(path.name for path in (store / "partial").glob("*/"))),
        twins=tuple(sorted(set(_twins(store, graph, nodes, blocklist)))),
        untold=tuple(sorted({*unread, *_untold(graph, nodes)})),
        served=now is not None and now.get("bento") in {bento.name for bento in packed},
    )


def _held(
    store: Path, graph: ArtifactGraph, blocklist: Blocklist
) -> tuple[dict[str, list[str]], list[str]]:
    """(key -> blocked addresses that it holds, keys of what cannot be read)."""
    held: dict[str, list[str]] = {}
    unread: list[str] = []
    for node in graph:
        try:
            held[node.key] = [url for url in _addresses(store, node) if blocklist.covers(url)]
        except DataError:
            unread.append(node.key)
    return held, unread


def _addresses(store: Path, node: Node) -> list[str]:
    """Addresses of the pages that an artifact holds, as far as it names them itself."""
    if node.format in _LOOKED_INTO:
        return held_addresses(store, node)
    if node.format not in (Tokens.format, Instructions.format):
        return []
    splits = ("train.parquet", "align.parquet", "heldout.parquet")
    tables = [name for name in splits if name in node.files]
    return [
        url
        for name in tables
        for url in read_columns(store / node.name / name, ["url"])["url"].to_pylist()
    ]


def _packed(
    settings: Settings, versions: Sequence[Entry], digests: set[str]
) -> tuple[PackedBento, ...]:
    bundles = digests | {version.tags.get(BUNDLE_TAG, "") for version in versions}
    return tuple(bento for bento in bentos(settings) if bento.bundle in bundles)


def _pinned(
    settings: Settings, dataset: DatasetVersion, digests: set[str], blocklist: Blocklist
) -> bool:
    """Whether a dataset version holds such a page: by its corpus, or as its files in DVC say."""
    if dataset.corpus in digests:
        return True
    shards = sorted((settings.datasets / dataset.name).glob("*.parquet"))
    return any(
        blocklist.covers(url)
        for shard in shards
        for url in read_columns(shard, ["url"])["url"].to_pylist()
    )


def _twins(
    store: Path, graph: ArtifactGraph, nodes: Sequence[Node], blocklist: Blocklist
) -> Iterator[str]:
    """Pages that were dropped for one of these, and pages that one of these was dropped for."""
    for corpus in (node for node in graph.of_format(Corpus.format) if is_selected(node)):
        pairs: dict[str, str] = {}
        for name in (name for name in corpus.files if name.startswith("ledger/")):
            table = read_columns(store / corpus.name / name, ["id", "url", "twin"])
            table = table.filter(pc.is_valid(table["twin"]))
            for row in table.to_pylist():
                pairs[row["url"]] = row["twin"]
        wanted = sorted(set(pairs.values()))
        kept = addresses_of(store, corpus, wanted) if wanted else {}
        for url, twin in pairs.items():
            both = (url, kept.get(twin, ""))
            yield from (
                one
                for one, other in (both, both[::-1])
                if one and blocklist.covers(other) and not blocklist.covers(one)
            )


def _untold(graph: ArtifactGraph, nodes: Sequence[Node]) -> Iterator[str]:
    """Artifacts of text that are not known to be affected, and whose corpus is gone."""
    known = {node.key for node in nodes}
    for node in graph:
        corpus = node.parents.get("corpus")
        if corpus and node.key not in known and not graph.of(corpus):
            yield node.key
