"""One call of pretraining: its job, its trial steps, and its out-of-memory message."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from components.core.errors import ConfigError
from components.core.store.workdir import Workdir
from components.train.budget.flop_count import flops_per_token
from components.train.budget.peak_flops import measure_peak_flops
from components.train.budget.step_plan import StepPlan, StepProgress
from components.train.budget.time_budget import (
    MinutesRequest,
    TimeBudget,
    make_trial_step,
    open_time_budget,
)
from components.train.data.micro_batch import MicroBatch, split_micro_batches
from components.train.data.training_corpora import TrainingCorpora
from components.train.distributed.single_process import Collectives
from components.train.trainer.layer_compile import compile_if_quicker, compile_layers
from components.train.trainer.oom_probe import find_fitting_size, is_out_of_memory, release_memory
from components.train.trainer.training_job import MeasuredSetting, TrainingJob
from components.train.trainer.training_loop import TrainingResult, run_training
from models.decoder import Decoder

if TYPE_CHECKING:
    from components.train.pretrain_config import PretrainConfig


@dataclass(frozen=True)
class PretrainingCall:
    """Ingredients of one call of the stage, from which its job and trial steps are made."""

    config: PretrainConfig
    model: Decoder
    corpora: TrainingCorpora
    device: torch.device
    work: Workdir
    sample_text: Callable[[], str] | None
    collectives: Collectives

    def run(self) -> TrainingResult:
        """Measure, then train.

        Raises:
            ConfigError: a step does not fit into memory; names the micro-batch that would.
        """
        try:
            self._compile_layers()
            return run_training(self._plan_job(), self.work)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if self.collectives.world > 1:  # no rank can try a smaller one without the others
                raise ConfigError(
                    f"out of memory on rank {self.collectives.rank} at micro_batch "
                    f"{self.config.micro_batch}: halve it, the result stays the same"
                ) from error
        # After the handler, which keeps the failed step's tensors alive.
        raise ConfigError(self._out_of_memory())

    def make_job(
        self, model: Decoder, plan: StepPlan, budget: TimeBudget | None = None
    ) -> TrainingJob[MicroBatch]:
        """The training of a model as a job.

        Args:
            model: the stage's, or a copy for trial steps.
            plan: number of steps.
            budget: replans it; None for a fixed number.
        """
        config = self.config

        def batch(step: int) -> list[MicroBatch]:
            short = plan.progress_at(step).progress < config.short
            return self.micro_batches(step, config.micro_batch, short=short)

        def flops(point: StepProgress) -> float:
            short = point.progress < config.short
            length = config.short_sequence_length if short else config.sequence_length
            return flops_per_token(config.shape, length)

        return TrainingJob(
            modules={"decoder": model},
            batch=batch,
            count_targets=lambda micro: float(micro.count),
            loss=lambda micro, targets: model.loss(
                model.hidden(micro.inputs, mask=micro.mask, documents_bt=micro.documents),
                micro.targets,
                micro.target_weights(targets),
            ),
            plan=plan,
            optim=config.optim,
            schedule=config.schedule,
            safety=config.safety,
            bits_per_loss=self.corpora.bits_per_loss,
            budget=budget,
            collectives=self.collectives,
            after_step=model.rebalance,
            ema_decay=config.ema,
            flops=flops,
            peak_flops=measure_peak_flops(self.work.scratch, model.compute, self.device)
            * self.collectives.world,
            measured_setting=MeasuredSetting(
                "pretrain", config.shape.parameters, config.device, config.precision
            ),
            sample_text=self.sample_text,
        )

    def micro_batches(self, step: int, tokens: int, *, short: bool) -> list[MicroBatch]:
        """This rank's micro-batches of a step.

        Args:
            step: number of the batch.
            tokens: number of tokens at once, at most.
            short: cut into the short sequences of the first phase.
        """
        blocks = self.corpora.order.batch(
            step, self.collectives.data_rank, self.collectives.data_world
        )
        if short:
            blocks = blocks.split_blocks(self.config.short_sequence_length)
        masks = self.device.type == "cpu"
        return [micro.to(self.device) for micro in split_micro_batches(blocks, tokens, masks=masks)]

    def _plan_job(self) -> TrainingJob[MicroBatch]:
        steps = self.config.counted_steps
        if steps is not None:
            if self.device.type == "cuda":
                # The longest sequences fit, or it ends here and not after hours.
                self._trial_step(self.config.micro_batch)()
            return self.make_job(self.model, StepPlan.of_steps(steps))
        assert self.config.minutes is not None
        request = MinutesRequest("pretrain", self.config.minutes, self.config.min_steps)
        budget = open_time_budget(
            request,
            self.work.scratch,
            self._trial_phases,
            broadcast=self.collectives.broadcast,
            threads=self.collectives.thread_tuner(self.model, self.work),
        )
        return self.make_job(self.model, budget.plan, budget)

    def _trial_phases(self) -> list[tuple[float, Callable[[], None]]]:
        """One step of either phase, on a copy of the model."""
        model = self._copy_model()
        short, micro = self.config.short, self.config.micro_batch
        return [
            (short, self._trial_step(micro, short=True, model=model)),
            (1.0 - short, self._trial_step(micro, model=model)),
        ]

    def _copy_model(self) -> Decoder:
        """A copy of the model that trial steps may change, compiled as the model is."""
        copy = self.collectives.copy_model(self.model)
        if getattr(self.model.layers[0], "_compiled_call_impl", None) is not None:
            compile_layers(copy.layers)
        return copy

    def _trial_step(
        self, micro: int, *, short: bool = False, model: Decoder | None = None
    ) -> Callable[[], None]:
        job = self.make_job(model or self._copy_model(), StepPlan.of_steps(1))
        batch = self.micro_batches(0, micro, short=short)
        return make_trial_step(dataclasses.replace(job, batch=lambda step: batch))

    def _compile_layers(self) -> None:
        mode = self.config.compile
        if mode == "always":
            compile_layers(self.model.layers)
        elif mode == "auto" and self.device.type == "cuda" and self.collectives.world == 1:
            trial = self._copy_model()
            step = self._trial_step(self.config.micro_batch, model=trial)
            if compile_if_quicker(trial.layers, step):
                compile_layers(self.model.layers)

    def _out_of_memory(self) -> str:
        """Error message with the micro-batch that fits, found by trying whole steps."""
        release_memory()
        config = self.config
        tokens_at_once = min(config.micro_batch, config.batch)

        def step(tokens: int) -> None:
            job = self.make_job(self.model, StepPlan.of_steps(1))
            first = self.micro_batches(0, tokens, short=False)[:1]
            make_trial_step(dataclasses.replace(job, batch=lambda step: first))()

        fits = find_fitting_size(step, tokens_at_once, config.sequence_length)
        if fits is None:
            return (
                f"out of memory: not even one sequence of {config.sequence_length} tokens fits; "
                "lower sequence_length or the shape"
            )
        return (
            f"out of memory at micro_batch {tokens_at_once}: {fits} tokens at once fit; set "
            f"micro_batch to {fits}, the result stays the same"
        )
