"""Import of a transformers folder as a checkpoint to train on, to measure or to serve.

    modelmill stage import_hf --input PATH --output DIR

Qwen3, Llama, Qwen3Moe and Mixtral are read, from safetensors in float32, bfloat16 or float16.
Where the folder has a tokenizer that can be read, it lies beside the weights with its chat template
and its special tokens, so that the output serves as the input ``tokenizer`` of other stages too.
Embeddings are often padded to a round number of rows; those beyond the tokenizer's ids are cut
then, so that every stage finds a model of exactly its tokenizer's vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from components.core.config.hashed_file import HashedFile
from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, DataError
from components.core.log import get_logger
from components.core.store.artifact import Checkpoint, Export
from components.core.store.workdir import Workdir
from components.export.hf.base_folder import (
    copy_base_tokenizer,
    describe_base,
    read_template,
)
from components.export.hf.hf_config import read_hf_config
from components.export.hf.hf_tensors import load_hf_tensors, weight_files
from components.text.base_record import write_base_record
from components.text.chat.chat_tokenizer import ChatTokenizer
from components.text.chat.tokenizer_files import (
    read_fast_tokenizer,
    tokenizer_digest,
    vocabulary_size,
)
from components.text.decoder_files import save_model

if TYPE_CHECKING:
    from models.decoder import Decoder
    from models.shape import DecoderShape

log = get_logger(__name__)


class ImportConfig(StageConfig):
    """Import of a transformers folder."""

    tokenizer: bool | None = Field(
        default=None,
        description="import of its tokenizer too; null: only one that can be read and fits",
    )
    chat_template: HashedFile | None = Field(
        default=None, description="Jinja file of a chat template in place of the folder's"
    )
    context: int | None = Field(
        default=None,
        ge=16,
        description="longest context that is kept, in tokens; null keeps all of the model's",
    )


def import_hf(config: ImportConfig, folder: Export, work: Workdir) -> Checkpoint:
    """Read the model of a transformers folder, its weights in float32.

    Args:
        config: whether the tokenizer is taken too, and by which template.
        folder: the transformers folder.
        work: where the checkpoint is written.

    Raises:
        ConfigError: a class, field or tensor that the decoder cannot hold, or a tokenizer that is
            asked for and does not fit; names it.
        DataError: a file is missing or damaged.
    """
    return import_folder(work.artifact_folder(folder), config, work)


def import_folder(source: Path, config: ImportConfig, work: Workdir, name: str = "") -> Checkpoint:
    """Read the model of a transformers folder anywhere.

    Args:
        source: the folder.
        config: whether the tokenizer is taken too, and by which template.
        work: where the checkpoint is written.
        name: the folder's name in the record of the base; empty where it says nothing.

    Raises:
        ConfigError: as of ``import_hf``.
        DataError: a file is missing or damaged.
    """
    work.progress.start_count(2, "steps")
    model = read_hf_model(source, config.context)
    work.progress.advance(note="weights")
    padded = model.shape.vocabulary
    words = _copy_tokenizer(config, source, work.folder, model.shape)
    if words is not None:
        cut_vocabulary(model, words.vocabulary)
        model.tokenizer = tokenizer_digest(source)
    save_model(work.folder, model)
    write_base_record(work.folder, describe_base(source, name))
    work.progress.advance(note=model.shape.hf_class)
    stats = {
        "parameters": model.shape.parameters,
        "layers": model.shape.layers,
        "tokenizer": float(words is not None),
        "unused_rows": padded - model.shape.vocabulary,
    }
    return work.seal(Checkpoint, stats=stats)


def read_hf_model(folder: Path, context: int | None = None) -> Decoder:
    """Load the decoder of a transformers folder, float32, in evaluation mode.

    Args:
        folder: the transformers folder.
        context: longest context that is kept, in tokens; None keeps all.

    Raises:
        ConfigError: a class, field or tensor that the decoder cannot hold; names it.
        DataError: a file is missing or damaged.
    """
    from models.decoder import Decoder

    shape = limit_context(read_hf_config(folder), context)
    _check_size(folder, shape)
    model = Decoder(shape)
    load_hf_tensors(folder, model)
    return model.eval()


def limit_context(shape: DecoderShape, context: int | None) -> DecoderShape:
    """The shape with at most ``context`` tokens of context; positions turn as before."""
    if context is None or context >= shape.context:
        return shape
    return replace(shape, context=context)


def _check_size(folder: Path, shape: DecoderShape) -> None:
    """Refuse a shape that its weights cannot fill, before memory is asked for it.

    Raises:
        ConfigError: there is less than a byte for each parameter.
    """
    size = sum(path.stat().st_size for path in weight_files(folder))
    if size < shape.parameters:
        raise ConfigError(
            f"{folder.name}: config.json describes {shape.parameters:,} parameters, and the "
            f"weights have {size:,} bytes: they are of another model"
        )


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
) -> ChatTokenizer | None:
    """Copy the folder's tokenizer where it can be read and fits; returns it, else None."""
    if config.tokenizer is False:
        return None
    try:
        size = vocabulary_size(read_fast_tokenizer(source))
        if size > shape.vocabulary:
            raise DataError(f"it has {size} tokens, the model has {shape.vocabulary}")
        return copy_base_tokenizer(source, target, read_template(config.chat_template))
    except (ConfigError, DataError) as error:
        if config.tokenizer or config.chat_template:
            raise ConfigError(f"import_hf: the tokenizer does not fit: {error}") from error
        log.warning("the tokenizer is left out: %s", error)
        return None
