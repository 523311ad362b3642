"""Supervised fine-tuning (SFT): a pretrained decoder learns to answer in the chat template.

    modelmill stage sft --input model=PATH --input instructions=PATH --input tokenizer=PATH \\
        --input tokens=PATH --output DIR

Only the answer's tokens (and the token that ends it) are targets. With the packed ``tokens`` a
share of the steps goes over page text in between, so that answering does not drive out what
pretraining taught (experience replay; for language models: Scialom et al. 2022, arXiv:2205.12393).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, model_validator

from components.core.log import get_logger
from components.core.store.artifact import Checkpoint, Instructions, Tokenizer, Tokens
from components.core.store.workdir import Workdir
from components.text.chat.chat_tokenizer import TokenizedConversation
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokenizer,
    record_of_tokens,
)
from components.text.decoder_files import load_model
from components.text.token_arrays import open_split
from components.train.data.conversations import (
    BatchPhases,
    ConversationBatches,
    Conversations,
    ReplayPlan,
)
from components.train.trainer.adapter_training import (
    LoraConfig,
    add_adapters,
    rebalance_hook,
    save_trained,
    trained_modules,
)
from components.train.training_config import (
    ONE_OF_MINUTES_STEPS,
    OptimConfig,
    ScheduleConfig,
    TrainingConfig,
)
from models.precision import compute_in

if TYPE_CHECKING:
    from torch import Tensor

    from components.train.budget.step_plan import StepPlan
    from components.train.data.data_order import BatchOrder
    from components.train.data.micro_batch import MicroBatch
    from components.train.trainer.training_job import TrainingJob
    from components.train.trainer.training_loop import TrainingResult
    from models.decoder import Decoder

log = get_logger(__name__)


class FinetuneConfig(TrainingConfig):
    """Weights to train, budget, batches and rates of supervised fine-tuning."""

    lora: LoraConfig | None = Field(
        default=None, description="adapters to train; null trains every weight"
    )
    epochs: float = Field(
        default=3.0,
        gt=0,
        le=100,
        description="passes over the examples, in place of minutes and steps; minutes never "
        "make more",
    )
    replay: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description=(
            "share of the steps that replay page text, if tokens are given; without "
            "replay the model forgets its pretraining"
        ),
    )
    longest: int = Field(
        default=256, ge=8, description="tokens of the longest example; longer ones are left out"
    )
    kinds: tuple[str, ...] = Field(
        default=(), description="kinds of questions to learn from; empty is all"
    )
    own_weight: float = Field(
        default=1.0,
        ge=0,
        le=1000,
        description="times that each conversation of instructions.files is seen in a pass; the "
        "questions made of pages are seen once",
    )
    own_last: bool = Field(
        default=False,
        description="conversations of instructions.files come after the questions made of pages, "
        "not among them",
    )
    optim: OptimConfig = Field(
        default=OptimConfig(muon_lr=0.006, adam_lr=0.002, embedding_lr=0.004),
        description="optimisers and their rates",
    )
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(warmup=0.03, decay=0.9),
        description="learning-rate schedule",
    )

    clears_preset_fields: ClassVar[Mapping[str, tuple[str, ...]]] = ONE_OF_MINUTES_STEPS

    @model_validator(mode="after")
    def _knows_where_the_last_begin(self) -> FinetuneConfig:
        if self.own_last and self.minutes is not None:
            raise ValueError(
                "own_last needs epochs or steps: of minutes nobody knows beforehand how many steps "
                "come before the own conversations"
            )
        return self


@dataclass(frozen=True)
class AnswerMicroBatch:
    """Conversations computed at once, padded on the right with token 0."""

    inputs: Tensor
    """[b, t]"""
    targets: Tensor
    """[b, t] the next token of each."""
    answer: Tensor
    """[b, t] 1.0 where the next token is the assistant's, else 0.0."""

    @property
    def count(self) -> int:
        """Number of targets to learn from."""
        return int(self.answer.sum())


