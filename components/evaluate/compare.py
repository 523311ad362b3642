"""Is one policy better than another? Both answer the same held-out questions, the principles judge.

    modelmill stage compare --input policy=PATH --input baseline=PATH \\
        --input instructions=PATH --input tokenizer=PATH --output DIR

Never judged by the reward model, which the policy was trained to please. Both see equal random
numbers. Intervals resample pages, since answers about one page resemble each other.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from components.core.artifact import Checkpoint, Instructions, Report, Tokenizer
from components.core.config import StageConfig
from components.core.errors import ConfigError
from components.core.figures import Figure, ratio_interval, write_report
from components.core.items import Items, item_keys, write_items
from components.core.weights import load_model
from components.core.workdir import Workdir
from components.text.answering import Answer, Asked, answer_all, read_questions
from components.text.chat import open_tokenizer
from components.text.principles import Constitution, Judgement, house_constitution, judge

if TYPE_CHECKING:
    import tokenizers

    from models.decoder import Decoder


class CompareConfig(StageConfig):
    """What is asked, and how it is answered and judged."""

    constitution: Constitution = Field(
        default_factory=house_constitution, description="the principles that judge"
    )
    questions: int = Field(default=384, ge=1, description="held-out questions, at most")
    temperature: float = Field(default=0.7, ge=0, le=5, description="of the sampling; 0 is greedy")
    max_new: int = Field(default=64, ge=1, le=4096, description="tokens an answer, at most")
    batch: int = Field(default=128, ge=1, description="questions answered at once")
    kl_answers: int = Field(default=128, ge=1, description="answers over which KL is measured")
    examples: int = Field(default=9, ge=0, le=1000, description="answers shown in the report")
    seed: int = Field(default=0, ge=0, lt=1 << 32, description="of the questions and the sampling")


@dataclass(frozen=True)
class Compared:
    """Both answers to one question, judged."""

    asked: Asked
    policy: tuple[Answer, Judgement]
    baseline: tuple[Answer, Judgement]

    @property
    def difference(self) -> float:
        return self.policy[1].total - self.baseline[1].total

    @property
    def win(self) -> float:
        """1 for the policy, 0 for the baseline, a half for a tie."""
        return 0.5 if self.difference == 0 else float(self.difference > 0)


MEASURES: Mapping[str, Callable[[Compared], float]] = {
    "difference": lambda one: one.difference,
    "win_rate": lambda one: one.win,
    "policy_reward": lambda one: one.policy[1].total,
    "baseline_reward": lambda one: one.baseline[1].total,
}
"""What is averaged over questions; between versions, ``policy_reward`` is what compares."""


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
        ConfigError: the two models are of different vocabularies, or ``max_new`` leaves no room.
        DataError: an input cannot be read, or no held-out question fits.
    """
    opened = open_tokenizer(work.path(tokenizer))
    models = load_model(work.path(policy)), load_model(work.path(baseline))
    if models[0].shape.vocabulary != models[1].shape.vocabulary:
        raise ConfigError(
            f"compare: the policy's vocabulary is {models[0].shape.vocabulary}, the baseline's "
            f"{models[1].shape.vocabulary}: compare models of one tokenizer"
        )
    longest = min(model.shape.context for model in models) - config.max_new
    asked = read_questions(
        work.path(instructions),
        "heldout",
        opened,
        longest=longest,
        limit=config.questions,
        seed=config.seed,
    )
    work.progress.start(2 * len(asked), "answers")
    ours, theirs = (_judged(config, model, opened, asked, work) for model in models)
    compared = [Compared(*both) for both in zip(asked, ours, theirs, strict=True)]
    figures = [*_figures(config.constitution, compared), _kl(config, *models, compared)]
    write_report(
        work.folder,
        figures,
        examples=_examples(compared, config.examples),
        kinds=_by_kind(compared),
        temperature=config.temperature,
    )
    write_items(work.folder, _items(config, compared))
    return work.seal(Report, stats={figure.name: figure.value for figure in figures[:4]})


def _judged(
    config: CompareConfig,
    model: Decoder,
    tokenizer: tokenizers.Tokenizer,
    asked: Sequence[Asked],
    work: Workdir,
) -> list[tuple[Answer, Judgement]]:
    answers = answer_all(
        model,
        tokenizer,
        [one.prompt for one in asked],
        max_new=config.max_new,
        temperature=config.temperature,
        seed=config.seed,
        batch=config.batch,
        answered=work.progress.advance,
    )
    return [
        (
            answer,
            judge(
                config.constitution,
                one.question,
                one.subject,
                answer.text,
                one.reference,
                finished=answer.finished,
            ),
        )
        for one, answer in zip(asked, answers, strict=True)
    ]


def _figures(constitution: Constitution, compared: Sequence[Compared]) -> list[Figure]:
    """The rewards first, then what the policy gains by each principle."""
    figures = [_by_page(name, compared, measure) for name, measure in MEASURES.items()]
    for name in (principle.name for principle in constitution.principles):
        gains = [one.policy[1].scores[name] - one.baseline[1].scores[name] for one in compared]
        figures.append(_page_figure(f"difference_{name}", compared, gains))
    return figures


def _items(config: CompareConfig, compared: Sequence[Compared]) -> Items:
    """A question is the same where its reference, the principles and the sampling are."""
    how = [
        config.constitution.model_dump(mode="json"),
        config.temperature,
        config.max_new,
    ]
    asked = [one.asked for one in compared]
    return Items(
        item_keys([[one.question, one.subject, one.reference, how] for one in asked]),
        [one.page for one in asked],
        np.ones(len(asked)),
        {name: np.array([measure(one) for one in compared]) for name, measure in MEASURES.items()},
    )


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

    from models.sequences import answer_scores, join

    some = compared[: config.kl_answers]
    sums: list[float] = []
    counts: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(some), config.batch):
            chosen = some[start : start + config.batch]
            sequences = join(
                [one.asked.prompt for one in chosen], [one.policy[0].tokens for one in chosen]
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
            "policy": one.policy[0].text,
            "baseline": one.baseline[0].text,
            "policy_reward": one.policy[1].total,
            "baseline_reward": one.baseline[1].total,
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
            "policy_reward": math.fsum(one.policy[1].total for one in found) / len(found),
            "baseline_reward": math.fsum(one.baseline[1].total for one in found) / len(found),
        }
        for kind, found in grouped.items()
    }
