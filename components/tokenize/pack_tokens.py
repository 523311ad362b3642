"""Stage ``tokens``: the corpus as token arrays with document boundaries, split by page.

The format is that of ``components/text/token_arrays.py``; a document is its text and the
end-of-text token. Documents stand in the order of the corpus: shard by shard, sorted by id.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.core.io.atomic_write import atomic_path, write_atomically
from components.core.store.artifact import Corpus, Tokenizer, Tokens, canonical_json
from components.core.store.shards import (
    map_shards,
    read_shard,
    read_shards,
    shard_paths,
    write_shard,
)
from components.core.store.workdir import Workdir
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.chat.tokenizer_files import tokenizer_digest
from components.text.heldout_split import heldout_pages
from components.text.token_arrays import SPLITS, Split

ENCODED_SCHEMA = pa.schema(
    [
        pa.field("heldout", pa.bool_()),
        pa.field("bytes", pa.int64()),
        pa.field("tokens", pa.large_list(pa.uint32())),
    ]
)


class TokensConfig(StageConfig):
    """Split of the pages, and the least text that a model is trained on."""

    heldout_share: float = Field(
        default=0.08, gt=0, le=0.5, description="share of pages that no model is trained on"
    )
    seed: int = Field(default=0, ge=0, description="seed of the choice of held-out pages")
    min_train_tokens: int = Field(
        default=10_000, ge=1, description="fewest training tokens worth training a model on"
    )


def pack_tokens(
    config: TokensConfig, corpus: Corpus, tokenizer: Tokenizer, work: Workdir
) -> Tokens:
    """Encode every page and write the two splits.

    Args:
        config: share and seed of the held-out pages, and the least training text.
        corpus: pages to encode.
        tokenizer: encodes them.
        work: folder of the artifact.

    Raises:
        DataError: a split is empty, or there is too little text to train on.
    """
    folder, encoded = work.artifact_folder(corpus), work.scratch / "encoded"
    words = open_tokenizer(work.artifact_folder(tokenizer))
    urls = read_shards(folder, ["url"])["url"].to_pylist()
    heldout = heldout_pages(urls, config.heldout_share, config.seed)
    if not heldout or len(heldout) == len(set(urls)):
        raise DataError(
            f"tokens: tokens.heldout_share {config.heldout_share:g} of {len(set(urls))} page(s) "
            "leaves nothing to train on or nothing held out: set it between 0 and 1 and give at "
            "least two pages under scrape"
        )
    map_shards(
        work,
        folder,
        encode_shard,
        folder=encoded,
        tokenizer=work.artifact_folder(tokenizer),
        heldout=sorted(heldout),
    )
    sizes = {split: _join_shards(work.folder, encoded, split, words.vocabulary) for split in SPLITS}
    if sizes["train"][0] < config.min_train_tokens:
        raise DataError(
            f"tokens: {sizes['train'][0]} tokens to train on, {config.min_train_tokens} are needed "
            "(tokens.min_train_tokens): give more pages under scrape, or lower it"
        )
    _write_heldout_pages(work.folder, folder, heldout)
    meta = {
        "vocabulary": words.vocabulary,
        "eos": words.separator_id,
        "tokenizer": tokenizer_digest(work.artifact_folder(tokenizer)),
        **{f"{split}_bytes": bytes_ for split, (_, bytes_, _) in sizes.items()},
    }
    write_atomically(work.folder / "meta.json", canonical_json(meta))
    return work.seal(Tokens, stats=_stats(sizes, words.vocabulary))


def encode_shard(table: pa.Table, tokenizer: Path, heldout: list[str]) -> pa.Table:
    """Encode one shard's documents, each closed by the end-of-text token (in a worker).

    Args:
        table: shard of a corpus.
        tokenizer: folder of the tokenizer.
        heldout: addresses of the held-out pages.
    """
    words = open_tokenizer(tokenizer)
    texts, outside = table["text"].to_pylist(), frozenset(heldout)
    arrays = [
        np.asarray([*document, words.separator_id], dtype=np.uint32)
        for document in words.encode_texts(texts)
    ]
    starts = np.cumsum([0, *(len(array) for array in arrays)], dtype=np.int64)
    flat = np.concatenate(arrays) if arrays else np.empty(0, dtype=np.uint32)
    return pa.table(
        {
            "heldout": [url in outside for url in table["url"].to_pylist()],
            "bytes": [len(text.encode()) for text in texts],
            "tokens": pa.LargeListArray.from_arrays(starts, flat),
        },
        schema=ENCODED_SCHEMA,
    )


def _join_shards(
    folder: Path, encoded: Path, split: Split, vocabulary: int
) -> tuple[int, int, int]:
    """Write one split's two arrays, a shard at a time -> (tokens, bytes, documents)."""
    lengths: list[NDArray[np.int64]] = []
    text_bytes = 0
    for path in shard_paths(encoded):
        table = _read_shard_of_split(path, split)
        lengths.append(np.diff(_token_lists(table).offsets.to_numpy()))
        text_bytes += sum(table["bytes"].to_pylist())
    starts = np.concatenate(([0], np.cumsum(np.concatenate(lengths)))).astype(np.int64)
    dtype = np.uint16 if vocabulary <= 1 << 16 else np.uint32
    with atomic_path(folder / f"{split}.npy") as temporary:
        flat = np.lib.format.open_memmap(temporary, "w+", dtype=dtype, shape=(int(starts[-1]),))
        at = 0
        for path in shard_paths(encoded):
            values = _token_lists(_read_shard_of_split(path, split)).flatten().to_numpy()
            flat[at : at + len(values)] = values
            at += len(values)
        flat.flush()
    np.save(folder / f"{split}.docs.npy", starts, allow_pickle=False)
    return int(starts[-1]), text_bytes, len(starts) - 1


def _read_shard_of_split(path: Path, split: Split) -> pa.Table:
    table = read_shard(path)
    return table.filter(pc.equal(table["heldout"], split == "heldout"))


def _token_lists(table: pa.Table) -> pa.LargeListArray:
    joined = table["tokens"].combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined


def _write_heldout_pages(folder: Path, corpus: Path, heldout: frozenset[str]) -> None:
    outside = pa.array(sorted(heldout))
    tables = []
    for path in shard_paths(corpus):
        table = read_shard(path, ["id", "url", "text"])
        tables.append(table.filter(pc.is_in(table["url"], value_set=outside)))
    write_shard(folder / "heldout.parquet", pa.concat_tables(tables))


def _stats(sizes: dict[Split, tuple[int, int, int]], vocabulary: int) -> dict[str, float]:
    stats: dict[str, float] = {}
    for split, (tokens, text_bytes, documents) in sizes.items():
        stats[f"{split}_tokens"] = float(tokens)
        stats[f"{split}_bytes"] = float(text_bytes)
        stats[f"{split}_pages"] = float(documents)
    stats["bytes_per_token"] = round(stats["train_bytes"] / max(1, sizes["train"][0]), 4)
    return {**stats, "vocabulary": float(vocabulary)}
