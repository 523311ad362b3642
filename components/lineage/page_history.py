"""History of a page in the crawls and corpora of a store: fetched, set aside, kept, dropped."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.collect.crawl.fetch_ledger import AT_FURTHER_HOSTS
from components.core.errors import DataError
from components.core.store.artifact import Pages
from components.core.store.lineage_graph import ArtifactGraph, ArtifactNode
from components.core.store.shards import read_shard, shard_paths
from components.text.chat.own_rows import own_rows_file

_RULE_FIELDS = ("rule", "score", "at_least", "at_most")
_DOCUMENT_ID = re.compile("[0-9a-f]{32}")
INSTRUCTION_SPLITS = ("train", "align", "heldout")
"""Splits of ``Instructions``, each a file or two."""


@dataclass(frozen=True)
class PageQuery:
    """Query for one page: an address, or a document's id."""

    url: str = ""
    id: str = ""

    @classmethod
    def parse(cls, text: str) -> PageQuery:
        if _DOCUMENT_ID.fullmatch(text):
            return cls(id=text)
        # In a file's address a row number follows the #, and each row is a page of its own.
        return cls(url=text if text.startswith("file:") else text.partition("#")[0] or text)

    def select_rows(self, table: pa.Table) -> list[dict[str, Any]]:
        """Rows of this page, and of parts that a long text was split into.

        An address matches with and without its trailing slash.
        """
        if self.id:
            return table.filter(pc.equal(table["id"], self.id)).to_pylist()  # type: ignore[no-any-return]
        bare = self.url.rstrip("/")
        wanted = pa.array([self.url, bare, f"{bare}/"])
        is_page = pc.is_in(table["url"], value_set=wanted)
        is_part = pc.starts_with(table["url"], f"{self.url}{'-' if '#' in self.url else '#'}part-")
        return table.filter(pc.or_(is_page, is_part)).to_pylist()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class PageTokens:
    """Tokens of one page in a Tokens artifact."""

    id: str
    url: str
    heldout: bool
    tokens: int


def crawl_rows(store: Path, crawl: ArtifactNode, query: PageQuery) -> list[dict[str, Any]]:
    """Rows of the page in a crawl's fetch ledger; none where it has no ledger.

    An unasked address without a row of its own has those that count it among others.

    Args:
        store: root of the store.
        crawl: a Pages node.
        query: page to look for.
    """
    if query.id or "ledger.parquet" not in crawl.files:
        return []
    table = _read_file(store, crawl, "ledger.parquet")
    return query.select_rows(table) or _counting_rows(table, query.url)


def _counting_rows(table: pa.Table, url: str) -> list[dict[str, Any]]:
    """Rows that stand for further unasked addresses of the page's host; none where it has none.

    Of a host without rows of its own, those that stand for further hosts.
    """
    if "unasked" not in table.column_names:  # ledgers of earlier versions
        return []
    rows = table.filter(pc.greater(table["unasked"], 1)).to_pylist()
    shared = [row for row in rows if row["reason"].endswith(AT_FURTHER_HOSTS)]
    host = urlsplit(url).netloc
    of_host = [row for row in rows if row not in shared and urlsplit(row["url"]).netloc == host]
    if of_host or not host:
        return of_host
    has_host = pc.any(pc.match_substring(table["url"], f"://{host}/")).as_py()
    return [] if has_host else shared


def quarantine_rows(store: Path, corpus: ArtifactNode, query: PageQuery) -> list[dict[str, Any]]:
    """Rows of the page in a corpus's quarantine.

    Args:
        store: root of the store.
        corpus: an extracted corpus.
        query: page to look for.
    """
    if query.id or "quarantine.parquet" not in corpus.files:
        return []
    return query.select_rows(_read_file(store, corpus, "quarantine.parquet"))


def document_rows(store: Path, corpus: ArtifactNode, query: PageQuery) -> list[dict[str, Any]]:
    """Documents of the page in a corpus: id, url.

    Args:
        store: root of the store.
        corpus: extracted or selected.
        query: page to look for.
    """
    return [
        row
        for table in _read_shards(store, corpus, ["id", "url"])
        for row in query.select_rows(table)
    ]


def ledger_rows(store: Path, corpus: ArtifactNode, query: PageQuery) -> list[dict[str, Any]]:
    """Rows of the page in the ledger of a selected corpus.

    Args:
        store: root of the store.
        corpus: corpus made by ``select``.
        query: page to look for.
    """
    names = sorted(name for name in corpus.files if name.startswith("ledger/"))
    return [row for name in names for row in query.select_rows(_read_file(store, corpus, name))]


def is_readable(store: Path, corpus: ArtifactNode) -> bool:
    """True if a corpus names its pages; a user's own may not."""
    try:
        return all(table.num_columns for table in _read_shards(store, corpus, ["id", "url"]))
    except DataError:
        return False


def is_selected(corpus: ArtifactNode) -> bool:
    """True for a corpus made by ``select``, False for an extracted one."""
    return any(name.startswith("ledger/") for name in corpus.files)


