"""Steps of a training on packed text whose model exists already: blocks as micro-batches."""

from __future__ import annotations

import math
from typing import Protocol

from torch import Tensor

from components.core.errors import ConfigError
from components.text.token_arrays import TokenSplit
from components.train.data.data_order import Order, Stream
from components.train.data.micro_batch import Micro, micro_batches
from models.decoder import Decoder
from models.shape import DecoderShape


class Cut(Protocol):
    """How a stage's config cuts its text."""

    @property
    def positions(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def micro_batch(self) -> int: ...
    @property
    def seed(self) -> int: ...


class Texts:
    """The micro-batches of every step: a pure function of its number, of seed and corpus."""

    def __init__(self, split: TokenSplit, digest: str, cut: Cut) -> None:
        stream = Stream(split, positions=cut.positions, seed=cut.seed, digest=digest)
        order = Order(stream, cut.batch // cut.positions)
        self._split, self._order, self._micro_batch = split, order, cut.micro_batch
        self.per_epoch = max(1, order.per_epoch // order.rows)

    def batch(self, step: int) -> list[Micro]:
        """At most ``micro_batch`` positions each, and a block at least."""
        return micro_batches(self._order.batch(step), self._micro_batch)

    @property
    def bits_per_loss(self) -> float:
        """Bits per byte of text for a cross entropy of one nat."""
        return len(self._split.tokens) / max(1, self._split.text_bytes) / math.log(2)


def check_context(shape: DecoderShape, positions: int, field: str, whose: str) -> None:
    """Refuse blocks longer than a model was made for.

    Raises:
        ConfigError: they are.
    """
    if positions > shape.context:
        raise ConfigError(
            f"{field} ({positions}) must be within the context of {whose} ({shape.context})"
        )


def text_loss(model: Decoder, micro: Micro, targets: float) -> Tensor:
    """The sum of a micro-batch's cross entropies over the targets of the whole batch."""
    hidden_btc = model.hidden(micro.inputs, mask=micro.mask)
    return model.loss(hidden_btc, micro.targets, micro.share(targets))
