"""Comparison of two policies: both answer the same held-out questions, the principles judge.

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
from components.core.stats.figures import Figure, exact_figure, ratio_interval
from components.core.stats.paired_difference import ItemPairs
from components.core.stats.report_config import ReportConfig
from components.core.stats.report_items import ReportItems, write_items
from components.core.store.artifact import (
    SET_ASIDE_PREFIX,
    Checkpoint,
    Instructions,
    Report,
    Tokenizer,
)
from components.core.store.workdir import Workdir
from components.evaluate.judged_answers import (
    Draws,
    JudgingConfig,
    answer_and_judge,
    mean_reward,
    question_keys,
)
from components.text.chat.ask_model import QuestionPrompt, read_questions
from components.text.chat.chat_tokenizer import open_tokenizer
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
    kl_answers: int = Field(
        default=128, ge=1, description="answers over which KL is measured, at most"
    )
    examples: int = Field(default=9, ge=0, le=1000, description="answers shown in the report")

    def figure_names(self) -> tuple[str, ...]:
        """The rewards and their difference, also by each principle."""
        principles = self.constitution.principles
        return (*self.figures, *(f"difference_{principle.name}" for principle in principles))


@dataclass(frozen=True)
class ComparedAnswers:
    """Both models' answers to one question, judged."""

    prompt: QuestionPrompt
    policy: Draws
    baseline: Draws

    @property
    def difference(self) -> float:
        """The policy's mean judgement less the baseline's."""
        return mean_reward(self.policy) - mean_reward(self.baseline)

    @property
    def win_share(self) -> float:
        """Share of draws that the policy wins; a tie counts half."""
        pairs = zip(self.policy, self.baseline, strict=True)
        gaps = [ours.judgement.total - theirs.judgement.total for ours, theirs in pairs]
        return math.fsum(0.5 if gap == 0 else float(gap > 0) for gap in gaps) / len(gaps)

    def principle_gain(self, principle: str) -> float:
        """The policy's mean score by one principle less the baseline's."""
        pairs = zip(self.policy, self.baseline, strict=True)
        return math.fsum(
            ours.judgement.scores[principle] - theirs.judgement.scores[principle]
            for ours, theirs in pairs
        ) / len(self.policy)


REWARD_MEASURES: Mapping[str, Callable[[ComparedAnswers], float]] = {
    "difference": lambda one: one.difference,
    "win_rate": lambda one: one.win_share,
    "policy_reward": lambda one: mean_reward(one.policy),
    "baseline_reward": lambda one: mean_reward(one.baseline),
}
"""Values of a question, averaged over questions; versions are compared by ``policy_reward``."""


UNMEASURED_FIGURES = (
    Figure(name="difference", value=0.0, low=-1.0, high=1.0, n=0),
    Figure(name="win_rate", value=0.5, low=0.0, high=1.0, n=0),
    Figure(name="policy_reward", value=0.0, low=0.0, high=1.0, n=0),
    Figure(name="baseline_reward", value=0.0, low=0.0, high=1.0, n=0),
)
"""Figures where no answer was judged: the middle of each range, its interval the whole range."""


def compare_policies(
    config: CompareConfig,
    policy: Checkpoint,
    baseline: Checkpoint,
    instructions: Instructions,
    tokenizer: Tokenizer,
    work: Workdir,
) -> Report:
    """Report rewards, their paired difference, win rate, each principle's difference, and KL.

    Args:
        config: questions, sampling and principles.
        policy: the model that is judged.
        baseline: the model that it is compared with.
        instructions: its held-out questions are asked, those of the reporting half.
        tokenizer: that of both models.
        work: folder of the report.

    Raises:
        ConfigError: the inputs are of different tokenizers, or ``max_new`` leaves no room.
        DataError: an input cannot be read.
    """
    check_one_tokenizer(
        "compare",
        record_of_model(work.artifact_folder(policy), "policy"),
        record_of_model(work.artifact_folder(baseline), "baseline"),
        record_of_tokenizer(work.artifact_folder(tokenizer)),
    )
    fast_tokenizer = open_tokenizer(work.artifact_folder(tokenizer))
    models = load_model(work.artifact_folder(policy)), load_model(work.artifact_folder(baseline))
    longest_prompt = min(model.shape.context for model in models) - config.max_new
    prompts = read_questions(
        work.artifact_folder(instructions),
        "heldout",
        fast_tokenizer,
        longest=longest_prompt,
        limit=config.questions,
        seed=config.seed,
        half="reporting",
    )
    same_model = same_weights(work.artifact_folder(policy), work.artifact_folder(baseline))
    work.progress.start_count((1 if same_model else 2) * config.draws * len(prompts), "answers")
    judged = [
        answer_and_judge(config, model, fast_tokenizer, prompts, work.progress.advance)
        for model in models[: 1 if same_model else 2]
    ]
    compared = [
        ComparedAnswers(question, ours, theirs)
        for question, ours, theirs in zip(prompts, judged[0], judged[-1], strict=True)
        if ours and theirs
    ]
    if not compared:
        reason = (
            f"the judge failed on all {len(prompts)} questions"
            if prompts
            else "no held-out question"
        )
        log.warning("compare: not measured: %s", reason)
        config.write_report(
            work.folder, list(UNMEASURED_FIGURES), examples=[], kinds={}, unmeasured=reason
        )
        return work.seal(Report, note=reason)
    unjudged = {f"{SET_ASIDE_PREFIX}judge_failed": float(len(prompts) - len(compared))}
    kl = _kl(config, *models, compared)
    # Of a model beside itself no difference was looked for.
    more = [kl] if same_model else [_detectable(compared), kl]
    return _report(config, compared, more, {"models": float(len(judged)), **unjudged}, work)


