"""Pretraining: a decoder from packed tokens, for a budget of minutes, tokens, operations or steps.

    modelmill stage pretrain --input tokens=PATH --output DIR --set minutes=4

Muon on matrices, AdamW on the rest, warm-up-stable-decay, and short sequences in the first phase:
the same tokens cut finer, since early on a model learns nothing from far away. Further corpora are
mixed in by weight: ``--input more.code=PATH --set mixture={tokens: 0.8, code: 0.2}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from components.core.errors import ConfigError
from components.core.store.artifact import Checkpoint, Tokenizer, Tokens
from components.core.store.workdir import Workdir
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_tokenizer,
    record_of_tokens,
)
from components.text.token_arrays import read_meta
from components.train.autopilot.apply_choices import apply_autopilot, fixed_fields
from components.train.pretrain_config import PretrainConfig, PretrainInputs
from components.train.pretrain_rank import pretrain_on_rank


def pretrain(
    config: PretrainConfig,
    tokens: Tokens,
    work: Workdir,
    more: Mapping[str, Tokens] = MappingProxyType({}),
    tokenizer: Tokenizer | None = None,
) -> Checkpoint:
    """Train a decoder from random weights.

    Args:
        config: shape, budget, batch, optimiser and parallelism.
        tokens: the packed corpus.
        work: gets the checkpoint; an earlier try's state lies in its scratch folder.
        more: further corpora by name, for ``config.mixture``.
        tokenizer: tokenizer of the tokens; with it, text samples are recorded during the training.

    Raises:
        ConfigError: the inputs are of different tokenizers, the shape has another vocabulary, the
            mixture names other corpora, a GPU is missing, a step does not fit into memory, the
            minutes come to fewer steps than ``config.min_steps``, or the autopilot cannot plan.
        DataError: the tokens cannot be read, or are less than a batch.
        MillError: the loss was not finite, or spiked, too often, or a rank died.
    """
    folders = [work.artifact_folder(artifact) for artifact in (tokens, *more.values())]
    digest = _check_vocabulary(
        config, folders, None if tokenizer is None else work.artifact_folder(tokenizer)
    )
    inputs = PretrainInputs(
        tokens=tokens, more=dict(more), tokenizer=tokenizer, tokenizer_digest=digest
    )
    config = apply_autopilot(config, folders, work)
    if config.parallel.ranks > 1:
        from components.train.distributed.launch_ranks import train_on_ranks

        stats = train_on_ranks(pretrain_on_rank, config, inputs, work)
    else:
        from components.train.distributed.single_process import SINGLE_PROCESS

        stats = pretrain_on_rank(config, inputs, work, SINGLE_PROCESS)
    return work.seal(Checkpoint, stats=stats)


def _check_vocabulary(
    config: PretrainConfig, corpora: Sequence[Path], tokenizer: Path | None
) -> str:
    """Refuse different tokenizers, or a shape of another vocabulary, before any probe.

    Args:
        config: shape of the decoder, unless the autopilot chooses it.
        corpora: folders of the tokens to train on; all others must match the first.
        tokenizer: folder of the tokenizer, if it is given.

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
        raise ConfigError(_vocabulary_mismatch(config.shape.vocabulary, vocabulary))
    return digest


def _vocabulary_mismatch(shape: int, tokenizer: int) -> str:
    mismatch = f"pretrain.shape.vocabulary is {shape}, but the tokenizer has {tokenizer} pieces"
    if tokenizer > shape:
        return f"{mismatch}: set both, tokenizer.vocabulary and it, to the same number"
    # A round number below what there is outlives the next edit of a page.
    most = max(tokenizer // 64 * 64, min(tokenizer, 320))
    return (
        f"{mismatch}, since so small a corpus gives no more: set tokenizer.vocabulary and "
        f"pretrain.shape.vocabulary both to {most}, or give more pages under scrape"
    )
