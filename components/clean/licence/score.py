"""Licence scorer: the licence that each document shows, with the words it was read from.

A page's text has lost what its HTML declares (rel=license, schema.org, links to Creative Commons'
deeds); the extracted document keeps that in columns of its own.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Corpus, Scores
from components.core.store.shards import map_shards, read_shards
from components.core.store.workdir import Workdir
from components.text.licence_signs import (
    OTHER_LICENCE,
    SIGN_KINDS,
    LicenceSign,
    find_licences,
    licence_of,
)

_FIELDS = ("licence_source", "navigation", "text")
"""Columns of a document that are read, what the page declares first."""

EVIDENCE = pa.struct(
    [
        pa.field("field", pa.string()),  # licence_source, licence, navigation or text
        pa.field("start", pa.int64()),  # offsets in characters of that field
        pa.field("end", pa.int64()),
        pa.field("kind", pa.string()),
        pa.field("licence", pa.string()),
        pa.field("raw", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),  # the strongest sign's; empty for none
        pa.field("conflicting", pa.bool_(), nullable=False),  # signs as strong name another
        pa.field("evidence", pa.list_(EVIDENCE), nullable=False),  # strongest first
    ]
)


class LicenceConfig(StageConfig):
    """Amount of evidence that is kept."""

    most: int = Field(default=20, ge=1, description="most signs of one document that are recorded")


def score_licence(config: LicenceConfig, corpus: Corpus, work: Workdir) -> Scores:
    """Signs of a licence in a page's declarations, its navigation (footers) and its text.

    Args:
        config: Most signs recorded of a document.
        corpus: The extracted documents.
        work: Folder of the scores.
    """
    map_shards(work, work.artifact_folder(corpus), score_licence_shard, max_signs=config.most)
    counts = Counter(read_shards(work.folder, ["licence"])["licence"].to_pylist())
    none = counts.pop("", 0)
    licence_stats = {f"licence_{licence}": float(n) for licence, n in sorted(counts.items())[:50]}
    return work.seal(
        Scores,
        stats={"licensed": float(counts.total()), "unlicensed": float(none), **licence_stats},
    )


def score_licence_shard(table: pa.Table, max_signs: int) -> pa.Table:
    """Scores of one shard (in a worker)."""
    rows = []
    columns = [name for name in ("id", "licence", *_FIELDS) if name in table.column_names]
    for document in table.select(columns).to_pylist():
        evidence = [
            {"field": field, **sign._asdict(), "raw": content[sign.start : sign.end]}
            for field in _FIELDS
            for content in [document.get(field) or ""]
            for sign in find_licences(content)
        ]
        evidence += _address_evidence(document.get("licence") or "", evidence)
        evidence.sort(key=lambda sign: SIGN_KINDS.index(str(sign["kind"])))
        strongest = {sign["licence"] for sign in evidence if sign["kind"] == evidence[0]["kind"]}
        rows.append(
            {
                "id": document["id"],
                "licence": evidence[0]["licence"] if evidence else "",
                "conflicting": len(strongest) > 1,
                "evidence": evidence[:max_signs],
            }
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _address_evidence(address: str, evidence: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sign of a licence's address, where no column says how the page names it."""
    strong = SIGN_KINDS[:2]
    if not address or any(s["field"] == _FIELDS[0] and s["kind"] in strong for s in evidence):
        return []
    sign = LicenceSign(0, len(address), SIGN_KINDS[0], licence_of(address) or OTHER_LICENCE)
    return [{"field": "licence", **sign._asdict(), "raw": address}]
