"""Expected time of a stage: from its own past, else from the measured speed of this machine,
and of a crawl from the pauses between its requests.

A past run is scaled by the operations that both come to, so that other steps, another batch or
another shape count. Where there is none, operations are divided by the speed that set-up measured
or a training reached (``components/core/training_speed.py``). Where nothing tells, nothing is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from components.align.ppo_config import PPOConfig
from components.align.preferences import PreferencesConfig
from components.align.reward_model import RewardConfig
from components.collect.docsite.documentation_site import SiteConfig
from components.collect.scrape import WEB_DELAY_SECONDS, ScrapeConfig
from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Instructions
from components.core.training_speed import Speeds
from components.evaluate.bits_per_byte import LossConfig
from components.evaluate.compare_policies import CompareConfig
from components.evaluate.exact_facts import FactsConfig
from components.evaluate.four_choice import ChoiceConfig
from components.evaluate.keep_best import KeepBestConfig
from components.evaluate.safety import SafetyConfig
from components.train.adapt import AdaptConfig
from components.train.budget.flop_count import flops_per_token
from components.train.budget.minutes_budget import PROBES, WARM_UPS, MinutesBudget
from components.train.distill import DistillConfig
from components.train.pretrain_config import PretrainConfig
from components.train.sft import FinetuneConfig
from flows.runner.past_runs import UNKNOWN, History, budget_seconds, scaled
from models.shape import DecoderShape

Origin = Literal["history", "minutes", "speed", "pauses"]
Timed = PretrainConfig | FinetuneConfig | AdaptConfig | DistillConfig

EXAMPLE_TOKENS = 39.0
"""Tokens of an example of fine-tuning, padding included: three epochs of 21,519 examples of the
embedded documentation were 1,206 steps of 2,048."""
EMBEDDED_EXAMPLES = 21_500
"""Examples of fine-tuning that the whole embedded documentation gives."""
POSITIONS = 64
"""Positions of an example of fine-tuning or of an answer, for its attention."""

# What else uses the model, as tokens of its training that take as long: a token read, a question
# with four choices, an answer sampled, one that PPO learns from (an epoch), one that the reward
# model is fitted to. From two whole runs of `tiny`, on two cores each. Native bfloat16 speeds up a
# training more than a decoding: an answer cost 24 to 30 tokens without it and 84 to 100 with it, so
# these are the means of both.
LOSS_TOKENS, CHOICE_TOKENS, ANSWER_TOKENS = 0.5, 55.0, 45.0
LEARNT_TOKENS, REWARD_TOKENS = 120.0, 25.0
HALF_QUESTIONS = 1040
"""Held-out questions of the embedded documentation that choose, and as many that report."""
FACTS_A_QUESTION = 2 * 3
"""Kinds of fact and groups of pages, each of which is asked for the config's number of facts."""
COMPARED = 2
"""Models that are compared: the one that is kept, and what came after or before it."""


@dataclass(frozen=True)
class Amounts:
    """What other stages of a run say about the work of one."""

    shape: DecoderShape | None = None
    """Of the model that the run trains."""
    teacher: DecoderShape | None = None
    """Of the model that teaches it, in a distillation."""
    examples: float | None = None
    """Examples to fine-tune on."""
    answers: float = float(PreferencesConfig().questions * PreferencesConfig().answers)
    """Answers that the reward model learns from."""
    steps: float | None = None
    """Steps that a past training took, whatever its budget was."""


