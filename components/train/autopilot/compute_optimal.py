"""Compute-optimal choice of shape, batch, rates and epochs for a budget, each with its reason.

Published rules; where they reach beyond what was measured here, the constants below say so:

* the loss of N parameters after D tokens: Hoffmann et al. (arXiv:2203.15556), in the refit of
  Besiroglu et al. (arXiv:2404.10102). It was fitted to models of 44 M parameters and more; for
  minutes on a processor it underrates parameters, so there the form of Kaplan et al.
  (arXiv:2001.08361, equation 1.5) is used, fitted to nine trainings of this trainer;
* the value of a repeated token: Muennighoff et al. (arXiv:2305.16264), R* = 15.39 epochs;
* tokens a step: Li et al. (Step Law, arXiv:2503.04715), B = 0.58 D^0.571;
* Adam's rate: DeepSeek LLM (arXiv:2401.02954), 0.3118 C^-0.125;
* Muon's rate depends on the batch and not on the width, since its updates have a spectral norm that
  fits each matrix (Bernstein & Newhouse, arXiv:2409.20325).

Free of torch; the machine's throughput comes from
``components/train/autopilot/throughput_probe.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from components.core.errors import ConfigError
from components.train.budget.flop_count import flops_per_token
from models.shape import DecoderShape

HEAD_WIDTH = 64
WIDTHS = (64, 128, 192, 256, 320, 384, 512, 640, 768, 1024, 1280, 1536, 2048, 3072, 4096)
LARGE_FIT = (1.8172, 482.01, 0.3478, 2085.43, 0.3658)
"""E, A, alpha, B, beta of loss = E + A / N^alpha + B / D^beta."""
SMALL_FIT = (3.10e8, 0.606, 4.60e7, 0.270)
"""N', r, D', a of loss = ((N' / N)^r + D' / D)^a: 0.4 to 5.8 M parameters after 0.5 to 6 M tokens
of documentation, each within 0.07 nats."""
SMALL_FLOPS, LARGE_FLOPS = 1e14, 1e18
"""Operations up to which the small fit was measured, and from which the large one was; between them
the choice moves from one to the other, linearly in the logarithm."""
REPEAT_DECAY_EPOCHS = 15.39
"""R*: repetitions after which a further one is worth 1/e of a fresh token."""
MOST_EPOCHS = 16.0
MUON_TUNED_RATE, MUON_TUNED_BATCH = 0.01, 2048
"""Muon's rate, and the tokens a step at which it was tuned on two cores."""
MOST_ADAM_RATE, EMBEDDING_RATE_FACTOR = 0.006, 3.3
"""Adam's highest rate, and the multiple of it for embeddings, as ``tiny`` was tuned."""
FIELDS = ("shape", "batch", "muon_lr", "adam_lr", "embedding_lr", "tokens")
ChoiceValue = DecoderShape | int | float


@dataclass(frozen=True)
class PlanningBudget:
    """Seconds of this machine, or floating-point operations; exactly one of them."""

    seconds: float | None = None
    flops: float | None = None

    def __post_init__(self) -> None:
        amount = self.seconds if self.flops is None else self.flops
        if (self.seconds is None) == (self.flops is None) or amount is None or amount <= 0:
            raise ConfigError("autopilot: give a budget of minutes or of flops, above 0")


@dataclass(frozen=True)
class CorpusSize:
    """Size and vocabulary of the training corpus."""

    tokens: int
    vocabulary: int
    context: int = 512
    """Positions that the shape must reach over."""


@dataclass(frozen=True)
class MeasuredMachine:
    """Measured (parameters, tokens a second) of trainings here, by size; and the free memory."""

    rates: tuple[tuple[int, float], ...]
    memory_bytes: float

    def tokens_per_second(self, parameters: int) -> float:
        """Interpolate log-log between the measured sizes; outside them assume equal operations."""
        sizes, rates = zip(*self.rates, strict=True)
        if parameters <= sizes[0]:
            return float(rates[0])
        if parameters >= sizes[-1]:
            return float(rates[-1] * sizes[-1] / parameters)
        after = next(at for at, size in enumerate(sizes) if size > parameters)
        small, large = math.log(sizes[after - 1]), math.log(sizes[after])
        along = (math.log(parameters) - small) / (large - small)
        low, high = math.log(rates[after - 1]), math.log(rates[after])
        return float(math.exp(low + along * (high - low)))


@dataclass(frozen=True)
class AutopilotChoice:
    """Value of one config field, with its reason."""

    field: str
    value: ChoiceValue
    reason: str
    fixed: bool = False
    """True where the value was given and not chosen."""


@dataclass(frozen=True)
class AutopilotChoices:
    """All choices, in the order in which they were made."""

    made: tuple[AutopilotChoice, ...]
    loss: float
    """Expected loss in nats by the fit; it ranks choices and predicts no other corpus."""
    epochs: float
    capped: bool = False
    """True where ``tokens`` are fewer than the budget would last for."""

    def __getitem__(self, field: str) -> ChoiceValue:
        return next(choice.value for choice in self.made if choice.field == field)

    def lines(self) -> list[str]:
        """One line a choice."""
        return [
            f"{choice.field}: {format_value(choice.value)} ({choice.reason})"
            for choice in self.made
        ]


def candidate_shapes(corpus: CorpusSize) -> list[DecoderShape]:
    """Shapes from small to large: width / 64 + 2 layers, heads of width 64."""
    return [_candidate_shape(width, corpus) for width in WIDTHS]


def _candidate_shape(width: int, corpus: CorpusSize) -> DecoderShape:
    heads = width // HEAD_WIDTH
    return DecoderShape(
        vocabulary=corpus.vocabulary,
        width=width,
        layers=width // 64 + 2,
        heads=heads,
        kv_heads=heads // 2 if heads % 2 == 0 else heads,
        head_width=HEAD_WIDTH,
        hidden=3 * width,
        context=corpus.context,
    )


def choose_fields(
    corpus: CorpusSize,
    budget: PlanningBudget,
    probe: MeasuredMachine,
    fixed: Mapping[str, ChoiceValue] | None = None,
) -> AutopilotChoices:
    """Choose every field of ``FIELDS`` that is not in ``fixed``.

    ``tokens`` is the number of tokens to train on in all, ``batch`` that of a step.

    Args:
        corpus: tokens, vocabulary and context.
        budget: seconds or operations.
        probe: throughput and memory of this machine.
        fixed: fields with values that are given.

    Raises:
        ConfigError: a fixed field is unknown, the corpus is empty, or no shape fits the memory.
    """
    given_fields = dict(fixed or {})
    unknown = sorted(given_fields.keys() - set(FIELDS))
    if unknown:
        raise ConfigError(f"autopilot: no field {', '.join(unknown)}; fields: {', '.join(FIELDS)}")
    if corpus.tokens < 2:
        raise ConfigError("autopilot: the corpus holds no token to train on")
    shape = _choose_shape(corpus, budget, probe, given_fields)
    assert isinstance(shape.value, DecoderShape)
    tokens = _choose_tokens(shape.value, corpus, budget, probe, given_fields)
    total = float(tokens.value)  # type: ignore[arg-type]
    batch = _choose_batch(total, corpus, given_fields)
    rates = _choose_rates(shape.value, total, float(batch.value), given_fields)  # type: ignore[arg-type]
    flops = flops_per_token(shape.value, corpus.context) * total
    loss = expected_loss(
        shape.value.parameters, total, corpus.tokens, large=_large_fit_share(flops) > 0.5
    )
    capped = "tokens" in given_fields or affordable_tokens(shape.value, budget, probe) > total + 1.0
    return AutopilotChoices((shape, tokens, batch, *rates), loss, total / corpus.tokens, capped)


def expected_loss(parameters: int, tokens: float, unique: int, *, large: bool) -> float:
    """Expected loss in nats a token, by a fit; repeated tokens count for what they are worth.

    Args:
        parameters: number of the model's parameters.
        tokens: number of tokens trained on, repetitions included.
        unique: how many of these are different.
        large: take the fit of large trainings, else that of small ones.
    """
    worth = effective_tokens(tokens, unique)
    if large:
        floor, a, alpha, b, beta = LARGE_FIT
        return float(floor + a / parameters**alpha + b / worth**beta)
    size, ratio, amount, power = SMALL_FIT
    return float(((size / parameters) ** ratio + amount / worth) ** power)


def _large_fit_share(flops: float) -> float:
    """0 where the small fit was measured, 1 where the large one was."""
    along = math.log(flops / SMALL_FLOPS) / math.log(LARGE_FLOPS / SMALL_FLOPS)
    return min(1.0, max(0.0, along))


def effective_tokens(tokens: float, unique: int) -> float:
    """Number of fresh tokens worth as much as ``tokens``, of which ``unique`` are different.

    Equation 5 of arXiv:2305.16264.
    """
    if tokens <= unique:
        return tokens
    repeats = tokens / unique - 1.0
    return unique * (1.0 + REPEAT_DECAY_EPOCHS * (1.0 - math.exp(-repeats / REPEAT_DECAY_EPOCHS)))


def affordable_tokens(shape: DecoderShape, budget: PlanningBudget, probe: MeasuredMachine) -> float:
    """Number of tokens that the budget lasts for.

    Args:
        shape: shape of the model.
        budget: seconds or operations.
        probe: throughput of this machine.
    """
    if budget.flops is not None:
        return budget.flops / flops_per_token(shape, shape.context)
    assert budget.seconds is not None
    return budget.seconds * probe.tokens_per_second(shape.parameters)


def memory_needed(shape: DecoderShape, context: int) -> float:
    """Bytes that a training needs, roughly.

    Weights, gradient, two moments and a saved state in float32, 20 bytes a parameter, and the
    activations of one sequence.
    """
    activations = context * (shape.layers * (10 * shape.width + 3 * shape.hidden) * 2)
    scores = 4.0 * shape.layers * shape.heads * context * context
    return 20.0 * shape.parameters + activations + scores


def _choose_shape(
    corpus: CorpusSize,
    budget: PlanningBudget,
    probe: MeasuredMachine,
    fixed: Mapping[str, ChoiceValue],
) -> AutopilotChoice:
    if "shape" in fixed:
        return _fixed_choice("shape", fixed)
    fitting = [
        shape
        for shape in candidate_shapes(corpus)
        if memory_needed(shape, corpus.context) < probe.memory_bytes
    ]
    if not fitting:
        raise ConfigError(
            f"autopilot: {probe.memory_bytes / 1e9:.1f} GB of memory fit no shape; lower "
            "pretrain.positions, or give pretrain.shape"
        )

    def tokens(shape: DecoderShape) -> float:
        return max(1.0, min(affordable_tokens(shape, budget, probe), MOST_EPOCHS * corpus.tokens))

    def best_by(large: bool) -> int:
        losses = [
            expected_loss(shape.parameters, tokens(shape), corpus.tokens, large=large)
            for shape in fitting
        ]
        return losses.index(min(losses))

    small, large = best_by(large=False), best_by(large=True)
    along = _large_fit_share(
        flops_per_token(fitting[small], corpus.context) * tokens(fitting[small])
    )
    best = fitting[round(small + along * (large - small))]
    reason = (
        f"{best.parameters / 1e6:.1f} M parameters: of {len(fitting)} shapes that fit the memory "
        f"the lowest expected loss, {tokens(best) / best.parameters:.1f} tokens a parameter"
    )
    return AutopilotChoice("shape", best, reason)


def _choose_tokens(
    shape: DecoderShape,
    corpus: CorpusSize,
    budget: PlanningBudget,
    probe: MeasuredMachine,
    fixed: Mapping[str, ChoiceValue],
) -> AutopilotChoice:
    if "tokens" in fixed:
        return _fixed_choice("tokens", fixed)
    afforded, capped = affordable_tokens(shape, budget, probe), MOST_EPOCHS * corpus.tokens
    epochs = min(afforded, capped) / corpus.tokens
    if afforded > capped:
        reason = (
            f"{epochs:.0f} epochs: behind them a repeated token is worth less than a third of a "
            f"fresh one; the budget would last for {afforded / corpus.tokens:.0f}: give more pages"
        )
    else:
        reason = f"what the budget lasts for: {epochs:.2f} epochs of {corpus.tokens:,} tokens"
    return AutopilotChoice("tokens", int(min(afforded, capped)), reason)


def _choose_batch(
    total: float, corpus: CorpusSize, fixed: Mapping[str, ChoiceValue]
) -> AutopilotChoice:
    if "batch" in fixed:
        return _fixed_choice("batch", fixed)
    optimum = 0.58 * effective_tokens(total, corpus.tokens) ** 0.571
    blocks = max(1, round(optimum / corpus.context))
    reason = f"whole blocks near 0.58 D^0.571 = {optimum:,.0f} tokens"
    return AutopilotChoice("batch", blocks * corpus.context, reason)


def _choose_rates(
    shape: DecoderShape, total: float, batch: float, fixed: Mapping[str, ChoiceValue]
) -> list[AutopilotChoice]:
    flops = flops_per_token(shape, shape.context) * total
    muon = MUON_TUNED_RATE * min(2.0, max(0.5, math.sqrt(batch / MUON_TUNED_BATCH)))
    rule = 0.3118 * flops**-0.125
    adam = min(MOST_ADAM_RATE, rule)
    cap = (
        f", capped at {MOST_ADAM_RATE:g}: the rule says {_two_digits(rule):g}"
        if rule > adam
        else ""
    )
    chosen = (
        AutopilotChoice(
            "muon_lr",
            _two_digits(muon),
            f"{MUON_TUNED_RATE:g} at {MUON_TUNED_BATCH} tokens a step, by their root",
        ),
        AutopilotChoice(
            "adam_lr", _two_digits(adam), f"0.3118 C^-0.125 at C = {flops:.1e} operations{cap}"
        ),
        AutopilotChoice(
            "embedding_lr",
            _two_digits(EMBEDDING_RATE_FACTOR * adam),
            f"{EMBEDDING_RATE_FACTOR:g} times adam_lr, measured",
        ),
    )
    return [
        _fixed_choice(choice.field, fixed) if choice.field in fixed else choice for choice in chosen
    ]


def _fixed_choice(field: str, fixed: Mapping[str, ChoiceValue]) -> AutopilotChoice:
    return AutopilotChoice(field, fixed[field], "given", fixed=True)


def _two_digits(rate: float) -> float:
    """Round to two significant digits: no rule is more exact."""
    return float(f"{rate:.2g}")


def format_value(value: ChoiceValue) -> str:
    """Format a value in a few words."""
    if isinstance(value, DecoderShape):
        return f"{value.layers} layers, {value.width} wide, {value.heads} heads"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