def _report(
    config: CompareConfig,
    compared: Sequence[ComparedAnswers],
    more: Sequence[Figure],
    counts: Mapping[str, float],
    work: Workdir,
) -> Report:
    """Write figures (rewards and ``more``), items and examples, and seal them with ``counts``."""
    figures = [*_figures(config.constitution, compared), *more]
    config.write_report(
        work.folder,
        figures,
        examples=_examples(compared, config.examples),
        kinds=_by_kind(compared),
        temperature=config.temperature,
    )
    write_items(work.folder, _items(config, compared))
    shown = [figure for figure in figures if figure.name in (*REWARD_MEASURES, "detectable")]
    return work.seal(Report, stats={**{figure.name: figure.value for figure in shown}, **counts})


def _figures(constitution: Constitution, compared: Sequence[ComparedAnswers]) -> list[Figure]:
    """Figures of the rewards, then of the policy's gain by each principle."""
    figures = [_by_page(name, compared, measure) for name, measure in REWARD_MEASURES.items()]
    for name in (principle.name for principle in constitution.principles):
        gains = [question.principle_gain(name) for question in compared]
        figures.append(_page_figure(f"difference_{name}", compared, gains))
    return figures


def _items(config: CompareConfig, compared: Sequence[ComparedAnswers]) -> ReportItems:
    """One item for each question, its values the means over its draws."""
    prompts = [question.prompt for question in compared]
    return ReportItems(
        question_keys(config, prompts),
        [question.page for question in prompts],
        np.ones(len(prompts)),
        {
            name: np.array([measure(question) for question in compared])
            for name, measure in REWARD_MEASURES.items()
        },
    )


def _detectable(compared: Sequence[ComparedAnswers]) -> Figure:
    """The minimal detectable effect of the difference; 1, the whole scale, from a single page."""
    pages, numbers = np.unique([question.prompt.page for question in compared], return_inverse=True)
    gaps = np.bincount(numbers, weights=[question.difference for question in compared]).astype(
        np.float64
    )
    pairs = ItemPairs(len(compared), gaps, np.bincount(numbers).astype(np.float64))
    effect = pairs.detectable_effect("difference") if pairs.pages > 1 else 1.0
    return exact_figure("detectable", effect, n=len(pages))


def _by_page(
    name: str, compared: Sequence[ComparedAnswers], measure: Callable[[ComparedAnswers], float]
) -> Figure:
    return _page_figure(name, compared, [measure(question) for question in compared])


def _page_figure(name: str, compared: Sequence[ComparedAnswers], values: Sequence[float]) -> Figure:
    """The mean over questions, its interval from resampled pages; ``n`` counts pages."""
    pages: dict[str, list[float]] = defaultdict(list)
    for question, value in zip(compared, values, strict=True):
        pages[question.prompt.page].append(value)
    return ratio_interval(
        [math.fsum(page_values) for page_values in pages.values()],
        [float(len(page_values)) for page_values in pages.values()],
        name=name,
    )


def _kl(
    config: CompareConfig, policy: Decoder, baseline: Decoder, compared: Sequence[ComparedAnswers]
) -> Figure:
    """KL of the policy from the baseline, nats a token, whole distributions, on its answers."""
    import torch

    from models.answer_sequences import answer_log_probs, join_answers

    measured = compared[: config.kl_answers]
    sums: list[float] = []
    counts: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(measured), config.batch):
            batch = measured[start : start + config.batch]
            sequences = join_answers(
                [question.prompt.token_ids for question in batch],
                [question.policy[0].answer.tokens for question in batch],
            )
            ours_nv, theirs_nv = (answer_log_probs(m, sequences) for m in (policy, baseline))
            kl_ba = sequences.spread((ours_nv.exp() * (ours_nv - theirs_nv)).sum(-1))
            sums.extend(kl_ba.sum(1).tolist())
            counts.extend(sequences.mask_ba.sum(1).tolist())
    return ratio_interval(sums, counts, name="kl", unit="nats/token")


def _examples(compared: Sequence[ComparedAnswers], count: int) -> list[dict[str, Any]]:
    """Examples that gained most, that lost most, and the first questions: a third each."""
    by_gain = sorted(compared, key=lambda question: -question.difference)
    third = count // 3
    shown = [*by_gain[:third], *by_gain[len(by_gain) - third :], *compared]
    unique = list({id(question): question for question in shown}.values())[:count]
    return [
        {
            "question": question.prompt.question,
            "reference": question.prompt.reference,
            "policy": question.policy[0].answer.text,
            "baseline": question.baseline[0].answer.text,
            "policy_reward": question.policy[0].judgement.total,
            "baseline_reward": question.baseline[0].judgement.total,
        }
        for question in unique
    ]


def _by_kind(compared: Sequence[ComparedAnswers]) -> dict[str, dict[str, float]]:
    """Mean rewards for each kind of question."""
    kinds = sorted({question.prompt.kind for question in compared})
    grouped = {
        kind: [question for question in compared if question.prompt.kind == kind] for kind in kinds
    }
    return {
        kind: {
            "questions": len(of_kind),
            "policy_reward": math.fsum(mean_reward(question.policy) for question in of_kind)
            / len(of_kind),
            "baseline_reward": math.fsum(mean_reward(question.baseline) for question in of_kind)
            / len(of_kind),
        }
        for kind, of_kind in grouped.items()
    }
