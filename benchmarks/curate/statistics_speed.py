"""Documents a second of all quality statistics, beside datatrove's filters on the same ones."""

from __future__ import annotations

import json

import pyarrow as pa

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.median_seconds import median_seconds
from benchmarks.curate.sample_documents import read_prose
from components.clean.quality.score import score_quality_shard

NAME, UNIT, TARGET = "quality statistics, documents of 2.3 kB", "/s/core", 25_000.0
PEER = "datatrove's Gopher, C4 and FineWeb filters"
_PEER_DOCUMENTS = 300


def measure_statistics(setting: BenchSetting) -> list[BenchFigure]:
    """Documents a second of the quality scorer, beside datatrove's filters."""
    texts = read_prose(setting)
    if texts is None:
        return [BenchFigure.unavailable(NAME, UNIT, "the reference data is absent")]
    table = pa.table({"id": [str(n) for n in range(len(texts))], "text": texts})
    rate = len(texts) / median_seconds(
        lambda: score_quality_shard(table, short_line=30), setting.repeats
    )
    sample = setting.scratch / "documents.json"
    sample.write_text(json.dumps(texts[:_PEER_DOCUMENTS]))
    peer = setting.run_peer("datatrove_quality", "datatrove", str(sample))
    return [
        BenchFigure.against_target(NAME, rate, UNIT, TARGET, better="higher"),
        BenchFigure.beside_peer(NAME, rate, UNIT, PEER, peer, must_win=True, better="higher"),
    ]
