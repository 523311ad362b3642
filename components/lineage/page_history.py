"""What the crawls and corpora of a store say of a page: fetched, set aside, kept, dropped, why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.core.errors import DataError
from components.core.store.artifact import Pages
from components.core.store.lineage_graph import ArtifactGraph, Node
from components.core.store.shards import read_shard, shard_paths

_RULE = ("rule", "score", "at_least", "at_most")
_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Query:
    """The page that is asked about: an address, or a document's id."""

    url: str = ""
    id: str = ""

    @classmethod
    def of(cls, given: str) -> Query:
        if _ID.fullmatch(given):
            return cls(id=given)
        # Behind a file's # stands the number of a row, which is a page of its own.
        return cls(url=given if given.startswith("file:") else given.partition("#")[0] or given)

    def rows(self, table: pa.Table) -> list[dict[str, Any]]:
        """Rows of this page; an address is found with and without its closing slash."""
        if self.id:
            return table.filter(pc.equal(table["id"], self.id)).to_pylist()  # type: ignore[no-any-return]
        bare = self.url.rstrip("/")
        wanted = pa.array([self.url, bare, f"{bare}/"])
        return table.filter(pc.is_in(table["url"], value_set=wanted)).to_pylist()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class PageTokens:
    """How many tokens of a Tokens artifact are one page's."""

    id: str
    url: str
    heldout: bool
    tokens: int


def crawl_rows(store: Path, crawl: Node, query: Query) -> list[dict[str, Any]]:
    """The page's rows in a crawl's fetch ledger; none where the crawl has no ledger."""
    if query.id or "ledger.parquet" not in crawl.files:
        return []
    return query.rows(_shard(store, crawl, "ledger.parquet"))


def quarantine_rows(store: Path, corpus: Node, query: Query) -> list[dict[str, Any]]:
    """The page's rows among those that gave no document."""
    if query.id or "quarantine.parquet" not in corpus.files:
        return []
    return query.rows(_shard(store, corpus, "quarantine.parquet"))


def document_rows(store: Path, corpus: Node, query: Query) -> list[dict[str, Any]]:
    """The page's documents in a corpus: id, url."""
    return [row for table in _shards(store, corpus, ["id", "url"]) for row in query.rows(table)]


def ledger_rows(store: Path, corpus: Node, query: Query) -> list[dict[str, Any]]:
    """The page's rows in the ledger of a selected corpus."""
    names = sorted(name for name in corpus.files if name.startswith("ledger/"))
    return [row for name in names for row in query.rows(_shard(store, corpus, name))]


def is_readable(store: Path, corpus: Node) -> bool:
    """Whether a corpus says which pages it holds; one of a user's own may not."""
    try:
        return all(table.num_columns for table in _shards(store, corpus, ["id", "url"]))
    except DataError:
        return False


def is_selected(corpus: Node) -> bool:
    """Whether a corpus is what ``select`` kept, and not all that was extracted."""
    return any(name.startswith("ledger/") for name in corpus.files)


def verdict(row: dict[str, Any]) -> dict[str, Any]:
    """A ledger's row in short: the rules that failed, spans by kind and count, the twin."""
    spans = Counter((span["kind"], span["action"]) for span in row["spans"])
    failed = [rule for rule in row["rules"] if not rule["passed"]]
    told: dict[str, Any] = {
        "document": row["id"],
        "url": row["url"],
        "kept": row["kept"],
        "reasons": row["reasons"],
        "failed": [{name: rule[name] for name in _RULE} for rule in failed],
        "rules": len(row["rules"]),
        "spans": [{"kind": k, "action": a, "count": n} for (k, a), n in sorted(spans.items())],
    }
    if row["twin"]:
        told["twin"] = {
            "document": row["twin"],
            "similarity": row["similarity"],
            "max_similarity": row["max_similarity"],
        }
    for name in ("licence", "item"):  # ledgers of before those rules have no such columns
        if row.get(name):
            told[name] = row[name]
    return told


def addresses_of(store: Path, corpus: Node, identifiers: Sequence[str]) -> dict[str, str]:
    """Document id -> address, for documents of a corpus."""
    wanted = pa.array(list(identifiers), type=pa.string())
    found: dict[str, str] = {}
    for table in _shards(store, corpus, ["id", "url"]):
        chosen = table.filter(pc.is_in(table["id"], value_set=wanted))
        found.update(zip(chosen["id"].to_pylist(), chosen["url"].to_pylist(), strict=True))
    return found


def twins_of(store: Path, corpus: Node, identifiers: Sequence[str]) -> list[str]:
    """Addresses of documents that were dropped for one of ``identifiers``."""
    wanted = pa.array(list(identifiers), type=pa.string())
    names = sorted(name for name in corpus.files if name.startswith("ledger/"))
    tables = [_shard(store, corpus, name).select(["url", "twin"]) for name in names]
    return [
        url
        for table in tables
        for url in table.filter(pc.is_in(table["twin"], value_set=wanted))["url"].to_pylist()
    ]


def held_addresses(store: Path, node: Node) -> list[str]:
    """Addresses of all pages whose text a crawl or a corpus holds."""
    if node.format == Pages.format and "ledger.parquet" in node.files:
        table = _shard(store, node, "ledger.parquet")
        return table.filter(pc.equal(table["reason"], ""))["url"].to_pylist()  # type: ignore[no-any-return]
    if node.format == Pages.format:  # adopted archives
        from components.collect.warc.page_shards import read_pages

        archives = sorted((store / node.name).rglob("*.warc*"))
        return [page.url for archive in archives for page in read_pages(archive)]
    return [url for table in _shards(store, node, ["url"]) for url in table["url"].to_pylist()]


def page_tokens(store: Path, graph: ArtifactGraph, tokens: Node) -> list[PageTokens]:
    """Tokens of each page, from the document boundaries, which stand in the corpus's order.

    Raises:
        DataError: the corpus is gone, or the boundaries are not those of its pages.
    """
    corpora = graph.of(tokens.parents.get("corpus", ""))
    if not corpora:
        raise DataError(f"{tokens.key[:12]}: the corpus behind these tokens is gone")
    tables = list(_shards(store, corpora[0], ["id", "url"]))
    pages = pa.concat_tables(tables)
    ids, urls = pages["id"].to_pylist(), pages["url"].to_pylist()
    outside = set(_shard(store, tokens, "heldout.parquet")["id"].to_pylist())
    found: list[PageTokens] = []
    for split, heldout in (("train", False), ("heldout", True)):
        mine = [at for at, one in enumerate(ids) if (one in outside) is heldout]
        starts = np.load(store / tokens.name / f"{split}.docs.npy", allow_pickle=False)
        if len(starts) != len(mine) + 1:
            raise DataError(f"{tokens.key[:12]}: {split} holds other pages than its corpus")
        lengths = np.diff(starts).tolist()
        found += [
            PageTokens(ids[a], urls[a], heldout, n) for a, n in zip(mine, lengths, strict=True)
        ]
    return found


def instruction_counts(store: Path, instructions: Node, query: Query) -> dict[str, int]:
    """Split -> instructions that were made from the page."""
    splits = ("train", "heldout")
    return {s: len(query.rows(_shard(store, instructions, f"{s}.parquet"))) for s in splits}


def _shard(store: Path, node: Node, name: str) -> pa.Table:
    return read_shard(store / node.name / name)


def _shards(store: Path, corpus: Node, columns: list[str]) -> Iterator[pa.Table]:
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
