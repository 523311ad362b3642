"""Sample documents: real prose in pieces, and random words with planted near duplicates."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_setting import BenchSetting
from components.core.store.shards import shard_name, write_shard

DOCUMENT_BYTES = 2300
"""Size of one piece of prose: the published figures of the peers were measured at this size."""
DOCUMENT_WORDS = 337
"""Length of one random document: 333 shingles of five words."""
_VOCABULARY = 20_000


def read_prose(setting: BenchSetting) -> list[str] | None:
    """Speeches and web pages of the reference data in pieces; None where it is absent."""
    speeches, pages = (
        setting.find_reference("prose"),
        setting.find_reference("quality/majority_data.jsonl"),
    )
    if speeches is None or pages is None:
        return None
    texts = [json.loads(line)["text"] for line in pages.read_text().splitlines()]
    for path in sorted(speeches.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".txt"))
            texts += [archive.read(name).decode("utf-8", "ignore") for name in names]
    whole = "\n\n".join(texts).encode()
    cuts = range(0, len(whole) - DOCUMENT_BYTES, DOCUMENT_BYTES)
    return [whole[at : at + DOCUMENT_BYTES].decode("utf-8", "ignore") for at in cuts]


def random_documents(count: int, seed: int, duplicate_share: float) -> list[str]:
    """Documents of random words, some of them edited copies of an earlier one.

    Args:
        count: number of documents.
        seed: seed of the words and edits.
        duplicate_share: share of documents that copy one of the last 1,000, up to 20 words changed.
    """
    draw = np.random.default_rng(seed)
    letters = draw.integers(97, 123, (_VOCABULARY, 8), dtype=np.uint8)
    sizes = draw.integers(3, 9, _VOCABULARY)
    words = np.array([bytes(row[:size]).decode() for row, size in zip(letters, sizes, strict=True)])
    recent: list[NDArray[np.int64]] = []
    texts: list[str] = []
    for number in range(count):
        if recent and draw.random() < duplicate_share:
            word_numbers = recent[int(draw.integers(max(0, number - 1000), number)) - number].copy()
            at = draw.choice(DOCUMENT_WORDS, int(draw.integers(0, 21)), replace=False)
            word_numbers[at] = draw.integers(0, _VOCABULARY, len(at))
        else:
            word_numbers = draw.integers(0, _VOCABULARY, DOCUMENT_WORDS)
        recent = [*recent[-999:], word_numbers] if len(recent) >= 1000 else [*recent, word_numbers]
        texts.append(" ".join(words[word_numbers].tolist()))
    return texts


def write_corpus_shard(folder: Path, texts: list[str], first: int, shard: int) -> None:
    """Write one shard of a corpus with the columns that the duplicates scorer reads.

    Args:
        folder: folder of the corpus.
        texts: one a document.
        first: number of the first document, which its id is made of.
        shard: number of the shard.
    """
    import pyarrow as pa

    folder.mkdir(parents=True, exist_ok=True)
    ids = [f"{first + number:064x}" for number in range(len(texts))]
    columns = {"id": ids, "ordinal": pa.array([0] * len(texts), type=pa.int64()), "text": texts}
    write_shard(folder / shard_name(shard), pa.table(columns))
