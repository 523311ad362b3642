"""Continued pretraining on the text of a domain: all weights, or adapters alone (LoRA, QLoRA).

    modelmill stage adapt --input model=PATH --input tokens=PATH --output DIR --set lora.rank=16

The tokens must be packed with the model's tokenizer. With adapters the result is the merged model,
and they lie beside it in ``adapter/``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from components.core.store.artifact import Checkpoint, Tokens
from components.core.store.workdir import Workdir
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokens,
)
from components.text.decoder_files import load_model
from components.text.token_arrays import open_split
from components.train.trainer.adapter_training import (
    LoraConfig,
    add_adapters,
    rebalance_hook,
    save_trained,
    trained_modules,
)
from components.train.training_config import (
    STEPS_REPLACE_MINUTES,
    Minutes,
    OptimConfig,
    PackedTrainingConfig,
    ScheduleConfig,
)
from models.precision import compute_in

if TYPE_CHECKING:
    from components.train.budget.step_plan import StepPlan
    from components.train.data.micro_batch import MicroBatch
    from components.train.data.packed_texts import PackedTexts
    from components.train.trainer.training_job import TrainingJob
    from models.decoder import Decoder


class AdaptConfig(PackedTrainingConfig):
    """Weights to adapt, budget and rates of continued pretraining."""

    lora: LoraConfig | None = Field(
        default=None, description="adapters to train; null trains every weight"
    )
    minutes: Minutes = Field(default=2.0, description="time budget; a probe turns it into steps")
    epochs: float = Field(
        default=4.0, gt=0, le=1000, description="passes over the text that minutes never exceed"
    )
    optim: OptimConfig = Field(
        default=OptimConfig(muon_lr=0.002, adam_lr=0.002, embedding_lr=0.002),
        description="optimisers and their rates; adapters take adam_lr",
    )
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(warmup=0.05, decay=0.95),
        description="learning-rate schedule",
    )

    clears_preset_fields: ClassVar[Mapping[str, tuple[str, ...]]] = STEPS_REPLACE_MINUTES


def adapt(config: AdaptConfig, model: Checkpoint, tokens: Tokens, work: Workdir) -> Checkpoint:
    """Continue the pretraining of ``model``.

    Args:
        config: budget, batch, optimiser and adapters.
        model: a pretrained decoder.
        tokens: the domain's text, packed with the model's tokenizer.
        work: gets the checkpoint, and with adapters the folder ``adapter/``.

    Raises:
        ConfigError: the tokens are of another tokenizer, the sequences longer than the model's
            context, the adapters do not fit the model, or the minutes come to too few steps.
        DataError: the tokens cannot be read, or there are none.
        MillError: the loss was not finite too often.
    """
    from components.train.budget.step_plan import StepPlan
    from components.train.budget.time_budget import MinutesRequest, job_for_minutes
    from components.train.data.packed_texts import PackedTexts, check_sequence_length
    from components.train.trainer.training_loop import run_training

    digest = check_one_tokenizer(
        "adapt",
        record_of_model(work.artifact_folder(model)),
        record_of_tokens(work.artifact_folder(tokens)),
    )
    split = open_split(work.artifact_folder(tokens), "train")
    decoder = load_model(work.artifact_folder(model)).train()
    decoder.tokenizer = digest
    check_sequence_length(
        decoder.shape, config.sequence_length, "adapt.sequence_length", "the model"
    )
    texts = PackedTexts(split, tokens.digest, config)
    if config.lora is not None:
        add_adapters(decoder, config.lora, config.seed, "adapt.lora")
    trained_parameters = sum(p.numel() for p in decoder.parameters() if p.requires_grad)
    with compute_in(decoder, config.precision):
        job = _job(config, decoder, texts, StepPlan.of_steps(config.steps or 1))
        if config.steps is None:

            def trial() -> TrainingJob[MicroBatch]:
                return _job(config, copy.deepcopy(decoder), texts, StepPlan.of_steps(1))

            most_steps = max(1, round(config.epochs * texts.batches_per_epoch))
            request = MinutesRequest("adapt", config.minutes, config.min_steps)
            job = job_for_minutes(job, request, work, trial, most_steps)
        trained = run_training(job, work)
    save_trained(work.folder, decoder, config.lora, model.digest)
    stats = {
        "train_bits_per_byte": round(trained.loss * texts.bits_per_loss, 4),
        "loss": round(trained.loss, 4),
        "steps": trained.steps,
        "tokens": trained.targets,
        "epochs": round(trained.steps / texts.batches_per_epoch, 3),
        "trained_parameters": trained_parameters,
        "skipped": trained.skipped,
    }
    return work.seal(Checkpoint, stats=stats)


def _job(
    config: AdaptConfig,
    model: Decoder,
    texts: PackedTexts,
    plan: StepPlan,
) -> TrainingJob[MicroBatch]:
    from components.train.data.packed_texts import packed_text_loss
    from components.train.trainer.training_job import TrainingJob

    return TrainingJob(
        modules=trained_modules(model),
        batch=texts.batch,
        count_targets=lambda micro: micro.count,
        loss=lambda micro, targets: packed_text_loss(model, micro, targets),
        plan=plan,
        optim=config.optim,
        schedule=config.schedule,
        safety=config.safety,
        bits_per_loss=texts.bits_per_loss,
        after_step=rebalance_hook(model),
    )
