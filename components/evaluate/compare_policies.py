"""Is one policy better than another? Both answer the same held-out questions, the principles judge.

    modelmill stage compare --input policy=PATH --input baseline=PATH \\
        --input instructions=PATH --input tokenizer=PATH --output DIR

Never judged by the reward model, which the policy was trained to please. Questions are those of
the reporting half of the held-out pages, each answered several times under common random numbers.
Intervals resample pages, since answers about one page resemble each other; the minimal detectable
effect says how large a difference the comparison would have shown.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from components.core.log import get_logger
from components.core.stats.figures import Figure, exact, ratio_interval
from components.core.stats.paired_difference import Pairs
from components.core.stats.report_config import ReportConfig
from components.core.stats.report_items import Items, write_items
from components.core.store.artifact import ASIDE, Checkpoint, Instructions, Report, Tokenizer
from components.core.store.workdir import Workdir
from components.evaluate.judged_answers import (
    Draws,
    JudgingConfig,
    answer_and_judge,
    mean_reward,
    question_keys,
)
from components.text.chat.ask_model import Asked, read_questions
from components.text.chat.chat_template import open_tokenizer
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokenizer,
)
from components.text.constitution.principles import Constitution
from components.text.decoder_files import load_model, same_weights

if TYPE_CHECKING:
    from models.decoder import Decoder

log = get_logger(__name__)


class CompareConfig(JudgingConfig, ReportConfig):
    """Questions put to both models, and the judging of their answers."""

    figures: ClassVar = (
        *("difference", "win_rate", "policy_reward", "baseline_reward"),
        *("detectable", "kl"),
    )

    questions: int | None = Field(
        default=None, ge=1, description="held-out questions, at most; null asks all that report"
    )
    kl_answers: int = Field(default=128, ge=1, description="answers over which KL is measured")
    examples: int = Field(default=9, ge=0, le=1000, description="answers shown in the report")

    def figure_names(self) -> tuple[str, ...]:
        """The rewards and their difference, also by each principle."""
        principles = self.constitution.principles
        return (*self.figures, *(f"difference_{principle.name}" for principle in principles))


@dataclass(frozen=True)
class Compared:
    """Both models' answers to one question, judged."""

    asked: Asked
    policy: Draws
    baseline: Draws

    @property
    def difference(self) -> float:
        """The policy's mean judgement less the baseline's."""
        return mean_reward(self.policy) - mean_reward(self.baseline)

    @property
    def win(self) -> float:
        """Share of draws that the policy wins; a tie is half of one."""
        pairs = zip(self.policy, self.baseline, strict=True)
        gaps = [ours.judgement.total - theirs.judgement.total for ours, theirs in pairs]
        return math.fsum(0.5 if gap == 0 else float(gap > 0) for gap in gaps) / len(gaps)

    def gain(self, principle: str) -> float:
        """The policy's mean score by one principle less the baseline's."""
        pairs = zip(self.policy, self.baseline, strict=True)
        return math.fsum(
            ours.judgement.scores[principle] - theirs.judgement.scores[principle]
            for ours, theirs in pairs
        ) / len(self.policy)


MEASURES: Mapping[str, Callable[[Compared], float]] = {
    "difference": lambda one: one.difference,
    "win_rate": lambda one: one.win,
    "policy_reward": lambda one: mean_reward(one.policy),
    "baseline_reward": lambda one: mean_reward(one.baseline),
}
"""What is averaged over questions; between versions, ``policy_reward`` is what compares."""


UNKNOWN = (
    Figure(name="difference", value=0.0, low=-1.0, high=1.0, n=0),
    Figure(name="win_rate", value=0.5, low=0.0, high=1.0, n=0),
    Figure(name="policy_reward", value=0.0, low=0.0, high=1.0, n=0),
    Figure(name="baseline_reward", value=0.0, low=0.0, high=1.0, n=0),
)
"""What is known where no answer was judged: the figures' whole range."""


def compare_policies(
    config: CompareConfig,
    policy: Checkpoint,
    baseline: Checkpoint,
    instructions: Instructions,
    tokenizer: Tokenizer,
    work: Workdir,
) -> Report:
    """Report rewards, their paired difference, win rate, each principle's difference, and KL.

    Raises:
        ConfigError: the inputs are of different tokenizers, or ``max_new`` leaves no room.
        DataError: an input cannot be read.
    """
    check_one_tokenizer(
        "compare",
        record_of_model(work.path(policy), "policy"),
        record_of_model(work.path(baseline), "baseline"),
        record_of_tokenizer(work.path(tokenizer)),
    )
    opened = open_tokenizer(work.path(tokenizer))
    models = load_model(work.path(policy)), load_model(work.path(baseline))
    longest = min(model.shape.context for model in models) - config.max_new
    asked = read_questions(
        work.path(instructions),
        "heldout",
        opened,
        longest=longest,
        limit=config.questions,
        seed=config.seed,
        half="reporting",
    )
    same = same_weights(work.path(policy), work.path(baseline))
    work.progress.start((1 if same else 2) * config.draws * len(asked), "answers")
    judged = [
        answer_and_judge(config, model, opened, asked, work.progress.advance)
        for model in models[: 1 if same else 2]
    ]
    compared = [
        Compared(question, ours, theirs)
        for question, ours, theirs in zip(asked, judged[0], judged[-1], strict=True)
        if ours and theirs
    ]
    if not compared:
        why = f"the judge failed on all {len(asked)} questions" if asked else "no held-out question"
        log.warning("compare: not measured: %s", why)
        config.write_report(work.folder, list(UNKNOWN), examples=[], kinds={}, unmeasured=why)
        return work.seal(Report, note=why)
    aside = {f"{ASIDE}judge_failed": float(len(asked) - len(compared))}
    kl = _kl(config, *models, compared)
    # Of a model beside itself no difference was looked for.
    more = [kl] if same else [_detectable(compared), kl]
    return _report(config, compared, more, {"models": float(len(judged)), **aside}, work)


