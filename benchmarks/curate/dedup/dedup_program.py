"""Program for one corpus size of ``million_documents``: ``make`` the corpus, then ``score`` it.

python dedup_program.py make|score FOLDER DOCUMENTS
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from benchmarks.curate.sample_documents import random_documents, write_corpus_shard
from components.clean.duplicates.score import DuplicatesConfig, score_duplicates
from components.core.store.artifact import Corpus
from components.core.store.workdir import Workdir

_SHARD_DOCUMENTS = 50_000


def make_corpus(folder: Path, count: int) -> None:
    """Write shards of random documents, and the reference to them as ``corpus.json``."""
    work = Workdir.temporary(folder)
    for shard, first in enumerate(range(0, count, _SHARD_DOCUMENTS)):
        size = min(_SHARD_DOCUMENTS, count - first)
        write_corpus_shard(
            work.folder, random_documents(size, seed=shard, duplicate_share=0.1), first, shard
        )
    (folder / "corpus.json").write_text(work.seal(Corpus).model_dump_json())


def score_corpus(folder: Path) -> dict[str, float]:
    """Seconds of the duplicates stage and peak memory of this process in bytes."""
    corpus = Corpus.model_validate_json((folder / "corpus.json").read_text())
    warm = Workdir.temporary(folder)
    write_corpus_shard(warm.folder, random_documents(10, seed=0, duplicate_share=0.5), 0, 0)
    config = DuplicatesConfig()
    score_duplicates(config, warm.seal(Corpus), Workdir.temporary(folder))  # compiles the kernels
    start = time.perf_counter()
    score_duplicates(config, corpus, Workdir.temporary(folder))
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "bytes": 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


if __name__ == "__main__":
    place, documents = Path(sys.argv[2]), int(sys.argv[3])
    place.mkdir(parents=True, exist_ok=True)
    if sys.argv[1] == "make":
        make_corpus(place, documents)
    else:
        print(json.dumps(score_corpus(place)))