def finetune(
    config: FinetuneConfig,
    model: Checkpoint,
    instructions: Instructions,
    tokenizer: Tokenizer,
    work: Workdir,
    tokens: Tokens | None = None,
) -> Checkpoint:
    """Train ``model`` on the training instructions.

    Args:
        config: budget, batches and rates.
        model: a pretrained decoder.
        instructions: its training questions and conversations are learnt.
        tokenizer: tokenizer of the model.
        work: gets the checkpoint.
        tokens: the text the model was pretrained on, for ``config.replay``; without them every
            step is over answers.

    Raises:
        ConfigError: the inputs are of different tokenizers, the model's weights are of another
            shape, or the adapters do not fit it.
        DataError: no instruction is left to learn from, or the tokens cannot be read.
    """
    from components.train.budget.step_plan import StepPlan
    from components.train.budget.time_budget import MinutesRequest, job_for_minutes
    from components.train.trainer.training_loop import run_training

    records = [
        record_of_model(work.artifact_folder(model)),
        record_of_tokenizer(work.artifact_folder(tokenizer)),
    ]
    if tokens is not None:
        records.append(record_of_tokens(work.artifact_folder(tokens)))
    digest = check_one_tokenizer("sft", *records)
    decoder = load_model(work.artifact_folder(model)).train()
    decoder.tokenizer = digest
    conversations = Conversations(
        work.artifact_folder(instructions),
        work.artifact_folder(tokenizer),
        longest=min(config.longest, decoder.shape.context),
        kinds=config.kinds,
        own_weight=config.own_weight,
    )
    batches = order_conversations(config, conversations, instructions.digest)
    steps = FinetuneSteps(config, batches, _replay_order(config, tokens, decoder, work))
    if config.lora is not None:
        add_adapters(decoder, config.lora, config.seed, "sft.lora")
    with compute_in(decoder, config.precision):
        most_steps = steps.plan.count_steps(
            max(1, round(config.epochs * batches.batches_per_epoch))
        )
        if config.steps is None and most_steps < config.min_steps:
            log.warning(
                "sft: %g passes over %d examples are %d steps of %d tokens, which teach little: "
                "lower sft.batch, or raise sft.epochs",
                *(config.epochs, conversations.count, most_steps, config.batch),
            )
        job = _job(config, decoder, steps, StepPlan.of_steps(config.steps or most_steps))
        if config.steps is None and config.minutes is not None:

            def trial() -> TrainingJob[AnswerMicroBatch | MicroBatch]:
                return _job(config, copy.deepcopy(decoder), steps, StepPlan.of_steps(1))

            # The pretraining has cost more: too few steps are warned of, not refused.
            request = MinutesRequest("sft", config.minutes, config.min_steps, refuse=False)
            job = job_for_minutes(job, request, work, trial, most_steps)
        trained = run_training(job, work)
    save_trained(work.folder, decoder, config.lora, model.digest)
    stats = _stats(trained, steps.plan.replays_before(trained.steps), batches.batches_per_epoch)
    counts = {"examples": conversations.count, **conversations.left_out}
    return work.seal(Checkpoint, stats={**counts, **stats})


def order_conversations(
    config: FinetuneConfig, conversations: Conversations, digest: str
) -> ConversationBatches | BatchPhases:
    """Order of the batches: all conversations mixed, or own ones after those made of pages.

    Args:
        config: budget and ``own_last``.
        conversations: both sets.
        digest: digest of the instructions.
    """

    def batches(
        of_epoch: Callable[[int], Sequence[TokenizedConversation]],
    ) -> ConversationBatches:
        return ConversationBatches(of_epoch, config.batch, config.seed, digest)

    mixed = batches(conversations.epoch_conversations)
    if not config.own_last or not (
        conversations.encode_questions(0) and conversations.choose_own(0)
    ):
        return mixed
    questions, own = batches(conversations.encode_questions), batches(conversations.choose_own)
    phases = BatchPhases(questions, own, round(config.epochs * questions.batches_per_epoch))
    if config.steps is None:
        return phases
    answer_steps = config.steps - ReplayPlan(config.replay).replays_before(config.steps)
    share = questions.batches_per_epoch / phases.batches_per_epoch
    return replace(phases, first_steps=round(share * answer_steps))


