"""A checkpoint with an adapter merged into it.

    modelmill stage merge --input model=PATH --input adapter=PATH/adapter --output DIR

The adapter is the ``adapter/`` folder of a checkpoint that ``adapt`` or ``sft`` made, or one that
PEFT saved for the exported checkpoint.
"""

from __future__ import annotations

from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Adapter, Checkpoint
from components.core.store.workdir import Workdir
from components.text.chat.tokenizer_identity import check_one_tokenizer, record_of_model
from components.text.decoder_files import load_model, save_model
from components.train.trainer.adapter_training import load_adapter, record_of_adapter


class MergeConfig(StageConfig):
    """What is asked of the adapter."""

    same_base: bool = Field(
        default=True, description="refuse an adapter that says it was learnt on another checkpoint"
    )


def merge(config: MergeConfig, model: Checkpoint, adapter: Adapter, work: Workdir) -> Checkpoint:
    """The adapted model as a plain one.

    Raises:
        ConfigError: the adapter is of another model or tokenizer.
        DataError: a file is missing or damaged, or holds another kind of adapter.
    """
    from models.lora import adapters, bake

    digest = check_one_tokenizer(
        "merge", record_of_model(work.path(model)), record_of_adapter(work.path(adapter))
    )
    decoder = load_model(work.path(model))
    decoder.tokenizer = digest
    load_adapter(work.path(adapter), decoder, model.digest if config.same_base else None)
    layers = len(adapters(decoder))
    bake(decoder)
    save_model(work.folder, decoder)
    return work.seal(Checkpoint, stats={"adapted_layers": layers})
