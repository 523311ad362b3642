"""Expected time of a stage: from its own past, else from the measured speed of this machine;
of a crawl from the pauses between its requests.

The seconds of a past run are scaled by the ratio of floating-point operations, so that other
steps, another batch or another shape count. Without a past run, operations are divided by the
speed that set-up measured or a training reached (``components/core/training_speed.py``). Without
either there is no estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from components.align.ppo_config import PPOConfig
from components.align.preferences_config import PreferencesConfig
from components.align.train_reward import RewardConfig
from components.collect.docsite.documentation_site import SiteConfig
from components.collect.scrape import WEB_DELAY_SECONDS
from components.collect.scrape_config import ScrapeConfig
from components.core.config.stage_config import StageConfig
from components.core.store.artifact import UNKNOWN, Instructions
from components.core.training_speed import MeasuredSpeeds
from components.evaluate.bits_per_byte import LossConfig
from components.evaluate.compare_policies import CompareConfig
from components.evaluate.exact_facts import FactsConfig
from components.evaluate.four_choice import ChoiceConfig
from components.evaluate.keep_best import KeepBestConfig
from components.evaluate.safety import SafetyConfig
from components.export.hf.import_base import BaseConfig
from components.train.adapt import AdaptConfig
from components.train.budget.flop_count import flops_per_token
from components.train.budget.minutes_budget import PROBE_STEPS, WARM_UP_STEPS, MinutesBudget
from components.train.distill import DistillConfig
from components.train.pretrain_config import PretrainConfig
from components.train.sft import FinetuneConfig
from flows.runner.past_runs import RunHistory, budget_seconds, scale_seconds
from models.shape import DecoderShape

EstimateSource = Literal["history", "minutes", "speed", "pauses"]
BudgetedConfig = PretrainConfig | FinetuneConfig | AdaptConfig | DistillConfig

EXAMPLE_TOKENS = 39.0
"""Tokens of an example of fine-tuning, padding included: three epochs of 21,519 examples of the
embedded documentation were 1,206 steps of 2,048."""
EMBEDDED_EXAMPLES = 21_500
"""Examples of fine-tuning that are made from the whole embedded documentation."""
EXAMPLE_POSITIONS = 64
"""Tokens of context that attention covers in an example of fine-tuning or in an answer."""

# Other uses of the model, each as the number of training tokens that take as long: a token read,
# a question with four choices, an answer sampled, one that PPO learns from (an epoch), one that the
# reward model is fitted to. From two whole runs of `tiny`, on two cores each. Native bfloat16
# speeds up a training more than a decoding: an answer cost 24 to 30 tokens without it and 84 to 100
# with it, so these are the means of both.
LOSS_TOKENS, CHOICE_TOKENS, ANSWER_TOKENS = 0.5, 55.0, 45.0
LEARNT_TOKENS, REWARD_TOKENS = 120.0, 25.0
HALF_QUESTIONS = 1040
"""Held-out questions of the embedded documentation that choose a model; as many report on it."""
FACTS_A_QUESTION = 2 * 3
"""Kinds of fact and groups of pages, each of which is asked for the config's number of facts."""
MODELS_COMPARED = 2
"""Models in a comparison: the one that is kept, and its predecessor or successor."""


@dataclass(frozen=True)
class WorkAmounts:
    """Amounts that one stage of a run sets for the work of the others."""

    shape: DecoderShape | None = None
    """Shape of the model that the run trains."""
    teacher: DecoderShape | None = None
    """Shape of the teacher, in a distillation."""
    examples: float | None = None
    """Number of examples to fine-tune on."""
    answers: float = float(PreferencesConfig().questions * PreferencesConfig().answers)
    """Number of answers that the reward model learns from."""
    steps: float | None = None
    """Steps that a past training took, whatever its budget."""


