"""Scores how much of each document is boilerplate, with the trained line classifier."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pydantic import Field

from components.clean.boilerplate.page_lines import BOILERPLATE, feature, lines_of
from components.clean.boilerplate.train_classifier import MODEL
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.core.store.artifact import Classifier, Corpus, Scores
from components.core.store.shards import map_shards, read_all
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
    """From which probability a line counts as boilerplate."""

    certain: float = Field(
        default=0.5, gt=0, le=1, description="probability from which a line counts as boilerplate"
    )


def score_boilerplate(
    config: BoilerplateConfig, corpus: Corpus, classifier: Classifier, work: Workdir
) -> Scores:
    """Mean probability of being boilerplate, and the share of lines and characters that are.

    Raises:
        DataError: the classifier holds no model.
    """
    model = work.path(classifier) / MODEL
    if not model.is_file():
        raise DataError(f"classifier: {work.path(classifier).name} holds no {MODEL}")
    map_shards(work, work.path(corpus), boilerplate_of_shard, model=model, certain=config.certain)
    shares = read_all(work.folder, ["line_share"])["line_share"].to_pylist()
    return work.seal(
        Scores,
        stats={
            "mean_line_share": round(sum(shares) / max(1, len(shares)), 4),
            "documents": float(len(shares)),
        },
    )


def boilerplate_of_shard(table: pa.Table, model: Path, certain: float) -> pa.Table:
    """Scores of one shard (in a worker)."""
    pages = [lines_of(text) for text in table["text"].to_pylist()]
    known = probabilities(model, sorted({line for lines in pages for line in lines}))
    rows = []
    for identifier, lines in zip(table["id"].to_pylist(), pages, strict=True):
        of_lines = [known[line] for line in lines]
        marked = [line for line, found in zip(lines, of_lines, strict=True) if found >= certain]
        rows.append(
            {
                "id": identifier,
                "mean_probability": _share(sum(of_lines), len(lines)),
                "line_share": _share(len(marked), len(lines)),
                "character_share": _share(sum(map(len, marked)), sum(map(len, lines))),
                "lines": len(lines),
            }
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def probabilities(model: Path, lines: list[str]) -> dict[str, float]:
    """Probability that each line is boilerplate, to five places."""
    import fasttext

    loaded = fasttext.load_model(str(model))
    features = [feature(line) for line in lines]
    distinct = sorted(set(features))
    labels, scores = loaded.predict(distinct, k=2) if distinct else ([], [])
    wanted = f"__label__{BOILERPLATE}"
    found = {
        made: round(min(1.0, float(dict(zip(names, values, strict=True)).get(wanted, 0.0))), 5)
        for made, names, values in zip(distinct, labels, scores, strict=True)
    }
    return {line: found[made] for line, made in zip(lines, features, strict=True)}


def _share(part: float, whole: float) -> float:
    return round(part / whole, 5) if whole else 0.0
