"""The corpora of a training, opened and checked, and the order of their batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from components.core.errors import ConfigError, DataError
from components.text.token_arrays import TokenSplit, open_split
from components.train.data.best_fit_packing import BestFit
from components.train.data.corpus_mixture import Mixture
from components.train.data.data_order import Order, Rows, Stream

Packing = Literal["stream", "best-fit"]


class Ordering(Protocol):
    """What of a config decides the order."""

    @property
    def positions(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def packing(self) -> Packing: ...
    @property
    def mixture(self) -> dict[str, float]: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class Corpora:
    """Batches of one or several corpora of one vocabulary."""

    order: Order
    vocabulary: int
    eos: int
    bits_per_loss: float
    """Bits per byte of a loss of one nat, at the mixture's weights."""


def open_corpora(
    folders: Mapping[str, Path], digests: Mapping[str, str], config: Ordering
) -> Corpora:
    """Open the training split of each, in the order that ``config`` asks for.

    Raises:
        ConfigError: the mixture names other corpora, or they end texts with several tokens.
        DataError: one cannot be read, or there are fewer tokens than a batch has.
    """
    splits = {name: open_split(folder, "train") for name, folder in folders.items()}
    _check(splits, config)
    kind = Stream if config.packing == "stream" else BestFit
    made: dict[str, Rows] = {
        name: kind(split, positions=config.positions, seed=config.seed, digest=digests[name])
        for name, split in splits.items()
    }
    first = splits["tokens"]
    rows: Rows = made["tokens"]
    tokens_a_byte = _tokens_a_byte(first)
    if len(splits) > 1 or config.mixture:
        mixture = Mixture(made, config.mixture)
        rows = mixture
        bytes_a_token = sum(
            float(part) / _tokens_a_byte(splits[name])
            for name, part in zip(mixture.names, mixture.shares, strict=True)
        )
        tokens_a_byte = 1.0 / bytes_a_token
    order = Order(rows, config.batch // config.positions)
    return Corpora(order, first.vocabulary, first.eos, tokens_a_byte / math.log(2))


def _check(splits: Mapping[str, TokenSplit], config: Ordering) -> None:
    first = splits["tokens"]
    for name, split in splits.items():
        if split.eos != first.eos:
            raise ConfigError(
                f"{name} ends a text with token {split.eos}, tokens with {first.eos}: make all of "
                "them with one tokenizer"
            )
    held = sum(len(split.tokens) for split in splits.values())
    if held < config.batch:
        raise DataError(
            f"the corpus holds {held:,} tokens, less than one batch of {config.batch:,}: give "
            "more pages under scrape, or lower pretrain.batch and pretrain.positions"
        )


def _tokens_a_byte(split: TokenSplit) -> float:
    return len(split.tokens) / max(1, split.text_bytes)
