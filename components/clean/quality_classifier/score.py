"""Classifier scorer: probability of the label that the user's examples taught."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pydantic import Field

from components.clean.quality_classifier.train_quality_classifier import (
    MODEL,
    RECORD,
    QualityClassifier,
)
from components.core.config.stage_config import StageConfig
from components.core.io.atomic_write import write_atomically
from components.core.store.artifact import Classifier, Corpus, Scores
from components.core.store.shards import map_shards, read_shards
from components.core.store.workdir import Workdir

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("probability", pa.float64()),  # of the positive label; null without a model
    ]
)


class QualityClassifierScoreConfig(StageConfig):
    """Precision of the probabilities that are written down."""

    places: int = Field(default=4, ge=1, le=9, description="decimal places of a probability")


def score_with_quality_classifier(
    config: QualityClassifierScoreConfig, corpus: Corpus, judge: Classifier, work: Workdir
) -> Scores:
    """Probability of the classifier's positive label for every document.

    Args:
        config: Decimal places of the probabilities.
        corpus: The extracted documents.
        judge: The classifier of ``train_quality_classifier``; without a model scores are null.
        work: Folder of the scores.
    """
    model = work.artifact_folder(judge) / MODEL
    trained = model if model.is_file() else None
    map_shards(
        work,
        work.artifact_folder(corpus),
        score_classifier_shard,
        model=trained,
        places=config.places,
    )
    # Two classifiers without examples give equal scores; their records tell the artifacts apart.
    write_atomically(work.folder / RECORD, (work.artifact_folder(judge) / RECORD).read_bytes())
    probabilities = read_shards(work.folder, ["probability"])["probability"].drop_null().to_pylist()
    mean = (
        {"mean_probability": round(sum(probabilities) / len(probabilities), 4)}
        if probabilities
        else {}
    )
    return work.seal(Scores, stats={**mean, "judged": float(len(probabilities))})


def score_classifier_shard(table: pa.Table, model: Path | None, places: int) -> pa.Table:
    """Scores of one shard (in a worker).

    Args:
        table: Documents of the shard.
        model: File of the classifier; None where nothing was learnt.
        places: Decimal places of a probability.
    """
    probabilities: list[float] | list[None] = [None] * len(table)
    if model is not None:
        texts = table["text"].to_pylist()
        probabilities = QualityClassifier.load(model).predict_texts(texts).round(places).tolist()
    return pa.table({"id": table["id"], "probability": probabilities}, schema=SCHEMA)
