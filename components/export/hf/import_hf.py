"""Import of a transformers folder as a checkpoint to train on, to measure or to serve.

    modelmill stage import_hf --input PATH --output DIR

Qwen3, Llama, Qwen3Moe and Mixtral are read, from safetensors in float32, bfloat16 or float16.
Where the folder's tokenizer has our special tokens, ``tokenizer.json`` lies beside the
weights, so that the output serves as the input ``tokenizer`` of other stages too. Embeddings are
often padded to a round number of rows; those beyond the tokenizer's ids are cut then, so that every
stage finds a model of exactly its tokenizer's vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, DataError
from components.core.log import get_logger
from components.core.store.artifact import Checkpoint, Export
from components.core.store.workdir import Workdir
from components.export.hf.hf_config import read_hf_config
from components.export.hf.hf_tensors import load_hf_tensors
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.chat.tokenizer_files import copy_tokenizer_files, tokenizer_digest
from components.text.decoder_files import save_model

if TYPE_CHECKING:
    from models.decoder import Decoder
    from models.shape import DecoderShape

log = get_logger(__name__)


class ImportConfig(StageConfig):
    """Import of a transformers folder."""

    tokenizer: bool | None = Field(
        default=None,
        description="import of its tokenizer too; None: only one with our special tokens",
    )


def import_hf(config: ImportConfig, folder: Export, work: Workdir) -> Checkpoint:
    """Read the model of a transformers folder, its weights in float32.

    Args:
        config: whether the tokenizer is taken too.
        folder: the transformers folder.
        work: where the checkpoint is written.

    Raises:
        ConfigError: a class, field or tensor that the decoder cannot hold, or a tokenizer that is
            asked for and does not fit; names it.
        DataError: a file is missing or damaged.
    """
    source = work.artifact_folder(folder)
    work.progress.start_count(2, "steps")
    model = read_hf_model(source)
    work.progress.advance(note="weights")
    padded = model.shape.vocabulary
    size = _copy_tokenizer(config, source, work.folder, model.shape)
    if size is not None:
        cut_vocabulary(model, size)
        model.tokenizer = tokenizer_digest(source)
    save_model(work.folder, model)
    work.progress.advance(note=model.shape.hf_class)
    stats = {
        "parameters": model.shape.parameters,
        "layers": model.shape.layers,
        "tokenizer": float(size is not None),
        "unused_rows": padded - model.shape.vocabulary,
    }
    return work.seal(Checkpoint, stats=stats)


def read_hf_model(folder: Path) -> Decoder:
    """Load the decoder of a transformers folder, float32, in evaluation mode.

    Raises:
        ConfigError: a class, field or tensor that the decoder cannot hold; names it.
        DataError: a file is missing or damaged.
    """
    from models.decoder import Decoder

    model = Decoder(read_hf_config(folder))
    load_hf_tensors(folder, model)
    return model.eval()


def cut_vocabulary(model: Decoder, size: int) -> None:
    """Keep the first ``size`` rows of embeddings and head; the others stand for no token."""
    from torch import nn

    tables = (model.embed_tokens, model.lm_head)
    first, head = (nn.Parameter(table.weight[:size].detach().clone()) for table in tables)
    model.embed_tokens.weight, model.embed_tokens.num_embeddings = first, size
    model.lm_head.weight = first if model.shape.tied else head
    model.lm_head.out_features = size
    model.shape = replace(model.shape, vocabulary=size)


def _copy_tokenizer(
    config: ImportConfig, source: Path, target: Path, shape: DecoderShape
) -> int | None:
    """Copy the folder's tokenizer where it fits; returns the rows that it uses, else None."""
    if config.tokenizer is False:
        return None
    try:
        size = open_tokenizer(source).vocabulary
        if size > shape.vocabulary:
            raise DataError(f"it has {size} tokens, the model has {shape.vocabulary}")
    except DataError as error:
        if config.tokenizer:
            raise ConfigError(f"import_hf: the tokenizer does not fit: {error}") from error
        log.warning("the tokenizer is left out: %s", error)
        return None
    copy_tokenizer_files(source, target)
    return size