def summarise_verdict(row: dict[str, Any]) -> dict[str, Any]:
    """Summary of a ledger's row: failed rules, spans by kind and count, the duplicate kept."""
    spans = Counter((span["kind"], span["action"]) for span in row["spans"])
    failed = [rule for rule in row["rules"] if not rule["passed"]]
    summary: dict[str, Any] = {
        "document": row["id"],
        "url": row["url"],
        "kept": row["kept"],
        "reasons": row["reasons"],
        "failed": [{name: rule[name] for name in _RULE_FIELDS} for rule in failed],
        "rules": len(row["rules"]),
        "spans": [{"kind": k, "action": a, "count": n} for (k, a), n in sorted(spans.items())],
    }
    if row.get(
        "duplicate_of"
    ):  # a rule's columns are absent from ledgers of selections without the rule
        summary["duplicate_of"] = {
            "document": row["duplicate_of"],
            "similarity": row["similarity"],
            "max_similarity": row["max_similarity"],
        }
    for name in ("licence", "item", "row"):
        if row.get(name):
            summary[name] = row[name]
    return summary


def document_addresses(
    store: Path, corpus: ArtifactNode, identifiers: Sequence[str]
) -> dict[str, str]:
    """Addresses of documents of a corpus: id -> address.

    Args:
        store: root of the store.
        corpus: that holds them.
        identifiers: ids; unknown ones are left out.
    """
    wanted = pa.array(list(identifiers), type=pa.string())
    addresses: dict[str, str] = {}
    for table in _read_shards(store, corpus, ["id", "url"]):
        chosen = table.filter(pc.is_in(table["id"], value_set=wanted))
        addresses.update(zip(chosen["id"].to_pylist(), chosen["url"].to_pylist(), strict=True))
    return addresses


def held_page_addresses(store: Path, node: ArtifactNode) -> list[str]:
    """Addresses of all pages whose text a crawl or corpus holds."""
    if node.format == Pages.format and "ledger.parquet" in node.files:
        table = _read_file(store, node, "ledger.parquet")
        return table.filter(pc.equal(table["reason"], ""))["url"].to_pylist()  # type: ignore[no-any-return]
    if node.format == Pages.format:  # adopted archives
        from components.collect.warc.page_shards import read_pages

        archives = sorted((store / node.name).rglob("*.warc*"))
        return [page.url for archive in archives for page in read_pages(archive)]
    return [url for table in _read_shards(store, node, ["url"]) for url in table["url"].to_pylist()]


def count_page_tokens(store: Path, graph: ArtifactGraph, tokens: ArtifactNode) -> list[PageTokens]:
    """Count the tokens of each page, from the document boundaries, in the corpus's order.

    Args:
        store: root of the store.
        graph: lineage graph of the store.
        tokens: a Tokens node.

    Raises:
        DataError: the corpus is gone, or the boundaries are not those of its pages.
    """
    corpora = graph.with_digest(tokens.parents.get("corpus", ""))
    if not corpora:
        raise DataError(f"{tokens.key[:12]}: the corpus behind these tokens is gone")
    tables = list(_read_shards(store, corpora[0], ["id", "url"]))
    pages = pa.concat_tables(tables)
    ids, urls = pages["id"].to_pylist(), pages["url"].to_pylist()
    outside = set(_read_file(store, tokens, "heldout.parquet")["id"].to_pylist())
    pages_of_split: list[PageTokens] = []
    for split, heldout in (("train", False), ("heldout", True)):
        indices = [at for at, id_ in enumerate(ids) if (id_ in outside) is heldout]
        starts = np.load(store / tokens.name / f"{split}.docs.npy", allow_pickle=False)
        if len(starts) != len(indices) + 1:
            raise DataError(f"{tokens.key[:12]}: {split} holds other pages than its corpus")
        lengths = np.diff(starts).tolist()
        pages_of_split += [
            PageTokens(ids[a], urls[a], heldout, n) for a, n in zip(indices, lengths, strict=True)
        ]
    return pages_of_split


def instruction_counts(store: Path, instructions: ArtifactNode, query: PageQuery) -> dict[str, int]:
    """Count the instructions made from the page, or of the conversation, by split.

    Args:
        store: root of the store.
        instructions: an Instructions node.
        query: page to look for.
    """
    counts: dict[str, int] = {}
    for split in INSTRUCTION_SPLITS:
        names = [n for n in (f"{split}.parquet", own_rows_file(split)) if n in instructions.files]
        tables = [_read_file(store, instructions, name) for name in names]
        counts[split] = sum(len(query.select_rows(table)) for table in tables)
    return counts


def _read_file(store: Path, node: ArtifactNode, name: str) -> pa.Table:
    return read_shard(store / node.name / name)


def _read_shards(store: Path, corpus: ArtifactNode, columns: list[str]) -> Iterator[pa.Table]:
    """The named columns alone: the text stays on the disk."""
    for path in shard_paths(store / corpus.name):
        yield read_columns(path, columns)


def read_columns(path: Path, columns: list[str]) -> pa.Table:
    """Some columns of a shard, without reading the others.

    Raises:
        DataError: not Parquet, or a column is missing; names the shard.
    """
    try:
        table: pa.Table = pq.ParquetFile(path).read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as a Parquet shard: {error}") from error
    missing = set(columns) - set(table.column_names)
    if missing:
        raise DataError(f"{path}: column {min(missing)!r} is missing")
    return table
