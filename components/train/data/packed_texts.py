"""Micro-batches and loss of a training on packed text, for stages that begin with a model."""

from __future__ import annotations

import math

from torch import Tensor

from components.core.errors import ConfigError
from components.text.token_arrays import TokenSplit
from components.train.data.data_order import BatchOrder, TokenStream
from components.train.data.micro_batch import MicroBatch, split_micro_batches
from components.train.training_config import PackedTrainingConfig
from models.decoder import Decoder
from models.shape import DecoderShape


class PackedTexts:
    """Micro-batches of every step: a pure function of step, seed and corpus.

    Args:
        split: the training split.
        digest: digest of the corpus; the order depends on it.
        config: sequence length, batch, micro-batch and seed.
    """

    def __init__(self, split: TokenSplit, digest: str, config: PackedTrainingConfig) -> None:
        stream = TokenStream(
            split, sequence_length=config.sequence_length, seed=config.seed, digest=digest
        )
        order = BatchOrder(stream, config.batch // config.sequence_length)
        self._split, self._order, self._micro_batch = split, order, config.micro_batch
        self.batches_per_epoch = max(1, order.blocks_per_epoch // order.rows)

    def batch(self, step: int) -> list[MicroBatch]:
        """Micro-batches of a step, of at most ``micro_batch`` tokens and at least one sequence."""
        return split_micro_batches(self._order.batch(step), self._micro_batch)

    @property
    def bits_per_loss(self) -> float:
        """Bits per byte of text at a cross entropy of one nat."""
        return len(self._split.tokens) / max(1, self._split.text_bytes) / math.log(2)


def check_sequence_length(
    shape: DecoderShape, sequence_length: int, field: str, owner: str
) -> None:
    """Refuse sequences longer than the context of a model.

    Args:
        shape: shape of the model.
        sequence_length: tokens of a training sequence.
        field: config field that sets it, for the message.
        owner: the model, for the message.

    Raises:
        ConfigError: they are longer.
    """
    if sequence_length > shape.context:
        raise ConfigError(
            f"{field} ({sequence_length}) must be within the context of {owner} ({shape.context})"
        )


def packed_text_loss(model: Decoder, micro: MicroBatch, targets: float) -> Tensor:
    """Sum of a micro-batch's cross entropies, divided by the targets of the whole batch.

    Args:
        model: computes the logits.
        micro: inputs, targets and mask.
        targets: number of targets of the whole batch, over all ranks.
    """
    hidden_btc = model.hidden(micro.inputs, mask=micro.mask)
    return model.loss(hidden_btc, micro.targets, micro.target_weights(targets))
