"""Boilerplate scorer: share of each document that the trained line classifier calls boilerplate."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pydantic import Field

from components.clean.boilerplate.page_lines import BOILERPLATE, content_lines, line_features
from components.clean.boilerplate.train_classifier import MODEL
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.core.store.artifact import Classifier, Corpus, Scores
from components.core.store.shards import map_shards, read_shards
from components.core.store.workdir import Workdir

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("mean_probability", pa.float64(), nullable=False),  # over lines
        pa.field("line_share", pa.float64(), nullable=False),  # lines at or above ``certain``
        pa.field("character_share", pa.float64(), nullable=False),
        pa.field("lines", pa.int64(), nullable=False),
    ]
)


class BoilerplateConfig(StageConfig):
    """Threshold of the line classifier."""

    certain: float = Field(
        default=0.5, gt=0, le=1, description="probability from which a line counts as boilerplate"
    )


def score_boilerplate(
    config: BoilerplateConfig, corpus: Corpus, classifier: Classifier, work: Workdir
) -> Scores:
    """Mean probability of being boilerplate, and the share of lines and characters that are.

    Args:
        config: Probability from which a line counts as boilerplate.
        corpus: The extracted documents.
        classifier: The line classifier of ``train_classifier``.
        work: Folder of the scores.

    Raises:
        DataError: the classifier holds no model.
    """
    model = work.artifact_folder(classifier) / MODEL
    if not model.is_file():
        raise DataError(f"classifier: {work.artifact_folder(classifier).name} holds no {MODEL}")
    map_shards(
        work,
        work.artifact_folder(corpus),
        score_boilerplate_shard,
        model=model,
        certain=config.certain,
    )
    shares = read_shards(work.folder, ["line_share"])["line_share"].to_pylist()
    return work.seal(
        Scores,
        stats={
            "mean_line_share": round(sum(shares) / max(1, len(shares)), 4),
            "documents": float(len(shares)),
        },
    )


def score_boilerplate_shard(table: pa.Table, model: Path, certain: float) -> pa.Table:
    """Scores of one shard (in a worker).

    Args:
        table: Documents of the shard.
        model: File of the fastText model.
        certain: Probability from which a line counts as boilerplate.
    """
    pages = [content_lines(text) for text in table["text"].to_pylist()]
    probability_of = predict_boilerplate(model, sorted({line for lines in pages for line in lines}))
    rows = []
    for identifier, lines in zip(table["id"].to_pylist(), pages, strict=True):
        line_probabilities = [probability_of[line] for line in lines]
        marked = [
            line
            for line, probability in zip(lines, line_probabilities, strict=True)
            if probability >= certain
        ]
        rows.append(
            {
                "id": identifier,
                "mean_probability": _share(sum(line_probabilities), len(lines)),
                "line_share": _share(len(marked), len(lines)),
                "character_share": _share(sum(map(len, marked)), sum(map(len, lines))),
                "lines": len(lines),
            }
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def predict_boilerplate(model: Path, lines: list[str]) -> dict[str, float]:
    """Probability that each line is boilerplate, to five places."""
    import fasttext

    loaded = fasttext.load_model(str(model))
    features = [line_features(line) for line in lines]
    distinct = sorted(set(features))
    labels, scores = loaded.predict(distinct, k=2) if distinct else ([], [])
    label = f"__label__{BOILERPLATE}"
    of_feature = {
        text: round(min(1.0, float(dict(zip(names, values, strict=True)).get(label, 0.0))), 5)
        for text, names, values in zip(distinct, labels, scores, strict=True)
    }
    return {
        line: of_feature[feature_text] for line, feature_text in zip(lines, features, strict=True)
    }


def _share(part: float, whole: float) -> float:
    return round(part / whole, 5) if whole else 0.0