def _report(
    config: CompareConfig,
    compared: Sequence[Compared],
    more: Sequence[Figure],
    counts: Mapping[str, float],
    work: Workdir,
) -> Report:
    """Seal figures (those of rewards and ``more``), items and examples, with stats that count."""
    figures = [*_figures(config.constitution, compared), *more]
    config.write_report(
        work.folder,
        figures,
        examples=_examples(compared, config.examples),
        kinds=_by_kind(compared),
        temperature=config.temperature,
    )
    write_items(work.folder, _items(config, compared))
    shown = [figure for figure in figures if figure.name in (*MEASURES, "detectable")]
    return work.seal(Report, stats={**{figure.name: figure.value for figure in shown}, **counts})


def _figures(constitution: Constitution, compared: Sequence[Compared]) -> list[Figure]:
    """The rewards first, then what the policy gains by each principle."""
    figures = [_by_page(name, compared, measure) for name, measure in MEASURES.items()]
    for name in (principle.name for principle in constitution.principles):
        gains = [one.gain(name) for one in compared]
        figures.append(_page_figure(f"difference_{name}", compared, gains))
    return figures


def _items(config: CompareConfig, compared: Sequence[Compared]) -> Items:
    """An item a question, its values the means over its draws."""
    asked = [one.asked for one in compared]
    return Items(
        question_keys(config, asked),
        [one.page for one in asked],
        np.ones(len(asked)),
        {name: np.array([measure(one) for one in compared]) for name, measure in MEASURES.items()},
    )


def _detectable(compared: Sequence[Compared]) -> Figure:
    """The minimal detectable effect of the difference; 1, the whole scale, from a single page."""
    pages, numbers = np.unique([one.asked.page for one in compared], return_inverse=True)
    gaps = np.bincount(numbers, weights=[one.difference for one in compared]).astype(np.float64)
    pairs = Pairs(len(compared), gaps, np.bincount(numbers).astype(np.float64))
    effect = pairs.detectable("difference") if pairs.pages > 1 else 1.0
    return exact("detectable", effect, n=len(pages))


def _by_page(
    name: str, compared: Sequence[Compared], measure: Callable[[Compared], float]
) -> Figure:
    return _page_figure(name, compared, [measure(one) for one in compared])


def _page_figure(name: str, compared: Sequence[Compared], values: Sequence[float]) -> Figure:
    """The mean over questions, its interval from resampled pages; ``n`` counts pages."""
    pages: dict[str, list[float]] = defaultdict(list)
    for one, value in zip(compared, values, strict=True):
        pages[one.asked.page].append(value)
    return ratio_interval(
        [math.fsum(found) for found in pages.values()],
        [float(len(found)) for found in pages.values()],
        name=name,
    )


def _kl(
    config: CompareConfig, policy: Decoder, baseline: Decoder, compared: Sequence[Compared]
) -> Figure:
    """KL of the policy from the baseline, nats a token, whole distributions, on its answers."""
    import torch

    from models.answer_sequences import answer_scores, join

    some = compared[: config.kl_answers]
    sums: list[float] = []
    counts: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(some), config.batch):
            chosen = some[start : start + config.batch]
            sequences = join(
                [one.asked.prompt for one in chosen],
                [one.policy[0].answer.tokens for one in chosen],
            )
            ours_nv, theirs_nv = (answer_scores(m, sequences) for m in (policy, baseline))
            kl_ba = sequences.spread((ours_nv.exp() * (ours_nv - theirs_nv)).sum(-1))
            sums.extend(kl_ba.sum(1).tolist())
            counts.extend(sequences.mask_ba.sum(1).tolist())
    return ratio_interval(sums, counts, name="kl", unit="nats/token")


def _examples(compared: Sequence[Compared], count: int) -> list[dict[str, Any]]:
    """Those that gained most, those that lost most, and the first questions: a third each."""
    by_gain = sorted(compared, key=lambda one: -one.difference)
    third = count // 3
    shown = [*by_gain[:third], *by_gain[len(by_gain) - third :], *compared]
    unique = list({id(one): one for one in shown}.values())[:count]
    return [
        {
            "question": one.asked.question,
            "reference": one.asked.reference,
            "policy": one.policy[0].answer.text,
            "baseline": one.baseline[0].answer.text,
            "policy_reward": one.policy[0].judgement.total,
            "baseline_reward": one.baseline[0].judgement.total,
        }
        for one in unique
    ]


def _by_kind(compared: Sequence[Compared]) -> dict[str, dict[str, float]]:
    """Mean rewards for each kind of question."""
    kinds = sorted({one.asked.kind for one in compared})
    grouped = {kind: [one for one in compared if one.asked.kind == kind] for kind in kinds}
    return {
        kind: {
            "questions": len(found),
            "policy_reward": math.fsum(mean_reward(one.policy) for one in found) / len(found),
            "baseline_reward": math.fsum(mean_reward(one.baseline) for one in found) / len(found),
        }
        for kind, found in grouped.items()
    }
