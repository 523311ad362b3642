"""PPO training loop: rollout, advantages, minibatch steps, checkpoint.

A run that was killed and resumed ends with the same bytes: everything random (prompts, sampling,
order) is a function of the seed and the iteration, and the rest of the state is in ``StateFiles``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor

from components.align.advantages import (
    KLController,
    generalised_advantages,
    subtract_leave_one_out_baseline,
    token_rewards,
    whiten_advantages,
)
from components.align.attempt import AttemptFailed
from components.align.ppo_config import PPOConfig
from components.align.ppo_objective import clipped_policy_loss, clipped_value_loss
from components.align.rollout import PPOModels, Rollout, sample_rollout
from components.align.rule_judge import BestPolicy, RuleJudge
from components.core.log import get_logger
from components.core.process.thread_tuning import ThreadTuner
from components.core.store.shards import write_shard
from components.core.store.workdir import Workdir
from components.text.chat.ask_model import QuestionPrompt
from components.train.budget.memory_reuse import keep_freed_memory, return_freed_memory
from components.train.trainer.learning_rate import rate_factor
from components.train.trainer.optimizer import Optimiser
from components.train.trainer.training_state import StateFiles, collect_state, restore_state
from models.answer_sequences import answer_log_probs, token_entropies, token_log_probs
from models.precision import compute_in
from models.scalar_head import ScalarHead

log = get_logger(__name__)
CURVE_COLUMNS = (
    "step",
    "reward",
    "kl",
    "kl_coefficient",
    "clip_share",
    "entropy",
    "length",
    "finished",
    "policy_loss",
    "value_loss",
    "grad_norm",
)
STATS_SHARE = 4
"""Stats compare the first and the last 1 / 4 of the iterations: single ones are noisy."""


@dataclass(frozen=True)
class RolloutBatch:
    """A rollout with the value, advantage and return of each token."""

    rollout: Rollout
    values_ba: Tensor
    advantages_ba: Tensor
    returns_ba: Tensor


class PPOTrainer:
    """One PPO run, resumed from the last saved state of an earlier try.

    Args:
        config: rewards, sampling and optimisation.
        models: actor, reference and reward model.
        prompts: those that rollouts answer.
        judge: scores answers by the principles, and chooses the iteration that is kept.
        work: workdir of the stage; states lie in its scratch folder.
    """

    def __init__(
        self,
        config: PPOConfig,
        models: PPOModels,
        prompts: Sequence[QuestionPrompt],
        judge: RuleJudge,
        work: Workdir,
    ) -> None:
        self.config, self.models, self.prompts, self.work = config, models, prompts, work
        self.judge = judge
        self.start_judgements: tuple[float, ...] = ()
        """Judgements of the policy before the first iteration, one for each prompt held back."""
        self.best: BestPolicy | None = None
        self.value_head = ScalarHead(models.reward_model.trunk.shape.width)
        self.policy_optim = Optimiser(models.actor, config.optim)
        self.value_optim = Optimiser(self.value_head, config.value_optim)
        self.kl_controller = KLController(config.kl, config.kl.coefficient)
        self.states = StateFiles(work.scratch / "states")
        self.curve: list[list[float]] = []

    def train(self) -> None:
        """Run the remaining iterations and leave the actor with the weights judged best.

        Raises:
            AttemptFailed: a reward, a loss, a gradient or a weight is no number, or the judge
                failed.
        """
        keep_freed_memory()
        self._resume_state()
        config = self.config
        self.work.progress.start_count(config.iterations, "iterations", done=len(self.curve))
        with ThreadTuner(self.work) as threads:
            while len(self.curve) < config.iterations:
                self._run_iteration(threads)
        if self.best is not None:
            self.best.restore_into(self.models.actor)
        # No loss sees the weights of the last step, and without prompts held back no judge does.
        if not all(bool(p.isfinite().all()) for p in self.models.actor.parameters()):
            raise AttemptFailed("diverged", "a weight is no number after the last iteration")

    def write_curve(self) -> None:
        """Write ``curve.parquet``, a row for each iteration that ended well."""
        columns = list(zip(*self.curve, strict=True)) or [()] * len(CURVE_COLUMNS)
        table = pa.table(
            {
                name: pa.array(list(column), pa.float64())
                for name, column in zip(CURVE_COLUMNS, columns, strict=True)
            }
        )
        write_shard(self.work.folder / "curve.parquet", table)

    def _run_iteration(self, threads: ThreadTuner) -> None:
        """Run one iteration, on the quickest number of threads; judge and save when due."""
        config = self.config
        threads.settle_threads(len(self.curve))
        if not self.curve:
            self._judge_policy(0)
        began = time.perf_counter()
        self._learn_from_rollout(len(self.curve))
        threads.note_step(time.perf_counter() - began)
        row = dict(zip(CURVE_COLUMNS, self.curve[-1], strict=True))
        note = f"reward {row['reward']:.2f} · KL {row['kl']:.1f}"
        self.work.progress.advance(1, note=note)
        return_freed_memory()
        iterations = len(self.curve)
        if iterations % config.judge_every == 0 or iterations == config.iterations:
            self._judge_policy(iterations)
        if iterations % config.save_every == 0 and iterations < config.iterations:
            self._save_state()

    def stats(self) -> dict[str, float]:
        """Judged gain, mean rewards of the first and last quarter of iterations, last KL."""
        few = max(1, len(self.curve) // STATS_SHARE)
        first, last = self.curve[:few], self.curve[-few:]
        return {
            **self._judged_gain(),
            "iterations": float(len(self.curve)),
            "answers": float(len(self.curve) * self.config.answers),
            "reward_first": round(_column_mean(first, "reward"), 4),
            "reward_last": round(_column_mean(last, "reward"), 4),
            "kl_last": round(_column_mean(last, "kl"), 4),
            "entropy_last": round(_column_mean(last, "entropy"), 4),
        }

    def _judged_gain(self) -> dict[str, float]:
        """Judgement of the iteration kept less the start's; empty without prompts held back.

        Optimistic, since the iteration was chosen by it.
        """
        if self.best is None:
            return {}
        pairs = self.judge.pair_judgements(self.best.judgements, self.start_judgements)
        stats = {"judged_gain": round(math.fsum(pairs.gaps) / pairs.count, 4)}
        if pairs.pages > 1:
            gain, detectable = (
                pairs.difference("judged_gain"),
                pairs.detectable_effect("judged_gain"),
            )
            stats["judged_gain_low"], stats["judged_gain_high"] = (
                round(end, 4) for end in (gain.low, gain.high)
            )
            stats["detectable"] = round(detectable, 4)
            log.info(
                "ppo: of iteration %d the principles say %+.4f [%+.4f, %+.4f], over %d prompts of "
                "%d pages; the least gain that such a comparison sees is %.4f",
                *(self.best.iteration, gain.value, gain.low, gain.high),
                *(pairs.count, pairs.pages, detectable),
            )
        return {
            **stats,
            "judged": round(self.best.mean_judgement, 4),
            "kept_iteration": float(self.best.iteration),
        }

    def _judge_policy(self, done: int) -> None:
        """Keep the policy after ``done`` iterations where it is judged better than the best."""
        if not self.judge.prompts:
            return
        judgements = self.judge.judge_policy(self.models.actor)
        if not done:
            self.start_judgements = judgements
        if self.best is None or math.fsum(judgements) > math.fsum(self.best.judgements):
            self.best = BestPolicy.snapshot(done, judgements, self.models.actor)

    def _learn_from_rollout(self, iteration: int) -> None:
        config = self.config
        # Below 2**24 iterations no two runs of different seeds share random numbers.
        generator = torch.Generator().manual_seed((config.seed << 24) + iteration)
        rollout = sample_rollout(
            config, self.models, self.judge, self._next_prompts(iteration), generator
        )
        batch = self._estimate_advantages(rollout)
        steps = [
            self._train_minibatch(batch, rows, iteration) for rows in self._minibatches(generator)
        ]
        clip_share, policy, value, norm = (
            math.fsum(column) / len(steps) for column in zip(*steps, strict=True)
        )
        self.curve.append(
            [
                float(iteration),
                float(rollout.scores_b.mean()),
                rollout.mean_kl,
                self.kl_controller.coefficient,
                clip_share,
                rollout.mean_entropy,
                rollout.mean_length,
                float(rollout.finished_b.float().mean()),
                policy,
                value,
                norm,
            ]
        )
        self.kl_controller = self.kl_controller.updated(rollout.mean_kl)

    def _next_prompts(self, iteration: int) -> list[QuestionPrompt]:
        """Prompts of one rollout, each ``samples`` times; the list begins again where it ends."""
        config = self.config
        start = iteration * (config.answers // config.kept_samples)
        numbers = range(start, start + config.answers // config.kept_samples)
        prompts = [self.prompts[number % len(self.prompts)] for number in numbers]
        return [prompt for prompt in prompts for _ in range(config.samples)]

    def _estimate_advantages(self, rollout: Rollout) -> RolloutBatch:
        config, mask_ba = self.config, rollout.mask_ba
        with torch.no_grad():
            values_ba = self.value_head(rollout.value_features_bac) * mask_ba
        scores_b = subtract_leave_one_out_baseline(rollout.scores_b, rollout.prompt_index_b)
        rewards_ba = token_rewards(scores_b, mask_ba)
        advantages_ba, returns_ba = generalised_advantages(
            rewards_ba, values_ba, mask_ba, config.discount, config.decay
        )
        return RolloutBatch(
            rollout, values_ba, whiten_advantages(advantages_ba, mask_ba), returns_ba
        )

    def _minibatches(self, generator: torch.Generator) -> Iterator[Tensor]:
        for _ in range(self.config.epochs):
            order = torch.randperm(self.config.answers, generator=generator)
            yield from torch.split(order, self.config.batch)

    def _train_minibatch(
        self, batch: RolloutBatch, rows: Tensor, iteration: int
    ) -> tuple[float, float, float, float]:
        """Step policy and value head: (clip share, both losses, the policy's gradient norm)."""
        config, rollout = self.config, batch.rollout
        mask_ba = rollout.mask_ba[rows]
        sequences = rollout.sequences.pick(rows)
        with compute_in(self.models.actor, config.precision):
            scores_nv = answer_log_probs(self.models.actor, sequences, config.temperature)
            loss, clip_share = clipped_policy_loss(
                token_log_probs(scores_nv, sequences.answers_n),
                rollout.logprobs_ba[rows][mask_ba],
                batch.advantages_ba[rows][mask_ba],
                config.clip,
            )
            with torch.no_grad():
                reference_nv = answer_log_probs(
                    self.models.reference, sequences, config.temperature
                )
            kl_n = (scores_nv.exp() * (scores_nv - reference_nv)).sum(-1)
            loss = loss + self.kl_controller.coefficient * kl_n.mean()
            if config.entropy:
                loss = loss - config.entropy * token_entropies(scores_nv).mean()
            loss.backward()  # type: ignore[no-untyped-call]
        value_error = clipped_value_loss(
            self.value_head(rollout.value_features_bac[rows][mask_ba]),
            batch.values_ba[rows][mask_ba],
            batch.returns_ba[rows][mask_ba],
            config.value_clip,
        )
        value_error.backward()  # type: ignore[no-untyped-call]
        norm = self._step_optimisers(iteration, float(loss.detach()), float(value_error.detach()))
        return clip_share, float(loss.detach()), float(value_error.detach()), norm

    def _step_optimisers(self, iteration: int, loss: float, value_error: float) -> float:
        norms = self.policy_optim.clip(), self.value_optim.clip()
        if not all(math.isfinite(figure) for figure in (loss, value_error, *norms)):
            raise AttemptFailed(
                "diverged",
                f"iteration {iteration} broke (policy loss {loss}, value loss {value_error}, "
                f"gradient norm {norms[0]}): lower ppo.optim.adam_lr or ppo.kl.target",
            )
        factor = rate_factor(iteration, self.config.iterations, self.config.schedule)
        for optimiser in (self.policy_optim, self.value_optim):
            optimiser.step(factor)
            optimiser.zero_grad()
        return norms[0]

    def _save_state(self) -> None:
        tensors = {f"policy:{k}": t for k, t in self._policy_state().items()}
        tensors |= {f"value:{k}": t for k, t in self._value_state().items()}
        tensors["curve"] = torch.tensor(self.curve, dtype=torch.float64)
        # JSON keeps a float to the last bit
        meta: dict[str, float] = {"coefficient": self.kl_controller.coefficient}
        if self.best is not None:
            tensors |= {f"best:{k}": t for k, t in self.best.weights.items()}
            judged = [self.start_judgements, self.best.judgements]
            tensors["judged"] = torch.tensor(judged, dtype=torch.float64)
            meta["best"] = self.best.iteration
        self.states.save(len(self.curve), tensors, meta)

    def _policy_state(self) -> dict[str, Tensor]:
        return collect_state({"model": self.models.actor}, self.policy_optim)

    def _value_state(self) -> dict[str, Tensor]:
        return collect_state({"model": self.value_head}, self.value_optim)

    def _resume_state(self) -> None:
        saved = self.states.latest()
        if saved is None:
            return
        restore_state(
            _with_prefix(saved.tensors, "policy:"), {"model": self.models.actor}, self.policy_optim
        )
        restore_state(
            _with_prefix(saved.tensors, "value:"), {"model": self.value_head}, self.value_optim
        )
        self.curve = saved.tensors["curve"].tolist()
        if "best" in saved.meta:
            weights = _with_prefix(saved.tensors, "best:")
            before, judged = saved.tensors["judged"].tolist()
            self.start_judgements = tuple(before)
            self.best = BestPolicy(int(saved.meta["best"]), tuple(judged), weights)
        self.kl_controller = KLController(self.config.kl, float(saved.meta["coefficient"]))
        if self.curve:
            self.work.progress.note_resumed(f"at iteration {len(self.curve)}")


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _column_mean(rows: Sequence[Sequence[float]], name: str) -> float:
    at = CURVE_COLUMNS.index(name)
    return math.fsum(row[at] for row in rows) / len(rows)
