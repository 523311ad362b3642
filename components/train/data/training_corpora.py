"""Corpora of a pretraining: opened, checked, and put into one order of batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import ConfigError, DataError
from components.text.token_arrays import TokenSplit, open_split
from components.train.data.best_fit_packing import BestFitPacking
from components.train.data.corpus_mixture import CorpusMixture
from components.train.data.data_order import BatchOrder, BlockSource, TokenStream
from components.train.pretrain_config import PretrainConfig


@dataclass(frozen=True)
class TrainingCorpora:
    """Batches of one or several corpora of one vocabulary."""

    order: BatchOrder
    vocabulary: int
    eos: int
    bits_per_loss: float
    """Bits per byte at a loss of one nat, at the mixture's weights."""


def open_corpora(
    folders: Mapping[str, Path], digests: Mapping[str, str], config: PretrainConfig
) -> TrainingCorpora:
    """Open the training split of each corpus and order their batches.

    Args:
        folders: corpus -> its folder; the one called ``tokens`` is always there.
        digests: corpus -> digest of its artifact, on which the order depends.
        config: packing, mixture, batch, sequence length and seed.

    Raises:
        ConfigError: the mixture names other corpora, or they end texts with several tokens.
        DataError: one cannot be read, or there are fewer tokens than a batch has.
    """
    splits = {name: open_split(folder, "train") for name, folder in folders.items()}
    _check_corpora(splits, config)
    kind = TokenStream if config.packing == "stream" else BestFitPacking
    sources: dict[str, BlockSource] = {
        name: kind(
            split, sequence_length=config.sequence_length, seed=config.seed, digest=digests[name]
        )
        for name, split in splits.items()
    }
    first = splits["tokens"]
    source: BlockSource = sources["tokens"]
    tokens_a_byte = _tokens_per_byte(first)
    if len(splits) > 1 or config.mixture:
        mixture = CorpusMixture(sources, config.mixture)
        source = mixture
        bytes_a_token = sum(
            float(part) / _tokens_per_byte(splits[name])
            for name, part in zip(mixture.names, mixture.weights, strict=True)
        )
        tokens_a_byte = 1.0 / bytes_a_token
    order = BatchOrder(source, config.batch // config.sequence_length)
    return TrainingCorpora(order, first.vocabulary, first.eos, tokens_a_byte / math.log(2))


def _check_corpora(splits: Mapping[str, TokenSplit], config: PretrainConfig) -> None:
    first = splits["tokens"]
    for name, split in splits.items():
        if split.eos != first.eos:
            raise ConfigError(
                f"{name} ends a text with token {split.eos}, tokens with {first.eos}: make all of "
                "them with one tokenizer"
            )
    tokens = sum(len(split.tokens) for split in splits.values())
    if tokens < config.batch:
        raise DataError(
            f"the corpus holds {tokens:,} tokens, less than one batch of {config.batch:,}: give "
            "more pages under scrape, or lower pretrain.batch and pretrain.sequence_length"
        )


def _tokens_per_byte(split: TokenSplit) -> float:
    return len(split.tokens) / max(1, split.text_bytes)