class TimeEstimator:
    """Estimator of stage times that follows a plan step by step.

    One stage's config sets the amount of another's work: the shape of pretraining, the questions
    of the preferences.

    Args:
        history: earlier results and run records.
        speeds: measured speeds of this machine; none by default.
    """

    def __init__(self, history: RunHistory, speeds: MeasuredSpeeds | None = None) -> None:
        self.speeds = speeds or MeasuredSpeeds()
        self._history = history
        self.amounts = WorkAmounts()

    def note_step(self, config: StageConfig, inputs: Mapping[str, Any]) -> None:
        """Record the amounts that a step sets for those behind it."""
        shape, examples, answers = self.amounts.shape, self.amounts.examples, self.amounts.answers
        if isinstance(config, PretrainConfig):
            shape = None if config.autopilot else config.shape
        elif isinstance(config, BaseConfig):
            shape = config.read_shape()
        elif isinstance(config, PreferencesConfig):
            answers = float(config.questions * config.answers) if config.principles else 0.0
        elif isinstance(config, ScrapeConfig) and _is_whole_site(config):
            examples = float(EMBEDDED_EXAMPLES)
        instructions = inputs.get("instructions")
        if isinstance(instructions, Instructions) and instructions.digest != UNKNOWN:
            counts = [instructions.stats.get(name) for name in ("train", "train_conversations")]
            known = [count for count in counts if count is not None]
            examples = sum(known) if known else examples
        self.amounts = WorkAmounts(shape, None, examples, answers)

    def estimate_seconds(
        self, config: StageConfig, nearest: Mapping[str, Any] | None
    ) -> tuple[float | None, EstimateSource | None]:
        """Expected seconds of a stage, and the source of the estimate; (None, None) without one.

        Args:
            config: config with which the stage is about to run.
            nearest: manifest of the most similar earlier result.
        """
        values = config.model_dump(mode="json")
        minutes = budget_seconds(values)
        last = self._history.seconds_of(nearest) if is_representative(nearest) else None
        if isinstance(config, ScrapeConfig) and nearest is not None:
            former = nearest.get("config", {})
            if any(former.get(source) != values[source] for source in ("seeds", "files")):
                last = None  # a crawl of other pages is no estimate for these
        if last is not None and nearest is not None:
            ratio = None if minutes is not None else self._work_ratio(nearest, config)
            if ratio is not None:
                return last * ratio, "history"
            return scale_seconds(last, nearest.get("config", {}), values), "history"
        if minutes is not None:
            return minutes, "minutes"
        if isinstance(config, ScrapeConfig):
            least = _crawl_pauses(config)
            return least, None if least is None else "pauses"
        expected = self._seconds_at_speed(config, self.amounts)
        return expected, None if expected is None else "speed"

    def minutes_budget(self, stage: str, config: StageConfig) -> MinutesBudget | None:
        """Steps that the minutes of ``config`` come to; None without minutes or a known speed."""
        if not isinstance(config, BudgetedConfig) or not has_minutes_budget(config):
            return None
        shape = trained_shape(config, self.amounts.shape)
        step = step_operations(config, self.amounts)
        rate = self._operations_per_second(config, shape)
        if step is None or rate is None or config.minutes is None:
            return None
        seconds, most = step / rate, None
        if isinstance(config, FinetuneConfig) and self.amounts.examples is not None:
            most = max(1, round(_steps_of_epochs(config, self.amounts.examples)))
        kinds = 2 if isinstance(config, PretrainConfig) else 1  # of steps, each of them probed
        probe = kinds * (WARM_UP_STEPS + PROBE_STEPS) * seconds
        return MinutesBudget(stage, config.minutes, seconds, config.min_steps, probe, most)

    def _work_ratio(self, nearest: Mapping[str, Any], config: StageConfig) -> float | None:
        """Ratio of this work to that of an earlier result, speeds of the two sizes included."""
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
        if now.examples is None:  # take the pages to be those of the earlier run
            now = replace(now, examples=old.examples)
        expected, former = training_operations(config, now), training_operations(before, old)
        if expected is None or not former:
            return None
        speed = self._operations_per_second(config, trained_shape(config, now.shape))
        former_speed = self._operations_per_second(before, trained_shape(before, old.shape))
        return expected / former * (former_speed / speed if speed and former_speed else 1.0)

    def _seconds_at_speed(self, config: StageConfig, amounts: WorkAmounts) -> float | None:
        shape = trained_shape(config, amounts.shape)
        work, rate = (
            training_operations(config, amounts),
            self._operations_per_second(config, shape),
        )
        return None if work is None or rate is None else work / rate

    def _operations_per_second(
        self, config: StageConfig, shape: DecoderShape | None
    ) -> float | None:
        if shape is None:
            return None
        device, precision = (getattr(config, name, "auto") for name in ("device", "precision"))
        return self.speeds.interpolate_speed(shape.parameters, device, precision)


def _crawl_pauses(config: ScrapeConfig) -> float | None:
    """Seconds that the pauses between requests take if there are ``max_pages``.

    None where no pause is kept, or an earlier crawl holds the pages.
    """
    delay = WEB_DELAY_SECONDS if config.delay_seconds is None else config.delay_seconds
    if config.source != "web" or not delay or config.previous or config.repeats:
        return None
    return delay * min(config.max_pages / len(config.web_hosts), config.max_pages_per_host)


