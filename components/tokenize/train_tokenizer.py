"""Stage ``tokenizer``: training of a byte-level BPE tokenizer on a corpus's training pages.

Byte-level BPE: Sennrich et al. 2016 (arXiv:1508.07909) on GPT-2's byte alphabet and word pattern.
Every byte is in the alphabet, so any text can be written and none becomes "unknown".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.store.artifact import Corpus, Tokenizer
from components.core.store.shards import read_shard, read_shards, shard_paths
from components.core.store.workdir import Workdir
from components.text.chat.house_template import HOUSE_TOKENS
from components.text.chat.tokenizer_files import TOKENIZER_FILE, write_chat_files
from components.text.heldout_split import heldout_pages

if TYPE_CHECKING:
    from tokenizers import Tokenizer as BpeTokenizer
    from tokenizers.trainers import BpeTrainer

BYTE_ALPHABET = 256


class TokenizerConfig(StageConfig):
    """Size of the vocabulary, rules of merging, and the pages to leave out."""

    vocabulary: int = Field(
        default=4096,
        ge=BYTE_ALPHABET + len(HOUSE_TOKENS) + 1,
        le=1 << 20,
        description="size of the vocabulary, special tokens counted",
    )
    min_frequency: int = Field(
        default=2, ge=1, le=1_000_000, description="fewest occurrences of a pair that is merged"
    )
    max_token_length: int = Field(
        default=24, ge=2, le=256, description="longest token, in bytes; keeps rulers out"
    )
    split_digits: bool = Field(default=True, description="every digit is a token of its own")
    heldout_share: float = Field(
        default=0.08,
        ge=0,
        le=0.5,
        description="share of pages not read; keep it equal to that of tokens",
    )
    seed: int = Field(default=0, ge=0, description="seed of the choice of held-out pages")


def train_tokenizer(config: TokenizerConfig, corpus: Corpus, work: Workdir) -> Tokenizer:
    """Learn a vocabulary from the training pages: ``tokenizer.json`` of Hugging Face tokenizers.

    Chat template and special tokens are those of ``components.text.chat.house_template``. A small
    corpus may give fewer tokens than asked for.

    Args:
        config: size and rules of the vocabulary, and the pages to leave out.
        corpus: pages to learn from, but for the held-out ones.
        work: folder of the artifact.

    Raises:
        DataError: no page is left to learn from.
    """
    folder = work.artifact_folder(corpus)
    urls = read_shards(folder, ["url"])["url"].to_pylist()
    heldout = heldout_pages(urls, config.heldout_share, config.seed)
    if len(heldout) >= len(set(urls)):
        raise DataError(
            "tokenizer: no page is left to train on; lower tokenizer.heldout_share, or give more "
            "pages under scrape"
        )
    tokenizer = untrained_tokenizer(config)
    work.progress.start_count(len(urls), "pages")
    tokenizer.train_from_iterator(_training_texts(folder, heldout, work), _trainer(config))
    write_atomically(work.folder / TOKENIZER_FILE, tokenizer.to_str(pretty=True).encode())
    write_chat_files(work.folder)
    return work.seal(
        Tokenizer,
        stats={
            "vocabulary": float(tokenizer.get_vocab_size()),
            "pages": float(len(urls) - sum(url in heldout for url in urls)),
        },
    )


def untrained_tokenizer(config: TokenizerConfig) -> BpeTokenizer:
    """Create an empty byte-level BPE tokenizer with its splitting and decoding rules."""
    from tokenizers import Tokenizer as BpeTokenizer
    from tokenizers.decoders import ByteLevel as ByteDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer = BpeTokenizer(BPE())
    words = ByteLevel(add_prefix_space=False, use_regex=True)
    split = [Digits(individual_digits=True), words] if config.split_digits else [words]
    tokenizer.pre_tokenizer = Sequence(split)
    tokenizer.decoder = ByteDecoder()
    return tokenizer


def _trainer(config: TokenizerConfig) -> BpeTrainer:
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    return BpeTrainer(
        vocab_size=config.vocabulary,
        min_frequency=config.min_frequency,
        max_token_length=config.max_token_length,
        special_tokens=list(HOUSE_TOKENS),
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )


def _training_texts(folder: Path, heldout: frozenset[str], work: Workdir) -> Iterator[str]:
    for path in shard_paths(folder):
        table = read_shard(path, ["url", "text"])
        for url, text in zip(table["url"].to_pylist(), table["text"].to_pylist(), strict=True):
            if url not in heldout:
                yield text
        work.progress.advance(len(table))