class Expectation:
    """Goes along with a plan, step by step, since one stage's config tells of another's work."""

    def __init__(self, history: History, speeds: Speeds | None = None) -> None:
        self.speeds = speeds or Speeds()
        self._history = history
        self.amounts = Amounts()

    def look_at(self, config: StageConfig, inputs: Mapping[str, Any]) -> None:
        """Take notice of what a step says about those behind it."""
        shape, examples, answers = self.amounts.shape, self.amounts.examples, self.amounts.answers
        if isinstance(config, PretrainConfig):
            shape = None if config.autopilot else config.shape
        elif isinstance(config, PreferencesConfig):
            answers = float(config.questions * config.answers)
        elif isinstance(config, ScrapeConfig) and _whole_site(config):
            examples = float(EMBEDDED_EXAMPLES)
        known = inputs.get("instructions")
        if isinstance(known, Instructions) and known.digest != UNKNOWN:
            examples = known.stats.get("train", examples)
        self.amounts = Amounts(shape, None, examples, answers)

    def seconds(
        self, config: StageConfig, nearest: Mapping[str, Any] | None
    ) -> tuple[float | None, Origin | None]:
        """Seconds that a stage will take, and what says so; (None, None) where nothing does.

        Args:
            nearest: manifest of the most similar earlier result.
        """
        values = config.model_dump(mode="json")
        minutes = budget_seconds(values)
        last = self._history.seconds(nearest) if did_its_work(nearest) else None
        if isinstance(config, ScrapeConfig) and nearest is not None:
            known = nearest.get("config", {})
            if any(known.get(source) != values[source] for source in ("seeds", "files")):
                last = None  # of other pages, which tells nothing of these
        if last is not None and nearest is not None:
            times = None if minutes is not None else self._times_the_work(nearest, config)
            if times is not None:
                return last * times, "history"
            return scaled(last, nearest.get("config", {}), values), "history"
        if minutes is not None:
            return minutes, "minutes"
        if isinstance(config, ScrapeConfig):
            least = _crawl_pauses(config)
            return least, None if least is None else "pauses"
        expected = self._at_speed(config, self.amounts)
        return expected, None if expected is None else "speed"

    def minutes_budget(self, stage: str, config: StageConfig) -> MinutesBudget | None:
        """Minutes that ``config`` gives, in steps; None where it counts, or no speed is known."""
        if not isinstance(config, Timed) or not is_timed(config):
            return None
        shape = trained_shape(config, self.amounts.shape)
        step = step_operations(config, self.amounts)
        rate = self._rate(config, shape)
        if step is None or rate is None or config.minutes is None:
            return None
        seconds, most = step / rate, None
        if isinstance(config, FinetuneConfig) and self.amounts.examples is not None:
            most = max(1, round(_epochs_steps(config, self.amounts.examples)))
        kinds = 2 if isinstance(config, PretrainConfig) else 1  # of steps, each of them probed
        probe = kinds * (WARM_UPS + PROBES) * seconds
        return MinutesBudget(stage, config.minutes, seconds, config.min_steps, probe, most)

    def _times_the_work(self, nearest: Mapping[str, Any], config: StageConfig) -> float | None:
        """How many times the work of an earlier result this will be, speeds of sizes included."""
        try:
            before = type(config).model_validate(nearest.get("config", {}))
        except ValidationError:  # of a former version
            return None
        stats = nearest["artifact"]["stats"]
        old = replace(
            self.amounts,
            shape=self._history.shape_of(nearest) or self.amounts.shape,
            examples=stats.get("examples", self.amounts.examples),
            steps=stats.get("steps"),
        )
        now = self.amounts
        if now.examples is None:  # the pages of then, as far as anything tells
            now = replace(now, examples=old.examples)
        expected, took = operations(config, now), operations(before, old)
        if expected is None or not took:
            return None
        speed = self._rate(config, trained_shape(config, now.shape))
        former = self._rate(before, trained_shape(before, old.shape))
        return expected / took * (former / speed if speed and former else 1.0)

    def _at_speed(self, config: StageConfig, amounts: Amounts) -> float | None:
        shape = trained_shape(config, amounts.shape)
        work, rate = operations(config, amounts), self._rate(config, shape)
        return None if work is None or rate is None else work / rate

    def _rate(self, config: StageConfig, shape: DecoderShape | None) -> float | None:
        if shape is None:
            return None
        device, precision = (getattr(config, name, "auto") for name in ("device", "precision"))
        return self.speeds.operations_per_second(shape.parameters, device, precision)


def _crawl_pauses(config: ScrapeConfig) -> float | None:
    """Seconds that the pauses between requests take if there are ``max_pages``.

    None where no pause is kept, or an earlier crawl tells of the pages.
    """
    delay = WEB_DELAY_SECONDS if config.delay_seconds is None else config.delay_seconds
    if config.source != "web" or not delay or config.previous or config.repeats:
        return None
    return delay * min(config.max_pages / len(config.web_hosts), config.max_pages_per_host)


