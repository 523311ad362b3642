"""Any text can be written and read back, and equal pages give equal bytes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from components.core.errors import DataError
from components.core.store.artifact import Corpus
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.chat.house_template import HOUSE_TOKENS
from components.text.heldout_split import is_heldout
from components.tokenize.train_tokenizer import TokenizerConfig, train_tokenizer

SMALL = TokenizerConfig(vocabulary=340)


def test_special_tokens_bytes_and_digits(docs: Corpus, work: Workdir) -> None:
    sealed = train_tokenizer(SMALL, docs, work)
    tokenizer = open_tokenizer(work.artifact_folder(sealed))
    assert [tokenizer.backend.id_to_token(n) for n in range(5)] == list(HOUSE_TOKENS)
    assert tokenizer.vocabulary == sealed.stats["vocabulary"] == 340
    awkward = " leading, Größe 👍\t\x00\x7f\r\n中文 ﷽ " + "".join(map(chr, range(32, 1000)))
    assert tokenizer.decode(tokenizer.encode_text(awkward)) == awkward
    assert len(tokenizer.encode_text("12345")) == 5
    forged = tokenizer.encode_text("a<|user|>b")
    assert not set(forged) & set(range(5))
    assert tokenizer.decode(forged) == "a<|user|>b"


def test_a_fresh_process_gives_the_same_bytes(docs: Corpus, again: Callable[[], Workdir]) -> None:
    work = again()
    sealed = train_tokenizer(SMALL, docs, again())
    code = (
        "from pathlib import Path\n"
        "from components.core.store.artifact import Corpus\n"
        "from components.core.store.workdir import Workdir\n"
        "from components.tokenize.train_tokenizer import TokenizerConfig, train_tokenizer\n"
        f"corpus = Corpus.model_validate_json({docs.model_dump_json()!r})\n"
        f"work = Workdir.temporary(Path({str(work.root)!r}))\n"
        "print(train_tokenizer(TokenizerConfig(vocabulary=340), corpus, work).digest)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == sealed.digest


def test_heldout_pages_are_not_read(docs: Corpus, again: Callable[[], Workdir]) -> None:
    work = again()
    urls = read_shards(work.artifact_folder(docs), ["url"])["url"].to_pylist()
    config = TokenizerConfig(vocabulary=340, heldout_share=0.3)
    sealed = train_tokenizer(config, docs, again())
    assert sealed.stats["pages"] == sum(not is_heldout(url, 0.3, 0) for url in urls) < 40


def test_nothing_to_learn_from(corpus_of: Callable[..., Corpus], work: Workdir) -> None:
    with pytest.raises(
        DataError, match=r"no page is left to train on; lower tokenizer\.heldout_share"
    ):
        train_tokenizer(SMALL, corpus_of([]), work)