def _stats(trained: TrainingResult, replayed: int, steps_an_epoch: int) -> dict[str, float]:
    return {
        "steps": trained.steps,
        "epochs": round((trained.steps - replayed) / steps_an_epoch, 3),
        "replayed_steps": replayed,
        "targets": trained.targets,
        "loss": round(trained.loss, 4),
        "skipped": trained.skipped,
    }


class FinetuneSteps:
    """Micro-batches of every step, answers or replayed text: a pure function of its number.

    Args:
        config: share of replay, and tokens computed at once.
        batches: batches of conversations.
        text: batches of page text; None replays nothing.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        batches: ConversationBatches | BatchPhases,
        text: BatchOrder | None,
    ) -> None:
        self._batches, self._text, self._micro_batch = batches, text, config.micro_batch
        self.plan = ReplayPlan(0.0 if text is None else config.replay)

    def batch(self, step: int) -> Sequence[AnswerMicroBatch | MicroBatch]:
        """Micro-batches of a step, of at most ``micro_batch`` tokens and at least one row."""
        replayed = self.plan.replays_before(step)
        if self._text is not None and self.plan.is_replay(step):
            from components.train.data import micro_batch as micro

            return micro.split_micro_batches(self._text.batch(replayed), self._micro_batch)
        return conversation_micro_batches(self._batches.batch(step - replayed), self._micro_batch)


def _replay_order(
    config: FinetuneConfig, tokens: Tokens | None, decoder: Decoder, work: Workdir
) -> BatchOrder | None:
    """Batches of page text, in sequences as long as the model's context and a batch allow."""
    if tokens is None or not config.replay:
        return None
    from components.train.data.data_order import BatchOrder, TokenStream

    split = open_split(work.artifact_folder(tokens), "train")
    sequence_length = min(decoder.shape.context, config.batch)
    stream = TokenStream(
        split, sequence_length=sequence_length, seed=config.seed, digest=tokens.digest
    )
    return BatchOrder(stream, max(1, config.batch // stream.sequence_length))


def conversation_micro_batches(
    examples: Sequence[TokenizedConversation], tokens: int
) -> list[AnswerMicroBatch]:
    """Pad conversations into micro-batches of at most ``tokens`` tokens and at least one row."""
    import torch

    longest = max(len(example.ids) for example in examples) - 1
    rows = max(1, tokens // longest)
    micro_batches: list[AnswerMicroBatch] = []
    for start in range(0, len(examples), rows):
        some = examples[start : start + rows]
        ids = np.zeros((len(some), longest + 1), dtype=np.int64)
        answer = np.zeros((len(some), longest), dtype=np.float32)
        for row, example in enumerate(some):
            ids[row, : len(example.ids)] = example.ids
            for first, end in example.answers:
                answer[row, first - 1 : end - 1] = 1.0
        inputs, targets = ids[:, :-1].copy(), ids[:, 1:].copy()
        parts = (torch.from_numpy(part) for part in (inputs, targets, answer))
        micro_batches.append(AnswerMicroBatch(*parts))
    return micro_batches


def _job(
    config: FinetuneConfig,
    model: Decoder,
    steps: FinetuneSteps,
    plan: StepPlan,
) -> TrainingJob[AnswerMicroBatch | MicroBatch]:
    from components.train.data.packed_texts import packed_text_loss
    from components.train.trainer.training_job import TrainingJob

    def loss(micro: AnswerMicroBatch | MicroBatch, targets: float) -> Tensor:
        if not isinstance(micro, AnswerMicroBatch):
            return packed_text_loss(model, micro, targets)
        hidden = model.hidden(micro.inputs)
        return model.loss(hidden, micro.targets, micro.answer / targets, sparse=True)

    return TrainingJob(
        modules=trained_modules(model),
        batch=steps.batch,
        count_targets=lambda micro: float(micro.count),
        loss=loss,
        plan=plan,
        optim=config.optim,
        schedule=config.schedule,
        safety=config.safety,
        after_step=rebalance_hook(model),
    )
