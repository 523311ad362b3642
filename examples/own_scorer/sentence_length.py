"""A scorer and a rule of one's own: pages whose sentences are long in the mean are dropped.

python sentence_length.py
"""

from __future__ import annotations

import re
from pathlib import Path
from statistics import mean

import pyarrow as pa
from pydantic import Field

import modelmill
from modelmill import (
    BoundsRule,
    Corpus,
    Scores,
    SelectConfig,
    StageConfig,
    Workdir,
    map_shards,
    read_shards,
    select,
)

PAGES = Path(__file__).parents[1] / "own_pages" / "library.yaml"
SENTENCE_END = re.compile(r"[.!?]+(?:\s|$)")


class SentenceLengthConfig(StageConfig):
    """Precision of the means."""

    places: int = Field(default=4, ge=1, le=9, description="decimal places of a mean")


class SentenceLengthRule(BoundsRule):
    """Longest sentences a document may have, in the mean."""

    roles = ("sentence_length",)
    max_mean_words: float = Field(default=16, gt=0, description="words of a sentence, mean")


class OwnSelection(SelectConfig):
    """The one rule of this selection."""

    sentence_length: SentenceLengthRule = Field(
        default=SentenceLengthRule(), description="length of sentences"
    )


def score_shard(table: pa.Table, places: int) -> pa.Table:
    """Mean words of a sentence, a row for every document."""
    texts = table["text"].to_pylist()
    sentences = [[part for part in SENTENCE_END.split(text) if part.strip()] for text in texts]
    means = [mean(len(part.split()) for part in parts) if parts else 0 for parts in sentences]
    rounded = pa.array([round(float(value), places) for value in means], pa.float64())
    return pa.table({"id": table["id"], "mean_words": rounded})


def score_sentence_length(config: SentenceLengthConfig, corpus: Corpus, work: Workdir) -> Scores:
    """Mean number of words between ends of sentences, for every document."""
    map_shards(work, work.artifact_folder(corpus), score_shard, places=config.places)
    means = read_shards(work.folder, ["mean_words"])["mean_words"].to_pylist()
    return work.seal(Scores, stats={"mean_words": round(mean(means), 4)})


def main() -> None:
    """Curate the pages, score the kept ones, select among them, and print the ledger."""
    run = modelmill.run(PAGES, until="select")
    scores = modelmill.stage(score_sentence_length, corpus=run["select"])
    kept = modelmill.stage(
        select, OwnSelection(), corpus=run["select"], scores={"sentence_length": scores}
    )
    print(f"kept {kept.stats['kept']:.0f} of {run['select'].stats['kept']:.0f} pages")
    for row in read_shards(kept.folder / "ledger").to_pylist():
        page = row["url"].rpartition("/")[2]
        score = row["rules"][-1]["score"]
        print(f"{page:14} {'kept   ' if row['kept'] else 'dropped'} {score:.2f} words a sentence")


if __name__ == "__main__":
    main()