def is_representative(manifest: Mapping[str, Any] | None) -> bool:
    """True if an earlier result took the time that its stage takes.

    An attempt that returned its start, and a comparison of a model with itself, did not.
    """
    stats = {} if manifest is None else manifest["artifact"]["stats"]
    idle = stats.keys() & {"too_few", "diverged", "judge_failed", "untrusted"}
    return (
        not idle
        and stats.get("examined", 1) > 0
        and stats.get("models", MODELS_COMPARED) == MODELS_COMPARED
    )


def has_minutes_budget(config: BudgetedConfig) -> bool:
    """True if minutes decide how many steps are taken, of a shape that is known."""
    if isinstance(config, PretrainConfig):
        return config.counted_steps is None and not config.autopilot
    return config.steps is None and config.minutes is not None


def trained_shape(config: StageConfig, shape: DecoderShape | None) -> DecoderShape | None:
    """Shape of the model that learns: the config's own, else ``shape``."""
    return config.shape if isinstance(config, PretrainConfig | DistillConfig) else shape


def step_operations(config: BudgetedConfig, amounts: WorkAmounts) -> float | None:
    """Floating-point operations of a training step; None where the shape is not known."""
    if isinstance(config, PretrainConfig):
        return config.step_operations
    shape = trained_shape(config, amounts.shape)
    if shape is None:
        return None
    if isinstance(config, FinetuneConfig):
        return config.batch * flops_per_token(shape, EXAMPLE_POSITIONS)
    token_operations = flops_per_token(shape, config.sequence_length)
    if isinstance(config, DistillConfig) and amounts.teacher is not None:
        token_operations += (
            flops_per_token(amounts.teacher, config.sequence_length) / 3.0
        )  # no backward pass
    return config.batch * token_operations


def training_operations(config: StageConfig, amounts: WorkAmounts) -> float | None:
    """Operations of training that take as long as the whole stage; None where unknown."""
    if isinstance(config, BudgetedConfig):
        step = step_operations(config, amounts)
        steps = amounts.steps or _training_steps(config, amounts)
        return None if step is None or steps is None else steps * step
    tokens = _equivalent_tokens(config, amounts)
    if tokens is None or amounts.shape is None:
        return None
    return tokens * flops_per_token(amounts.shape, EXAMPLE_POSITIONS)


def _training_steps(config: BudgetedConfig, amounts: WorkAmounts) -> float | None:
    if isinstance(config, PretrainConfig):
        return config.counted_steps
    if isinstance(config, FinetuneConfig) and config.steps is None and config.minutes is None:
        if amounts.examples is None:
            return None
        return _steps_of_epochs(config, amounts.examples)
    return config.steps


def _steps_of_epochs(config: FinetuneConfig, examples: float) -> float:
    """Steps of all epochs, with those that replay page text between them."""
    return config.epochs * examples * EXAMPLE_TOKENS / config.batch / (1.0 - config.replay)


def _equivalent_tokens(config: StageConfig, amounts: WorkAmounts) -> float | None:
    if isinstance(config, LossConfig):
        return LOSS_TOKENS * config.most_tokens
    if isinstance(config, ChoiceConfig):
        return CHOICE_TOKENS * config.questions
    if isinstance(config, PreferencesConfig):
        asked = config.questions + config.heldout_questions if config.principles else 0
        return ANSWER_TOKENS * config.answers * asked
    if isinstance(config, RewardConfig):
        return REWARD_TOKENS * amounts.answers
    if isinstance(config, PPOConfig):
        return config.iterations * _ppo_iteration_tokens(config)
    if isinstance(config, SafetyConfig):
        return ANSWER_TOKENS * (config.questions + config.probe_samples * len(config.probes))
    if isinstance(config, FactsConfig):
        return ANSWER_TOKENS * FACTS_A_QUESTION * config.facts
    if isinstance(config, CompareConfig | KeepBestConfig):
        judged = ANSWER_TOKENS * config.draws * (config.questions or HALF_QUESTIONS)
        if isinstance(config, CompareConfig):
            return MODELS_COMPARED * judged
        others = (config.choice, config.facts, config.safety)
        measured = [_equivalent_tokens(other, amounts) or 0.0 for other in others]
        return MODELS_COMPARED * (judged + sum(measured))
    return None


def _ppo_iteration_tokens(config: PPOConfig) -> float:
    sampled = config.answers * config.samples / config.kept_samples
    judged = config.judged * config.judged_draws / config.judge_every
    return ANSWER_TOKENS * (sampled + judged) + LEARNT_TOKENS * config.answers * config.epochs


def _is_whole_site(config: ScrapeConfig) -> bool:
    return not config.seeds and not config.files and config.embedded == SiteConfig()
