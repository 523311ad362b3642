"""One call of pretraining: its job, the trial steps that measure, and what is said when it is full.

Kept apart from the stage's config, which is read without torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from components.core.errors import ConfigError
from components.core.store.workdir import Workdir
from components.train.budget.flop_count import flops_per_token
from components.train.budget.peak_flops import measured_peak
from components.train.budget.step_plan import Course, Place
from components.train.budget.time_budget import Budget, Wish, time_budget, trial_step
from components.train.data.micro_batch import Micro, micro_batches
from components.train.data.training_corpora import Corpora
from components.train.distributed.single_process import Ranks
from components.train.trainer.layer_compile import compile_if_quicker, compile_layers
from components.train.trainer.oom_probe import is_out_of_memory, largest_that_fits, release
from components.train.trainer.training_loop import Job, SpeedSetting, Trained, train
from models.decoder import Decoder

if TYPE_CHECKING:
    from components.train.pretrain_config import PretrainConfig


@dataclass(frozen=True)
class Pretraining:
    """One call of the stage: what its job and its trial steps are made of."""

    config: PretrainConfig
    model: Decoder
    corpora: Corpora
    device: torch.device
    work: Workdir
    sample: Callable[[], str] | None
    ranks: Ranks

    def train(self) -> Trained:
        """Measure, then train.

        Raises:
            ConfigError: a step does not fit into memory; says which would.
        """
        try:
            self._compile()
            return train(self._planned(), self.work)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if self.ranks.world > 1:  # what would fit cannot be tried without the other ranks
                raise ConfigError(
                    f"out of memory on rank {self.ranks.rank} at micro_batch "
                    f"{self.config.micro_batch}: halve it, the result stays the same"
                ) from error
        # Behind the handler, which keeps the failed step's tensors alive.
        raise ConfigError(self._too_much())

    def job(self, model: Decoder, course: Course, budget: Budget | None = None) -> Job[Micro]:
        """The training of ``model`` along ``course``."""
        config = self.config

        def batch(step: int) -> list[Micro]:
            short = course.place(step).progress < config.short
            return self.micro_batches(step, config.micro_batch, short=short)

        def flops(place: Place) -> float:
            short = place.progress < config.short
            length = config.short_positions if short else config.positions
            return flops_per_token(config.shape, length)

        return Job(
            modules={"decoder": model},
            batch=batch,
            weight=lambda micro: float(micro.count),
            loss=lambda micro, targets: model.loss(
                model.hidden(micro.inputs, mask=micro.mask, documents_bt=micro.documents),
                micro.targets,
                micro.share(targets),
            ),
            course=course,
            optim=config.optim,
            schedule=config.schedule,
            safety=config.safety,
            bits_per_loss=self.corpora.bits_per_loss,
            budget=budget,
            ranks=self.ranks,
            after=model.rebalance,
            average=config.ema,
            flops=flops,
            peak=measured_peak(self.work.scratch, model.compute, self.device) * self.ranks.world,
            speed_of=SpeedSetting(
                "pretrain", config.shape.parameters, config.device, config.precision
            ),
            sample=self.sample,
        )

    def micro_batches(self, step: int, tokens: int, *, short: bool) -> list[Micro]:
        """This rank's micro-batches of a step, at most ``tokens`` at once."""
        blocks = self.corpora.order.batch(step, self.ranks.data_rank, self.ranks.data_world)
        if short:
            blocks = blocks.split(self.config.short_positions)
        masks = self.device.type == "cpu"
        return [micro.to(self.device) for micro in micro_batches(blocks, tokens, masks=masks)]

    def _planned(self) -> Job[Micro]:
        steps = self.config.counted_steps
        if steps is not None:
            if self.device.type == "cuda":
                self._trial(self.config.micro_batch)()  # the longest blocks fit, or it ends here
            return self.job(self.model, Course.of(steps))
        assert self.config.minutes is not None
        wish = Wish("pretrain", self.config.minutes, self.config.min_steps)
        budget = time_budget(
            wish,
            self.work.scratch,
            self._phases,
            agreed=self.ranks.agreed,
            threads=self.ranks.threads(self.model, self.work),
        )
        return self.job(self.model, budget.course, budget)

    def _phases(self) -> list[tuple[float, Callable[[], None]]]:
        """One step of either phase, on a copy, so that the model stays as it is."""
        model = self._copy()
        short, micro = self.config.short, self.config.micro_batch
        return [
            (short, self._trial(micro, short=True, model=model)),
            (1.0 - short, self._trial(micro, model=model)),
        ]

    def _copy(self) -> Decoder:
        """A model that may be moved, compiled as the model is."""
        made = self.ranks.copied(self.model)
        if getattr(self.model.layers[0], "_compiled_call_impl", None) is not None:
            compile_layers(made.layers)
        return made

    def _trial(
        self, micro: int, *, short: bool = False, model: Decoder | None = None
    ) -> Callable[[], None]:
        job = self.job(model or self._copy(), Course.of(1))
        batch = self.micro_batches(0, micro, short=short)
        return trial_step(dataclasses.replace(job, batch=lambda step: batch))

    def _compile(self) -> None:
        asked = self.config.compile
        if asked == "always":
            compile_layers(self.model.layers)
        elif asked == "auto" and self.device.type == "cuda" and self.ranks.world == 1:
            trial = self._copy()
            step = self._trial(self.config.micro_batch, model=trial)
            if compile_if_quicker(trial.layers, step):
                compile_layers(self.model.layers)

    def _too_much(self) -> str:
        """One line on the micro-batch that would fit, each tried with a whole step of it."""
        release()
        config = self.config
        asked = min(config.micro_batch, config.batch)

        def step(tokens: int) -> None:
            job = self.job(self.model, Course.of(1))
            first = self.micro_batches(0, tokens, short=False)[:1]
            trial_step(dataclasses.replace(job, batch=lambda step: first))()

        fits = largest_that_fits(step, asked, config.positions)
        if fits is None:
            return (
                f"out of memory: not even one block of {config.positions} tokens fits; lower "
                "positions or the shape"
            )
        return (
            f"out of memory at micro_batch {asked}: {fits} tokens at once fit; set micro_batch to "
            f"{fits}, the result stays the same"
        )
