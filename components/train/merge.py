"""Merge of an adapter into the weights of a checkpoint.

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
    """Checks on the adapter."""

    same_base: bool = Field(
        default=True, description="refuse an adapter that was trained on another checkpoint"
    )


def merge(config: MergeConfig, model: Checkpoint, adapter: Adapter, work: Workdir) -> Checkpoint:
    """Merge the adapter into the weights.

    Args:
        config: whether the adapter must be of this very checkpoint.
        model: the checkpoint.
        adapter: a folder that ``adapt``, ``sft`` or PEFT wrote.
        work: gets the merged checkpoint.

    Raises:
        ConfigError: the adapter is of another model or tokenizer.
        DataError: a file is missing or damaged, or holds another kind of adapter.
    """
    from models.lora import lora_layers, merge_and_unload

    digest = check_one_tokenizer(
        "merge",
        record_of_model(work.artifact_folder(model)),
        record_of_adapter(work.artifact_folder(adapter)),
    )
    decoder = load_model(work.artifact_folder(model))
    decoder.tokenizer = digest
    load_adapter(work.artifact_folder(adapter), decoder, model.digest if config.same_base else None)
    layers = len(lora_layers(decoder))
    merge_and_unload(decoder)
    save_model(work.folder, decoder)
    return work.seal(Checkpoint, stats={"adapted_layers": layers})
