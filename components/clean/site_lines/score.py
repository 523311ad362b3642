"""Site-line scorer: lines of a document that stand in the head or foot of many pages of its site.

A menu, a breadcrumb, ``Prev … Next``, a licence note: what an extractor leaves of a site's frame
recurs line by line, which no single page shows. Shares are of documents, by host; the rule
says from which share on a line is cut.
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
from components.core.stats.source_losses import source_name
from components.core.store.artifact import Corpus, Scores
from components.core.store.shards import map_shards, read_shard, read_shards, shard_paths
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
    """Size of a page's head and foot."""

    head_lines: int = Field(default=6, ge=0, le=100, description="first lines of a page looked at")
    foot_lines: int = Field(default=10, ge=0, le=100, description="last lines of a page looked at")
    min_share: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="smallest share of a site's pages with a line that is recorded",
    )


def score_site_lines(config: SiteLinesConfig, corpus: Corpus, work: Workdir) -> Scores:
    """For every document, its lines that recur over its site, each with its share.

    Args:
        config: Size of head and foot, and the least share of pages.
        corpus: The extracted documents.
        work: Folder of the scores.
    """
    folder = work.artifact_folder(corpus)
    head, foot = config.head_lines, config.foot_lines
    (work.scratch / "keys").mkdir(exist_ok=True)
    map_shards(work, folder, _hash_shard_lines, folder=work.scratch / "keys", head=head, foot=foot)
    sites, lines = work.scratch / "sites.parquet", work.scratch / "lines.parquet"
    documents = _count_documents(folder)
    pq.write_table(_pairs_table("documents", documents), sites)
    pq.write_table(
        _pairs_table("share", _frequent_lines(work.scratch / "keys", documents, config.min_share)),
        lines,
    )
    map_shards(
        work, folder, _score_site_lines_shard, frequent=lines, sites=sites, head=head, foot=foot
    )
    lines_of_rows = read_shards(work.folder, ["lines"])["lines"]
    marked = sum(1 for lines in lines_of_rows.to_pylist() if lines)
    return work.seal(
        Scores, stats={"documents": float(len(lines_of_rows)), "with_site_lines": float(marked)}
    )


def find_edge_lines(text: str, head: int, foot: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the first and last lines of ``text`` that are not blank, outside code.

    Args:
        text: A document's text.
        head: First lines that are given.
        foot: Last lines that are given.
    """
    lines: list[tuple[int, int]] = []
    offset = 0
    for line, is_code in lines_outside_fences(text):
        if line.strip() and not is_code:
            lines.append((offset, offset + len(line)))
        offset += len(line) + 1
    yield from lines[:head]
    yield from lines[max(head, len(lines) - foot) :]


def _hash_text(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _line_key(site: str, line: str) -> int:
    return _hash_text(f"{site}\n{' '.join(line.split())}")


def _hash_shard_lines(table: pa.Table, head: int, foot: int) -> pa.Table:
    """Each line of a document's head and foot once, with its site (in a worker)."""
    keys: list[int] = []
    sites: list[int] = []
    for url, text in zip(table["url"].to_pylist(), table["text"].to_pylist(), strict=True):
        site = source_name(url)
        own_keys = {
            _line_key(site, text[start:end]) for start, end in find_edge_lines(text, head, foot)
        }
        keys += own_keys
        sites += [_hash_text(site)] * len(own_keys)
    return pa.table({"key": keys, "site": sites}, schema=_KEYS)


def _count_documents(folder: Path) -> dict[int, int]:
    """Number of documents of each site, by the site's hash."""
    sites: Counter[str] = Counter()
    for path in shard_paths(folder):
        sites.update(map(source_name, read_shard(path, ["url"])["url"].to_pylist()))
    return {_hash_text(site): count for site, count in sites.items()}


def _frequent_lines(folder: Path, documents: dict[int, int], min_share: float) -> dict[int, float]:
    """Share of each line that enough documents of its site hold, by key."""
    table = read_shards(folder)
    keys, first, counts = np.unique(table["key"].to_numpy(), return_index=True, return_counts=True)
    of_key = table["site"].to_numpy()[first]
    shares = counts / np.array([documents[int(site)] for site in of_key], dtype=np.float64)
    is_frequent = (shares >= min_share) & (counts > 1)
    return dict(zip(keys[is_frequent].tolist(), shares[is_frequent].round(4).tolist(), strict=True))


def _pairs_table(name: str, values: Mapping[int, float]) -> pa.Table:
    return pa.table({"key": pa.array(values, type=pa.uint64()), name: list(values.values())})


def _read_pairs(path: Path) -> dict[int, float]:
    key, value = pq.read_table(path).columns
    return dict(zip(key.to_pylist(), value.to_pylist(), strict=True))


def _score_site_lines_shard(
    table: pa.Table, frequent: Path, sites: Path, head: int, foot: int
) -> pa.Table:
    """Scores of one shard (in a worker)."""
    shares, documents = _read_pairs(frequent), _read_pairs(sites)
    rows = []
    for document in table.select(["id", "url", "text"]).to_pylist():
        site, text = source_name(document["url"]), document["text"]
        lines = [
            {"start": start, "end": end, "share": shares[key]}
            for start, end in find_edge_lines(text, head, foot)
            if (key := _line_key(site, text[start:end])) in shares
        ]
        rows.append(
            {"id": document["id"], "site_documents": documents[_hash_text(site)], "lines": lines}
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)
