"""Scores which lines of a document stand in the head or foot of most pages of its site.

A menu, a breadcrumb, ``Prev … Next``, a licence note: what an extractor leaves of a site's frame
recurs line by line, which no single page shows. Shares are of documents, by host; the rule in
``select`` says from which share on a line is cut.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.stats.source_losses import source_of
from components.core.store.artifact import Corpus, Scores
from components.core.store.shards import map_shards, read_all, read_shard, shard_paths
from components.core.store.workdir import Workdir
from components.text.markdown_sections import lines_outside_fences

LINE = pa.struct(
    [
        pa.field("start", pa.int64()),  # offsets in characters of the text
        pa.field("end", pa.int64()),
        pa.field("share", pa.float64()),  # of the site's documents that hold it in head or foot
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("site_documents", pa.int64(), nullable=False),
        pa.field("lines", pa.list_(LINE), nullable=False),  # in the text's order
    ]
)
_KEYS = pa.schema([pa.field("key", pa.uint64()), pa.field("site", pa.uint64())])


class SiteLinesConfig(StageConfig):
    """What counts as a page's head and foot."""

    head_lines: int = Field(default=6, ge=0, le=100, description="first lines of a page looked at")
    foot_lines: int = Field(default=10, ge=0, le=100, description="last lines of a page looked at")
    min_share: float = Field(
        default=0.2, gt=0, le=1, description="of a site's pages; rarer lines are not written down"
    )


def score_site_lines(config: SiteLinesConfig, corpus: Corpus, work: Workdir) -> Scores:
    """For every document, its lines that recur over its site, each with its share."""
    folder = work.path(corpus)
    head, foot = config.head_lines, config.foot_lines
    (work.scratch / "keys").mkdir(exist_ok=True)
    map_shards(work, folder, _keys_of_shard, into=work.scratch / "keys", head=head, foot=foot)
    sites, lines = work.scratch / "sites.parquet", work.scratch / "lines.parquet"
    documents = _documents_by_site(folder)
    pq.write_table(_pairs("documents", documents), sites)
    pq.write_table(
        _pairs("share", _frequent(work.scratch / "keys", documents, config.min_share)), lines
    )
    map_shards(work, folder, _lines_of_shard, frequent=lines, sites=sites, head=head, foot=foot)
    found = read_all(work.folder, ["lines"])["lines"]
    marked = sum(1 for lines in found.to_pylist() if lines)
    return work.seal(
        Scores, stats={"documents": float(len(found)), "with_site_lines": float(marked)}
    )


def edge_lines(text: str, head: int, foot: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the first and last lines of ``text`` that are not blank, outside code."""
    lines: list[tuple[int, int]] = []
    at = 0
    for line, is_code in lines_outside_fences(text):
        if line.strip() and not is_code:
            lines.append((at, at + len(line)))
        at += len(line) + 1
    yield from lines[:head]
    yield from lines[max(head, len(lines) - foot) :]


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _key(site: str, line: str) -> int:
    return _hashed(f"{site}\n{' '.join(line.split())}")


def _keys_of_shard(table: pa.Table, head: int, foot: int) -> pa.Table:
    """Each line of a document's head and foot once, with its site (in a worker)."""
    keys: list[int] = []
    sites: list[int] = []
    for url, text in zip(table["url"].to_pylist(), table["text"].to_pylist(), strict=True):
        site = source_of(url)
        own = {_key(site, text[start:end]) for start, end in edge_lines(text, head, foot)}
        keys += own
        sites += [_hashed(site)] * len(own)
    return pa.table({"key": keys, "site": sites}, schema=_KEYS)


def _documents_by_site(folder: Path) -> dict[int, int]:
    """How many documents each site has, by the site's hash."""
    sites: Counter[str] = Counter()
    for path in shard_paths(folder):
        sites.update(map(source_of, read_shard(path, ["url"])["url"].to_pylist()))
    return {_hashed(site): count for site, count in sites.items()}


def _frequent(folder: Path, documents: dict[int, int], min_share: float) -> dict[int, float]:
    """Share of each line that enough documents of its site hold, by key."""
    table = read_all(folder)
    keys, first, counts = np.unique(table["key"].to_numpy(), return_index=True, return_counts=True)
    of_key = table["site"].to_numpy()[first]
    shares = counts / np.array([documents[int(site)] for site in of_key], dtype=np.float64)
    wanted = (shares >= min_share) & (counts > 1)
    return dict(zip(keys[wanted].tolist(), shares[wanted].round(4).tolist(), strict=True))


def _pairs(name: str, values: Mapping[int, float]) -> pa.Table:
    return pa.table({"key": pa.array(values, type=pa.uint64()), name: list(values.values())})


def _read_pairs(path: Path) -> dict[int, float]:
    key, value = pq.read_table(path).columns
    return dict(zip(key.to_pylist(), value.to_pylist(), strict=True))


def _lines_of_shard(table: pa.Table, frequent: Path, sites: Path, head: int, foot: int) -> pa.Table:
    """Scores of one shard (in a worker)."""
    shares, documents = _read_pairs(frequent), _read_pairs(sites)
    rows = []
    for document in table.select(["id", "url", "text"]).to_pylist():
        site, text = source_of(document["url"]), document["text"]
        lines = [
            {"start": start, "end": end, "share": shares[key]}
            for start, end in edge_lines(text, head, foot)
            if (key := _key(site, text[start:end])) in shares
        ]
        rows.append(
            {"id": document["id"], "site_documents": documents[_hashed(site)], "lines": lines}
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)