def did_its_work(manifest: Mapping[str, Any] | None) -> bool:
    """Whether an earlier result took the time that its stage takes: an attempt that returned its
    start, and a comparison of a model with itself, tell nothing of the next one.
    """
    stats = {} if manifest is None else manifest["artifact"]["stats"]
    idle = stats.keys() & {"too_few", "diverged", "judge_failed"}
    return not idle and stats.get("examined", 1) > 0 and stats.get("models", COMPARED) == COMPARED


def is_timed(config: Timed) -> bool:
    """Whether minutes decide how many steps are taken of a shape that is known."""
    if isinstance(config, PretrainConfig):
        return config.counted_steps is None and not config.autopilot
    return config.steps is None and config.minutes is not None


def trained_shape(config: StageConfig, shape: DecoderShape | None) -> DecoderShape | None:
    """The shape of the model that learns: the config's own, else ``shape``."""
    return config.shape if isinstance(config, PretrainConfig | DistillConfig) else shape


def step_operations(config: Timed, amounts: Amounts) -> float | None:
    """Floating-point operations of a training step; None where the shape is not known."""
    if isinstance(config, PretrainConfig):
        return config.step_operations
    shape = trained_shape(config, amounts.shape)
    if shape is None:
        return None
    if isinstance(config, FinetuneConfig):
        return config.batch * flops_per_token(shape, POSITIONS)
    a_token = flops_per_token(shape, config.positions)
    if isinstance(config, DistillConfig) and amounts.teacher is not None:
        a_token += flops_per_token(amounts.teacher, config.positions) / 3.0  # it only reads
    return config.batch * a_token


def operations(config: StageConfig, amounts: Amounts) -> float | None:
    """Operations of training that take as long as a whole stage; None where that is not known."""
    if isinstance(config, Timed):
        step = step_operations(config, amounts)
        steps = amounts.steps or _steps(config, amounts)
        return None if step is None or steps is None else steps * step
    tokens = _tokens(config, amounts)
    if tokens is None or amounts.shape is None:
        return None
    return tokens * flops_per_token(amounts.shape, POSITIONS)


def _steps(config: Timed, amounts: Amounts) -> float | None:
    if isinstance(config, PretrainConfig):
        return config.counted_steps
    if isinstance(config, FinetuneConfig) and config.steps is None and config.minutes is None:
        if amounts.examples is None:
            return None
        return _epochs_steps(config, amounts.examples)
    return config.steps


def _epochs_steps(config: FinetuneConfig, examples: float) -> float:
    """Steps of all epochs, with those that replay page text between them."""
    return config.epochs * examples * EXAMPLE_TOKENS / config.batch / (1.0 - config.replay)


def _tokens(config: StageConfig, amounts: Amounts) -> float | None:
    if isinstance(config, LossConfig):
        return LOSS_TOKENS * config.most_tokens
    if isinstance(config, ChoiceConfig):
        return CHOICE_TOKENS * config.questions
    if isinstance(config, PreferencesConfig):
        return ANSWER_TOKENS * config.answers * (config.questions + config.heldout_questions)
    if isinstance(config, RewardConfig):
        return REWARD_TOKENS * amounts.answers
    if isinstance(config, PPOConfig):
        return config.iterations * _iteration_tokens(config)
    if isinstance(config, SafetyConfig):
        return ANSWER_TOKENS * (config.questions + config.probe_samples * len(config.probes))
    if isinstance(config, FactsConfig):
        return ANSWER_TOKENS * FACTS_A_QUESTION * config.facts
    if isinstance(config, CompareConfig | KeepBestConfig):
        judged = ANSWER_TOKENS * config.draws * (config.questions or HALF_QUESTIONS)
        if isinstance(config, CompareConfig):
            return COMPARED * judged
        others = (config.choice, config.facts, config.safety)
        asked = [_tokens(other, amounts) or 0.0 for other in others]
        return COMPARED * (judged + sum(asked))
    return None


def _iteration_tokens(config: PPOConfig) -> float:
    sampled = config.answers * config.samples / config.kept
    judged = config.judged * config.judged_draws / config.judge_every
    return ANSWER_TOKENS * (sampled + judged) + LEARNT_TOKENS * config.answers * config.epochs


def _whole_site(config: ScrapeConfig) -> bool:
    return not config.seeds and not config.files and config.embedded == SiteConfig()
