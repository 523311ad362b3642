"""Pretraining: a decoder from packed tokens, for a budget of minutes, tokens, operations or steps.

    modelmill stage pretrain --input tokens=PATH --output DIR --set minutes=4

Muon on matrices, AdamW on the rest, warm-up-stable-decay, and short blocks first: the same tokens
cut finer, since early on a model learns nothing from far away. Further corpora are mixed in by
weight: ``--input more.code=PATH --set mixture={tokens: 0.8, code: 0.2}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from components.core.errors import ConfigError
from components.core.store.artifact import Checkpoint, Tokenizer, Tokens
from components.core.store.workdir import Workdir
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_tokenizer,
    record_of_tokens,
)
from components.text.token_arrays import read_meta
from components.train.autopilot.apply_choices import fixed_fields, settle
from components.train.pretrain_config import PretrainConfig, PretrainInputs
from components.train.pretrain_rank import pretrain_on_rank

if TYPE_CHECKING:
    pass


def pretrain(
    config: PretrainConfig,
    tokens: Tokens,
    work: Workdir,
    more: Mapping[str, Tokens] = MappingProxyType({}),
    tokenizer: Tokenizer | None = None,
) -> Checkpoint:
    """Train a decoder from random weights.

    Args:
        more: further corpora by name, for ``config.mixture``.
        tokenizer: that of the tokens; with it, samples of text are recorded on the way.

    Raises:
        ConfigError: the inputs are of different tokenizers, the shape has another vocabulary, the
            mixture names other corpora, a GPU is missing, a step does not fit into memory, the
            minutes come to fewer steps than ``config.min_steps``, or the autopilot cannot plan.
        DataError: the tokens cannot be read, or are less than a batch.
        MillError: the loss was not finite, or spiked, too often, or a rank died.
    """
    folders = [work.path(one) for one in (tokens, *more.values())]
    digest = _check_tokenizer(config, folders, None if tokenizer is None else work.path(tokenizer))
    inputs = PretrainInputs(
        tokens=tokens, more=dict(more), tokenizer=tokenizer, tokenizer_digest=digest
    )
    config = settle(config, folders, work)
    if config.parallel.ranks > 1:
        from components.train.distributed.launch_ranks import train_on_ranks

        stats = train_on_ranks(config, inputs, work)
    else:
        from components.train.distributed.single_process import ALONE

        stats = pretrain_on_rank(config, inputs, work, ALONE)
    return work.seal(Checkpoint, stats=stats)


def _check_tokenizer(
    config: PretrainConfig, corpora: Sequence[Path], tokenizer: Path | None
) -> str:
    """Refuse corpora of different tokenizers, and a shape of another vocabulary, before any probe.

    Args:
        corpora: folders of the tokens to train on, the first the one that all others must match.

    Returns:
        The tokenizer's digest; empty where nothing records it.

    Raises:
        ConfigError: they differ.
    """
    records = [record_of_tokens(folder) for folder in corpora]
    if tokenizer is not None:
        records.append(record_of_tokenizer(tokenizer))
    digest = check_one_tokenizer("pretrain", *records)
    left_to_autopilot = config.autopilot and "shape" not in fixed_fields(config)
    vocabulary = read_meta(corpora[0]).vocabulary
    if vocabulary != config.shape.vocabulary and not left_to_autopilot:
        raise ConfigError(_other_vocabulary(config.shape.vocabulary, vocabulary))
    return digest


def _other_vocabulary(shape: int, tokenizer: int) -> str:
    found = f"pretrain.shape.vocabulary is {shape}, but the tokenizer has {tokenizer} pieces"
    if tokenizer > shape:
        return f"{found}: set both, tokenizer.vocabulary and it, to the same number"
    # A round number below what there is outlives the next edit of a page.
    most = max(tokenizer // 64 * 64, min(tokenizer, 320))
    return (
        f"{found}, since so small a corpus gives no more: set tokenizer.vocabulary and "
        f"pretrain.shape.vocabulary both to {most}, or give more pages under scrape"
    )
