"""Scores each document with a judge that learnt from the user's examples."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pydantic import Field

from components.clean.quality_classifier.train_judge import MODEL, RECORD, Judge
from components.core.config.stage_config import StageConfig
from components.core.io.atomic_write import write_atomically
from components.core.store.artifact import Classifier, Corpus, Scores
from components.core.store.shards import map_shards, read_all
from components.core.store.workdir import Workdir

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("probability", pa.float64()),  # of the positive label; null without a model
    ]
)


class JudgedConfig(StageConfig):
    """How finely probabilities are written down."""

    places: int = Field(default=4, ge=1, le=9, description="decimal places of a probability")


def score_judged(config: JudgedConfig, corpus: Corpus, judge: Classifier, work: Workdir) -> Scores:
    """Probability of the judge's positive label for every document."""
    model = work.path(judge) / MODEL
    given = model if model.is_file() else None
    map_shards(work, work.path(corpus), judged_of_shard, model=given, places=config.places)
    # Two judges without examples say the same; their records tell their scores apart.
    write_atomically(work.folder / RECORD, (work.path(judge) / RECORD).read_bytes())
    found = read_all(work.folder, ["probability"])["probability"].drop_null().to_pylist()
    mean = {"mean_probability": round(sum(found) / len(found), 4)} if found else {}
    return work.seal(Scores, stats={**mean, "judged": float(len(found))})


def judged_of_shard(table: pa.Table, model: Path | None, places: int) -> pa.Table:
    """Scores of one shard (in a worker)."""
    found: list[float] | list[None] = [None] * len(table)
    if model is not None:
        texts = table["text"].to_pylist()
        found = Judge.load(model).probabilities(texts).round(places).tolist()
    return pa.table({"id": table["id"], "probability": found}, schema=SCHEMA)
