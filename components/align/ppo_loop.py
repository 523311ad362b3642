"""The loop of PPO: roll out, learn, note, save; the same bytes whether or not it was killed.

What is random (questions, sampling, order) is a function of the seed and the iteration; the rest
of the state is in ``Checkpoints``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor

from components.align.advantages import KLController, against_others, gae, token_rewards, whiten
from components.align.attempt import AttemptFailed
from components.align.ppo_config import PPOConfig
from components.align.ppo_objective import policy_loss, value_loss
from components.align.rollout import Players, Rollout, roll_out
from components.align.rule_judge import Best, Jury
from components.core.log import get_logger
from components.core.process.thread_tuning import Threads
from components.core.store.shards import write_shard
from components.core.store.workdir import Workdir
from components.text.chat.ask_model import Asked
from components.train.budget.memory_reuse import hand_back_memory, keep_freed_memory
from components.train.trainer.learning_rate import rate_factor
from components.train.trainer.optimizer import Optimiser
from components.train.trainer.training_state import Checkpoints, collect, restore
from models.answer_sequences import answer_scores, entropies, taken
from models.precision import computing
from models.scalar_head import ScalarHead

log = get_logger(__name__)
CURVE = (
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
QUARTER = 4


@dataclass(frozen=True)
class Lesson:
    """A rollout with what each token was worth."""

    rollout: Rollout
    values_ba: Tensor
    advantages_ba: Tensor
    returns_ba: Tensor


class Learning:
    """One PPO run, from wherever an earlier try left it."""

    def __init__(
        self,
        config: PPOConfig,
        players: Players,
        asked: Sequence[Asked],
        jury: Jury,
        work: Workdir,
    ) -> None:
        self.config, self.players, self.asked, self.work = config, players, asked, work
        self.jury = jury
        self.before: tuple[float, ...] = ()
        """The judgement of the policy it starts from, a prompt kept back each."""
        self.best: Best | None = None
        self.value = ScalarHead(players.reward.trunk.shape.width)
        self.policy_optim = Optimiser(players.policy, config.optim)
        self.value_optim = Optimiser(self.value, config.value_optim)
        self.controller = KLController(config.kl, config.kl.coefficient)
        self.states = Checkpoints(work.scratch / "states")
        self.curve: list[list[float]] = []

    def run(self) -> None:
        """Every iteration that is left; the policy is then the one judged best.

        Raises:
            AttemptFailed: a reward, a loss, a gradient or a weight is no number, or the judge
                failed.
        """
        keep_freed_memory()
        self._resume()
        config = self.config
        self.work.progress.start(config.iterations, "iterations", done=len(self.curve))
        with Threads(self.work) as threads:
            while len(self.curve) < config.iterations:
                self._advance(threads)
        if self.best is not None:
            self.best.put_back(self.players.policy)
        # the last step is looked at by no loss, and where nothing is judged by nobody else
        if not all(bool(p.isfinite().all()) for p in self.players.policy.parameters()):
            raise AttemptFailed("diverged", "a weight is no number after the last iteration")

    def write_curve(self) -> None:
        """Write ``curve.parquet``, a row for each iteration that ended well."""
        columns = list(zip(*self.curve, strict=True)) or [()] * len(CURVE)
        table = pa.table(
            {
                name: pa.array(list(column), pa.float64())
                for name, column in zip(CURVE, columns, strict=True)
            }
        )
        write_shard(self.work.folder / "curve.parquet", table)

    def _advance(self, threads: Threads) -> None:
        """One iteration with all that follows it, on the threads that are quickest."""
        config = self.config
        threads.settle(len(self.curve))
        if not self.curve:
            self._judge(0)
        began = time.perf_counter()
        self._iterate(len(self.curve))
        threads.note(time.perf_counter() - began)
        row = dict(zip(CURVE, self.curve[-1], strict=True))
        note = f"reward {row['reward']:.2f} · KL {row['kl']:.1f}"
        self.work.progress.advance(1, note=note)
        hand_back_memory()
        done = len(self.curve)
        if done % config.judge_every == 0 or done == config.iterations:
            self._judge(done)
        if done % config.save_every == 0 and done < config.iterations:
            self._save()

    def stats(self) -> dict[str, float]:
        """Gain by the principles, rewards of the first and last quarter of iterations, last KL."""
        few = max(1, len(self.curve) // QUARTER)
        first, last = self.curve[:few], self.curve[-few:]
        return {
            **self._gain(),
            "iterations": float(len(self.curve)),
            "answers": float(len(self.curve) * self.config.answers),
            "reward_first": round(_mean(first, "reward"), 4),
            "reward_last": round(_mean(last, "reward"), 4),
            "kl_last": round(_mean(last, "kl"), 4),
            "entropy_last": round(_mean(last, "entropy"), 4),
        }

    def _gain(self) -> dict[str, float]:
        """Judgement of the iteration kept against the start, which it was chosen for: it flatters.

        Empty where no prompt was kept back.
        """
        if self.best is None:
            return {}
        pairs = self.jury.pair(self.best.judged, self.before)
        stats = {"judged_gain": round(math.fsum(pairs.gaps) / pairs.count, 4)}
        if pairs.pages > 1:
            gain, least = pairs.difference("judged_gain"), pairs.detectable("judged_gain")
            stats["judged_gain_low"], stats["judged_gain_high"] = (
                round(end, 4) for end in (gain.low, gain.high)
            )
            stats["detectable"] = round(least, 4)
            log.info(
                "ppo: of iteration %d the principles say %+.4f [%+.4f, %+.4f], over %d prompts of "
                "%d pages; the least gain that such a comparison sees is %.4f",
                *(self.best.iteration, gain.value, gain.low, gain.high),
                *(pairs.count, pairs.pages, least),
            )
        return {
            **stats,
            "judged": round(self.best.mean, 4),
            "kept_iteration": float(self.best.iteration),
        }

    def _judge(self, done: int) -> None:
        """Keep the policy after ``done`` iterations where it is judged better than before."""
        if not self.jury.asked:
            return
        judged = self.jury.judge_policy(self.players.policy)
        if not done:
            self.before = judged
        if self.best is None or math.fsum(judged) > math.fsum(self.best.judged):
            self.best = Best.of(done, judged, self.players.policy)

    def _iterate(self, iteration: int) -> None:
        config = self.config
        generator = torch.Generator().manual_seed((config.seed << 24) + iteration)
        rollout = roll_out(config, self.players, self.jury, self._questions(iteration), generator)
        lesson = self._lesson(rollout)
        steps = [self._learn(lesson, rows, iteration) for rows in self._batches(generator)]
        clip_share, policy, value, norm = (
            math.fsum(column) / len(steps) for column in zip(*steps, strict=True)
        )
        self.curve.append(
            [
                float(iteration),
                float(rollout.scores_b.mean()),
                rollout.kl,
                self.controller.coefficient,
                clip_share,
                rollout.entropy,
                rollout.length,
                float(rollout.finished_b.float().mean()),
                policy,
                value,
                norm,
            ]
        )
        self.controller = self.controller.after(rollout.kl)

    def _questions(self, iteration: int) -> list[Asked]:
        """The next questions; the list begins again where it ends."""
        config = self.config
        start = iteration * (config.answers // config.kept)
        numbers = range(start, start + config.answers // config.kept)
        asked = [self.asked[number % len(self.asked)] for number in numbers]
        return [one for one in asked for _ in range(config.samples)]

    def _lesson(self, rollout: Rollout) -> Lesson:
        config, mask_ba = self.config, rollout.mask_ba
        with torch.no_grad():
            values_ba = self.value(rollout.features_bac) * mask_ba
        scores_b = against_others(rollout.scores_b, rollout.questions_b)
        rewards_ba = token_rewards(scores_b, mask_ba)
        advantages_ba, returns_ba = gae(
            rewards_ba, values_ba, mask_ba, config.discount, config.decay
        )
        return Lesson(rollout, values_ba, whiten(advantages_ba, mask_ba), returns_ba)

    def _batches(self, generator: torch.Generator) -> Iterator[Tensor]:
        for _ in range(self.config.epochs):
            order = torch.randperm(self.config.answers, generator=generator)
            yield from torch.split(order, self.config.batch)

    def _learn(
        self, lesson: Lesson, rows: Tensor, iteration: int
    ) -> tuple[float, float, float, float]:
        """One step of policy and value: (clip share, both losses, the policy's gradient norm)."""
        config, rollout = self.config, lesson.rollout
        mask_ba = rollout.mask_ba[rows]
        sequences = rollout.sequences.pick(rows)
        with computing(self.players.policy, config.precision):
            scores_nv = answer_scores(self.players.policy, sequences, config.temperature)
            loss, clip_share = policy_loss(
                taken(scores_nv, sequences.answers_n),
                rollout.logprobs_ba[rows][mask_ba],
                lesson.advantages_ba[rows][mask_ba],
                config.clip,
            )
            with torch.no_grad():
                reference_nv = answer_scores(self.players.reference, sequences, config.temperature)
            kl_n = (scores_nv.exp() * (scores_nv - reference_nv)).sum(-1)
            loss = loss + self.controller.coefficient * kl_n.mean()
            if config.entropy:
                loss = loss - config.entropy * entropies(scores_nv).mean()
            loss.backward()  # type: ignore[no-untyped-call]
        error = value_loss(
            self.value(rollout.features_bac[rows][mask_ba]),
            lesson.values_ba[rows][mask_ba],
            lesson.returns_ba[rows][mask_ba],
            config.value_clip,
        )
        error.backward()  # type: ignore[no-untyped-call]
        norm = self._step(iteration, float(loss.detach()), float(error.detach()))
        return clip_share, float(loss.detach()), float(error.detach()), norm

    def _step(self, iteration: int, loss: float, error: float) -> float:
        norms = self.policy_optim.clip(), self.value_optim.clip()
        if not all(math.isfinite(figure) for figure in (loss, error, *norms)):
            raise AttemptFailed(
                "diverged",
                f"iteration {iteration} broke (policy loss {loss}, value loss {error}, gradient "
                f"norm {norms[0]}): lower ppo.optim.adam_lr or ppo.kl.target",
            )
        factor = rate_factor(iteration, self.config.iterations, self.config.schedule)
        for optimiser in (self.policy_optim, self.value_optim):
            optimiser.step(factor)
            optimiser.zero_grad()
        return norms[0]

    def _save(self) -> None:
        tensors = {f"policy:{k}": t for k, t in self._policy_state().items()}
        tensors |= {f"value:{k}": t for k, t in self._value_state().items()}
        tensors["curve"] = torch.tensor(self.curve, dtype=torch.float64)
        # JSON keeps a float to the last bit
        meta: dict[str, float] = {"coefficient": self.controller.coefficient}
        if self.best is not None:
            tensors |= {f"best:{k}": t for k, t in self.best.weights.items()}
            judged = [self.before, self.best.judged]
            tensors["judged"] = torch.tensor(judged, dtype=torch.float64)
            meta["best"] = self.best.iteration
        self.states.save(len(self.curve), tensors, meta)

    def _policy_state(self) -> dict[str, Tensor]:
        return collect({"model": self.players.policy}, self.policy_optim)

    def _value_state(self) -> dict[str, Tensor]:
        return collect({"model": self.value}, self.value_optim)

    def _resume(self) -> None:
        saved = self.states.latest()
        if saved is None:
            return
        restore(_part(saved.tensors, "policy:"), {"model": self.players.policy}, self.policy_optim)
        restore(_part(saved.tensors, "value:"), {"model": self.value}, self.value_optim)
        self.curve = saved.tensors["curve"].tolist()
        if "best" in saved.meta:
            weights = _part(saved.tensors, "best:")
            before, judged = saved.tensors["judged"].tolist()
            self.before = tuple(before)
            self.best = Best(int(saved.meta["best"]), tuple(judged), weights)
        self.controller = KLController(self.config.kl, float(saved.meta["coefficient"]))
        if self.curve:
            self.work.progress.resume(f"at iteration {len(self.curve)}")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _mean(rows: Sequence[Sequence[float]], name: str) -> float:
    at = CURVE.index(name)
    return math.fsum(row[at] for row in rows) / len(rows)
