"""What to train with a budget: shape, batch, rates and epochs, each with its reason.

Published rules; where they reach beyond what was measured here, the constants below say so:

* the loss of N parameters after D tokens: Hoffmann et al. (arXiv:2203.15556), in the refit of
  Besiroglu et al. (arXiv:2404.10102). It was fitted to models of 44 M parameters and more; of
  minutes on a processor it thinks too little of parameters, so there the form of Kaplan et al.
  (arXiv:2001.08361, equation 1.5) stands, fitted to nine trainings of this trainer;
* what a repeated token is worth: Muennighoff et al. (arXiv:2305.16264), R* = 15.39 epochs;
* tokens a step: Li et al. (Step Law, arXiv:2503.04715), B = 0.58 D^0.571;
* Adam's rate: DeepSeek LLM (arXiv:2401.02954), 0.3118 C^-0.125;
* Muon's rate hangs on the batch and not on the width, since its updates have a spectral norm that
  fits each matrix (Bernstein & Newhouse, arXiv:2409.20325).

Free of torch; what the machine does a second comes from
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
FIT = (1.8172, 482.01, 0.3478, 2085.43, 0.3658)
"""E, A, alpha, B, beta of loss = E + A / N^alpha + B / D^beta."""
SMALL_FIT = (3.10e8, 0.606, 4.60e7, 0.270)
"""N', r, D', a of loss = ((N' / N)^r + D' / D)^a: 0.4 to 5.8 M parameters after 0.5 to 6 M tokens
of documentation, each within 0.07 nats."""
SMALL_FLOPS, LARGE_FLOPS = 1e14, 1e18
"""Up to here the small fit was measured, from here on the large one was; between them the choice
moves from the one's to the other's, by the logarithm."""
REPEATS = 15.39
"""Epochs after which a repeated token is worth 1/e of a fresh one."""
MOST_EPOCHS = 16.0
MUON_RATE, MUON_BATCH = 0.01, 2048
"""Muon's rate and the tokens a step that it was tuned at, on two cores."""
ADAM_MOST, EMBEDDING_TIMES = 0.006, 3.3
"""Adam's highest rate, and how many times it embeddings take, as ``tiny`` was tuned."""
FIELDS = ("shape", "batch", "muon_lr", "adam_lr", "embedding_lr", "tokens")
Value = DecoderShape | int | float


@dataclass(frozen=True)
class Budget:
    """Seconds of this machine, or floating-point operations; exactly one of them."""

    seconds: float | None = None
    flops: float | None = None

    def __post_init__(self) -> None:
        given = self.seconds if self.flops is None else self.flops
        if (self.seconds is None) == (self.flops is None) or given is None or given <= 0:
            raise ConfigError("autopilot: give a budget of minutes or of flops, above 0")


@dataclass(frozen=True)
class Corpus:
    """What there is to learn from."""

    tokens: int
    vocabulary: int
    context: int = 512
    """Positions that the shape must reach over."""


@dataclass(frozen=True)
class Probe:
    """Measured training: (parameters, tokens a second), by parameters; the memory there is."""

    rates: tuple[tuple[int, float], ...]
    memory_bytes: float

    def tokens_per_second(self, parameters: int) -> float:
        """Between the measured sizes by their logarithms; outside them at equal operations."""
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
class Choice:
    """One field of a training's config, and why it is so."""

    field: str
    value: Value
    reason: str
    fixed: bool = False
    """Given, not chosen."""


@dataclass(frozen=True)
class Choices:
    """All of them, in the order they were made."""

    made: tuple[Choice, ...]
    loss: float
    """In nats, by the fit; it orders choices and promises nothing of another corpus."""
    epochs: float
    capped: bool = False
    """Whether ``tokens`` are fewer than the budget would last for."""

    def __getitem__(self, field: str) -> Value:
        return next(choice.value for choice in self.made if choice.field == field)

    def lines(self) -> list[str]:
        """A line a choice."""
        return [f"{choice.field}: {shown(choice.value)} ({choice.reason})" for choice in self.made]


def ladder(corpus: Corpus) -> list[DecoderShape]:
    """Shapes from small to large: a layer for every 64 of width and two more, one head in 64."""
    return [_rung(width, corpus) for width in WIDTHS]


def _rung(width: int, corpus: Corpus) -> DecoderShape:
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


def choose(
    corpus: Corpus, budget: Budget, probe: Probe, fixed: Mapping[str, Value] | None = None
) -> Choices:
    """Choose every field of ``FIELDS`` that is not in ``fixed``.

    ``tokens`` is how many to train on in all, ``batch`` how many a step.

    Raises:
        ConfigError: a fixed field is none, the budget is too small for any shape, or no shape
            fits the memory.
    """
    given = dict(fixed or {})
    unknown = sorted(given.keys() - set(FIELDS))
    if unknown:
        raise ConfigError(f"autopilot: no field {', '.join(unknown)}; fields: {', '.join(FIELDS)}")
    if corpus.tokens < 2:
        raise ConfigError("autopilot: the corpus holds no token to train on")
    shape = _shape(corpus, budget, probe, given)
    assert isinstance(shape.value, DecoderShape)
    tokens = _tokens(shape.value, corpus, budget, probe, given)
    total = float(tokens.value)  # type: ignore[arg-type]
    batch = _batch(total, corpus, given)
    rates = _rates(shape.value, total, float(batch.value), given)  # type: ignore[arg-type]
    flops = flops_per_token(shape.value, corpus.context) * total
    loss = expected_loss(
        shape.value.parameters, total, corpus.tokens, large=_largeness(flops) > 0.5
    )
    capped = "tokens" in given or affordable_tokens(shape.value, budget, probe) > total + 1.0
    return Choices((shape, tokens, batch, *rates), loss, total / corpus.tokens, capped)


def expected_loss(parameters: int, tokens: float, unique: int, *, large: bool) -> float:
    """Nats a token, by a fit, a token counted for what it is still worth when repeated."""
    worth = effective_tokens(tokens, unique)
    if large:
        floor, a, alpha, b, beta = FIT
        return float(floor + a / parameters**alpha + b / worth**beta)
    size, ratio, amount, power = SMALL_FIT
    return float(((size / parameters) ** ratio + amount / worth) ** power)


def _largeness(flops: float) -> float:
    """0 where the small fit was measured, 1 where the large one was."""
    along = math.log(flops / SMALL_FLOPS) / math.log(LARGE_FLOPS / SMALL_FLOPS)
    return min(1.0, max(0.0, along))


def effective_tokens(tokens: float, unique: int) -> float:
    """Fresh tokens that so many are worth, of which ``unique`` differ (arXiv:2305.16264, eq. 5)."""
    if tokens <= unique:
        return tokens
    repeats = tokens / unique - 1.0
    return unique * (1.0 + REPEATS * (1.0 - math.exp(-repeats / REPEATS)))


def affordable_tokens(shape: DecoderShape, budget: Budget, probe: Probe) -> float:
    """Tokens that the budget lasts for."""
    if budget.flops is not None:
        return budget.flops / flops_per_token(shape, shape.context)
    assert budget.seconds is not None
    return budget.seconds * probe.tokens_per_second(shape.parameters)


def memory_needed(shape: DecoderShape, context: int) -> float:
    """Bytes: weights, gradient, two moments and a saved state in float32; a block's activations."""
    activations = context * (shape.layers * (10 * shape.width + 3 * shape.hidden) * 2)
    scores = 4.0 * shape.layers * shape.heads * context * context
    return 20.0 * shape.parameters + activations + scores


def _shape(corpus: Corpus, budget: Budget, probe: Probe, given: Mapping[str, Value]) -> Choice:
    if "shape" in given:
        return _kept("shape", given)
    fitting = [
        shape
        for shape in ladder(corpus)
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
    along = _largeness(flops_per_token(fitting[small], corpus.context) * tokens(fitting[small]))
    best = fitting[round(small + along * (large - small))]
    reason = (
        f"{best.parameters / 1e6:.1f} M parameters: of {len(fitting)} shapes that fit the memory "
        f"the lowest expected loss, {tokens(best) / best.parameters:.1f} tokens a parameter"
    )
    return Choice("shape", best, reason)


def _tokens(
    shape: DecoderShape,
    corpus: Corpus,
    budget: Budget,
    probe: Probe,
    given: Mapping[str, Value],
) -> Choice:
    if "tokens" in given:
        return _kept("tokens", given)
    afforded, capped = affordable_tokens(shape, budget, probe), MOST_EPOCHS * corpus.tokens
    epochs = min(afforded, capped) / corpus.tokens
    if afforded > capped:
        reason = (
            f"{epochs:.0f} epochs: behind them a repeated token is worth less than a third of a "
            f"fresh one; the budget would last for {afforded / corpus.tokens:.0f}: give more pages"
        )
    else:
        reason = f"what the budget lasts for: {epochs:.2f} epochs of {corpus.tokens:,} tokens"
    return Choice("tokens", int(min(afforded, capped)), reason)


def _batch(total: float, corpus: Corpus, given: Mapping[str, Value]) -> Choice:
    if "batch" in given:
        return _kept("batch", given)
    wanted = 0.58 * effective_tokens(total, corpus.tokens) ** 0.571
    blocks = max(1, round(wanted / corpus.context))
    reason = f"whole blocks near 0.58 D^0.571 = {wanted:,.0f} tokens"
    return Choice("batch", blocks * corpus.context, reason)


def _rates(
    shape: DecoderShape, total: float, batch: float, given: Mapping[str, Value]
) -> list[Choice]:
    flops = flops_per_token(shape, shape.context) * total
    muon = MUON_RATE * min(2.0, max(0.5, math.sqrt(batch / MUON_BATCH)))
    rule = 0.3118 * flops**-0.125
    adam = min(ADAM_MOST, rule)
    cap = f", capped at {ADAM_MOST:g}: the rule says {_rounded(rule):g}" if rule > adam else ""
    chosen = (
        Choice(
            "muon_lr", _rounded(muon), f"{MUON_RATE:g} at {MUON_BATCH} tokens a step, by their root"
        ),
        Choice("adam_lr", _rounded(adam), f"0.3118 C^-0.125 at C = {flops:.1e} operations{cap}"),
        Choice(
            "embedding_lr",
            _rounded(EMBEDDING_TIMES * adam),
            f"{EMBEDDING_TIMES:g} times adam_lr, measured",
        ),
    )
    return [_kept(one.field, given) if one.field in given else one for one in chosen]


def _kept(field: str, given: Mapping[str, Value]) -> Choice:
    return Choice(field, given[field], "given", fixed=True)


def _rounded(rate: float) -> float:
    """Two significant digits: no rule knows more."""
    return float(f"{rate:.2g}")


def shown(value: Value) -> str:
    """A value in a few words."""
    if isinstance(value, DecoderShape):
        return f"{value.layers} layers, {value.width} wide, {value.heads} heads"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
