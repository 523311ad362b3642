"""Duplicate scorer: exact groups and verified near duplicates over the whole corpus.

Exact: equal normalised text; a group is named by its first document in the order (ordinal, id).
Near: MinHash signatures of word 5-shingles (Broder 1997), candidates by banding (Leskovec et al.,
Mining of Massive Datasets, chapter 3), every candidate verified by exact Jaccard. 20 bands of 6
rows find 99.8 % of pairs at a similarity of 0.8 and 92 % at 0.7.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from components.clean.duplicates.candidate_pairs import (
    ShingleFile,
    find_candidate_pairs,
    unpack_pairs,
    verify_pairs,
)
from components.clean.duplicates.sketches import SKETCH, Partners, Sketches
from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Corpus, Scores
from components.core.store.shards import map_shards, shard_paths, write_shard
from components.core.store.workdir import Workdir
from components.text.dedup.shingles import SCHEME, band_keys, minhash_signatures
from components.text.word_splitting import normalise_text


class DuplicatesConfig(StageConfig):
    """Settings of the search, and the similarity from which two documents are partners."""

    min_similarity: float = Field(
        default=0.7, ge=0.5, le=1, description="Jaccard similarity from which a pair is recorded"
    )
    permutations: int = Field(default=128, ge=16, le=1024, description="length of a signature")
    bands: int = Field(default=20, ge=1, le=256, description="bands of a signature")
    rows: int = Field(default=6, ge=1, le=64, description="permutations in a band")
    max_bucket: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="first documents of a band that each other document of it is compared with",
    )
    seed: int = Field(default=1, ge=0, lt=1 << 32, description="seed of the permutations")

    @model_validator(mode="after")
    def _bands_fit(self) -> DuplicatesConfig:
        if self.bands * self.rows > self.permutations:
            raise ValueError(
                f"{self.bands} bands of {self.rows} rows need {self.bands * self.rows} "
                f"permutations, there are {self.permutations}"
            )
        return self


def score_duplicates(config: DuplicatesConfig, corpus: Corpus, work: Workdir) -> Scores:
    """The exact group of every document and the groups it nearly equals, with similarities.

    Documents of fewer than five words have no shingle and are compared as a whole only.

    Args:
        config: Size and seed of the signatures, and the least similarity.
        corpus: The extracted documents.
        work: Folder of the scores.
    """
    stats = measure_duplicates(config, work.artifact_folder(corpus), work.folder, work)
    return work.seal(Scores, stats=stats)


def measure_duplicates(
    config: DuplicatesConfig, source: Path, target: Path, work: Workdir
) -> dict[str, float]:
    """Write the scores of the documents in ``source``, shard by shard; their counts.

    Args:
        config: Size and seed of the signatures, and the least similarity.
        source: Shards with the columns id, ordinal and text.
        target: Folder of the scores.
        work: Folder for sketches and shingles, and workers.
    """
    folder = work.scratch / f"sketches-{SCHEME}"
    map_shards(
        work,
        source,
        sketch_shard,
        folder=folder,
        permutations=config.permutations,
        bands=config.bands,
        rows=config.rows,
        seed=config.seed,
    )
    sketches = Sketches(folder)
    partners, pairs = _find_partners(config, sketches, work, source)
    target.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(shard_paths(folder)):
        write_shard(target / path.name, sketches.score_table(number, partners))
    copies = len(sketches) - len(np.unique(sketches.group))
    return {
        "near_pairs": float(pairs),
        "exact_copies": float(copies),
        "documents": float(len(sketches)),
    }


def _find_partners(
    config: DuplicatesConfig, sketches: Sketches, work: Workdir, source: Path
) -> tuple[Partners, int]:
    """Verified pairs of group firsts, and how many there are."""
    documents, keys = sketches.band_keys()
    pairs = find_candidate_pairs(keys, config.max_bucket)
    del keys
    paired = np.unique(np.concatenate(unpack_pairs(pairs)))
    chosen = documents[paired]
    sets = ShingleFile(
        work.scratch / "shingles",
        source,
        sketches.shard[chosen],
        sketches.row[chosen],
    )
    left, right = (np.searchsorted(paired, side).astype(np.uint64) for side in unpack_pairs(pairs))
    verified_parts = list(verify_pairs(left << np.uint64(32) | right, sets, config.min_similarity))
    left_of, right_of = unpack_pairs(np.concatenate([part for part, _ in verified_parts]))
    similarity = np.concatenate([similar for _, similar in verified_parts])
    partners = Partners(chosen[left_of], chosen[right_of], similarity, len(sketches))
    return partners, len(similarity)


def sketch_shard(table: pa.Table, permutations: int, bands: int, rows: int, seed: int) -> pa.Table:
    """Digest and band keys of each document of a shard (in a worker).

    Args:
        table: Documents of the shard.
        permutations: Length of a MinHash signature.
        bands: Bands of a signature.
        rows: Permutations in a band.
        seed: Of the permutations.
    """
    signed, shingles = minhash_signatures(table["text"], permutations, seed)
    keys = band_keys(signed, bands, rows)
    offsets = np.arange(len(table) + 1, dtype=np.int32) * bands
    return pa.table(
        {
            "id": table["id"],
            "ordinal": table["ordinal"],
            "exact": pa.array(
                map(digest_normalised_text, table["text"].to_pylist()), type=pa.binary(16)
            ),
            "shingles": shingles,
            "bands": pa.ListArray.from_arrays(pa.array(offsets), pa.array(keys.ravel())),
        },
        schema=SKETCH,
    )


def digest_normalised_text(text: str) -> bytes:
    """16 bytes that documents of equal normalised text share."""
    return hashlib.sha256(normalise_text(text).encode(errors="surrogatepass")).digest()[:16]
