"""Steps of a training on packed text whose model exists already: blocks as micro-batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from components.core.errors import ConfigError
from components.text.tokens import TokenSplit
from components.train.order import Blocks, Order, document_numbers
from models.decoder import Decoder, document_mask
from models.shape import DecoderShape


@dataclass(frozen=True)
class TextMicro:
    """inputs and targets [b, t], mask [b, 1, t, t]; None where causal attention is enough."""

    inputs: Tensor
    targets: Tensor
    mask: Tensor | None

    @property
    def count(self) -> int:
        """How many targets it holds."""
        return self.targets.numel()

    def share(self, targets: float) -> Tensor:
        """Each target's weight in a mean over ``targets`` of them, [b, t]."""
        return torch.full(self.targets.shape, 1.0 / targets)


class Texts:
    """The micro-batches of every step: a pure function of its number, of seed and corpus."""

    def __init__(self, split: TokenSplit, order: Order, micro_batch: int) -> None:
        self._split, self._order, self._micro_batch = split, order, micro_batch
        self.per_epoch = max(1, order.per_epoch // order.rows)

    def batch(self, step: int) -> list[TextMicro]:
        """At most ``micro_batch`` positions each, and a block at least."""
        blocks = self._order.batch(step)
        rows = max(1, self._micro_batch // blocks.inputs.shape[1])
        starts = range(0, len(blocks.inputs), rows)
        return [self._micro(blocks, slice(start, start + rows)) for start in starts]

    @property
    def bits_per_loss(self) -> float:
        """Bits per byte of text for a cross entropy of one nat."""
        return len(self._split.tokens) / max(1, self._split.text_bytes) / math.log(2)

    def _micro(self, blocks: Blocks, part: slice) -> TextMicro:
        inputs = blocks.inputs[part]
        documents = document_numbers(inputs, self._split.eos)
        several = (documents[:, 1:] != documents[:, :1]).any()
        mask = document_mask(torch.from_numpy(documents)) if several else None
        targets = blocks.targets[part]
        return TextMicro(torch.from_numpy(inputs.copy()), torch.from_numpy(targets.copy()), mask)


def check_vocabulary(shape: DecoderShape, split: TokenSplit, whose: str) -> None:
    """Refuse tokens that the model was not made for.

    Raises:
        ConfigError: the vocabularies differ.
    """
    if shape.vocabulary != split.vocabulary:
        raise ConfigError(
            f"{whose} has a vocabulary of {shape.vocabulary}, the tokens one of "
            f"{split.vocabulary}: pack the corpus with the tokenizer of that model"
        )


def check_context(shape: DecoderShape, positions: int, field: str, whose: str) -> None:
    """Refuse blocks longer than a model was made for.

    Raises:
        ConfigError: they are.
    """
    if positions > shape.context:
        raise ConfigError(
            f"{field} ({positions}) must be within the context of {whose} ({shape.context})"
        )


def text_loss(model: Decoder, micro: TextMicro, targets: float) -> Tensor:
    """The sum of a micro-batch's cross entropies over the targets of the whole batch."""
    hidden_btc = model.hidden(micro.inputs, mask=micro.mask)
    return model.loss(hidden_btc, micro.targets, micro.share(targets))
