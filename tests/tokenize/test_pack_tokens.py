"""Pages come back from their tokens; no page is on both sides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from components.core.errors import DataError
from components.core.store.artifact import Corpus, Tokenizer, Tokens
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.heldout_split import heldout_pages
from components.text.token_arrays import open_split
from components.tokenize.pack_tokens import TokensConfig, pack_tokens
from components.tokenize.train_tokenizer import TokenizerConfig, train_tokenizer

QUICK = TokensConfig(min_train_tokens=100, heldout_share=0.2)


@pytest.fixture
def tokenizer(docs: Corpus, again: Callable[[], Workdir]) -> Tokenizer:
    return train_tokenizer(TokenizerConfig(vocabulary=400), docs, again())


def test_documents_come_back(docs: Corpus, tokenizer: Tokenizer, work: Workdir) -> None:
    sealed = pack_tokens(QUICK, docs, tokenizer, work)
    model = open_tokenizer(work.artifact_folder(tokenizer))
    pages = read_shards(work.artifact_folder(docs), ["id", "url", "text"])
    heldout = heldout_pages(pages["url"].to_pylist(), 0.2, 0)
    for split in ("train", "heldout"):
        opened = open_split(work.artifact_folder(sealed), split)
        expected = [
            row for row in pages.to_pylist() if (row["url"] in heldout) == (split == "heldout")
        ]
        assert len(opened.documents) == len(expected) + 1
        assert opened.text_bytes == sum(len(row["text"].encode()) for row in expected)
        for index, row in enumerate(expected):
            ids = opened.document(index)
            assert ids[-1] == model.separator_id == 0
            assert model.decode(ids[:-1].tolist()) == row["text"]
    kept = read_all_heldout(work, sealed)
    assert kept == [r for r in pages.to_pylist() if r["url"] in heldout]
    assert opened.tokens.dtype == np.uint16


def read_all_heldout(work: Workdir, sealed: Tokens) -> list[dict[str, str]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, str]] = pq.read_table(
        work.artifact_folder(sealed) / "heldout.parquet"
    ).to_pylist()
    return rows


def test_spelled_out_specials_stay_text(
    corpus_of: Callable[..., Corpus], tokenizer: Tokenizer, work: Workdir
) -> None:
    pages = [f"Write <|endoftext|> or <|user|> in page {n}. " * 9 for n in range(6)]
    sealed = pack_tokens(QUICK, corpus_of(pages), tokenizer, work)
    opened = open_split(work.artifact_folder(sealed), "train")
    assert int((opened.tokens < 5).sum()) == len(opened.documents) - 1


def test_a_resumed_run_gives_the_same_bytes(
    docs: Corpus, tokenizer: Tokenizer, again: Callable[[], Workdir]
) -> None:
    whole = pack_tokens(QUICK, docs, tokenizer, again())
    broken = again()
    kept = broken.scratch / "encoded"
    with pytest.raises(DataError, match="min_train_tokens"):
        pack_tokens(
            TokensConfig(min_train_tokens=10**9, heldout_share=0.2), docs, tokenizer, broken
        )
    assert len(list(kept.glob("*.parquet"))) == 3
    (kept / "00001.parquet").unlink()
    assert pack_tokens(QUICK, docs, tokenizer, broken).digest == whole.digest


def test_too_little_text(
    corpus_of: Callable[..., Corpus], tokenizer: Tokenizer, again: Callable[[], Workdir]
) -> None:
    with pytest.raises(
        DataError, match=r"of 1 page\(s\) leaves nothing .* at least two pages under scrape"
    ):
        pack_tokens(QUICK, corpus_of(["one page"]), tokenizer, again())
    with pytest.raises(
        DataError, match=r"\d+ tokens to train on, \d+ are needed \(tokens.min_train_tokens\)"
    ):
        pack_tokens(TokensConfig(), corpus_of(["one page", "two pages"]), tokenizer, again())
