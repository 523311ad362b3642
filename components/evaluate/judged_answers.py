"""Held-out questions, answered several times by a model and judged by the principles.

Both models of a comparison see the same questions and the same random numbers (common random
numbers: Glasserman 2003, section 4.2), so that the luck of the draw falls out of their difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.log import get_logger
from components.core.stats.report_items import ReportItems, item_keys
from components.text.chat.ask_model import ModelAnswer, QuestionPrompt, sample_answers
from components.text.constitution.principles import (
    Constitution,
    Judgement,
    JudgementFailed,
    default_constitution,
    judge_answer,
)

if TYPE_CHECKING:
    from components.text.chat.chat_tokenizer import ChatTokenizer
    from models.decoder import Decoder

log = get_logger(__name__)


class JudgingConfig(StageConfig):
    """Sampling of answers, and the principles that judge them."""

    constitution: Constitution = Field(
        default_factory=default_constitution, description="the principles that judge"
    )
    draws: int = Field(default=2, ge=1, le=64, description="answers sampled to each question")
    temperature: float = Field(
        default=0.7, ge=0, le=5, description="temperature of the sampling; 0 is greedy"
    )
    max_new: int = Field(default=64, ge=1, le=4096, description="longest answer, in tokens")
    batch: int = Field(default=128, ge=1, description="questions in a batch")
    seed: int = Field(
        default=0, ge=0, lt=1 << 31, description="seed of the questions and the sampling"
    )


@dataclass(frozen=True)
class JudgedAnswer:
    """One answer with its judgement by the principles."""

    answer: ModelAnswer
    judgement: Judgement


Draws = Sequence[JudgedAnswer]
"""The answers to one question, a draw each; none where the judge failed on one of them."""


def mean_reward(draws: Draws) -> float:
    """Mean judgement, in [0, 1], over the draws of one question."""
    return math.fsum(draw.judgement.total for draw in draws) / len(draws)


def answer_and_judge(
    config: JudgingConfig,
    model: Decoder,
    tokenizer: ChatTokenizer,
    prompts: Sequence[QuestionPrompt],
    answered: Callable[[int], None] = lambda count: None,
) -> list[Draws]:
    """Sample answers to each question and judge them; results in the order of the questions.

    Args:
        config: the sampling and the principles.
        model: answers.
        tokenizer: tokenizer of the model.
        prompts: the questions with their references.
        answered: told how many answers came with each batch.

    A question on whose answers the judge fails is set aside, with a warning that says why.
    """
    # Greedy answers to one question are all the same.
    draws = config.draws if config.temperature > 0 else 1
    by_draw = [
        sample_answers(
            model,
            tokenizer,
            [question.token_ids for question in prompts],
            max_new=config.max_new,
            temperature=config.temperature,
            seed=(config.seed << 32) + draw,
            batch=config.batch,
            report_answered=answered,
        )
        for draw in range(draws)
    ]
    return [
        _judge_draws(config, question, answers)
        for question, *answers in zip(prompts, *by_draw, strict=True)
    ]


def _judge_draws(
    config: JudgingConfig, question: QuestionPrompt, answers: Sequence[ModelAnswer]
) -> Draws:
    try:
        return [
            JudgedAnswer(
                answer,
                judge_answer(
                    config.constitution,
                    question.question,
                    question.subject,
                    answer.text,
                    question.reference,
                    finished=answer.finished,
                ),
            )
            for answer in answers
        ]
    except JudgementFailed as error:
        log.warning("set aside: %s", error)
        return []


def question_keys(config: JudgingConfig, prompts: Sequence[QuestionPrompt]) -> list[str]:
    """Keys of questions: the same where reference, principles and sampling are."""
    sampling = [
        config.constitution.model_dump(mode="json"),
        config.temperature,
        config.max_new,
        config.draws,
        config.seed,
    ]
    return item_keys(
        [[prompt.question, prompt.subject, prompt.reference, sampling] for prompt in prompts]
    )


def reward_items(
    config: JudgingConfig, prompts: Sequence[QuestionPrompt], judged: Sequence[Draws]
) -> ReportItems:
    """Items of one model: its mean judgement of each question that could be judged, ``reward``.

    Args:
        config: makes the keys.
        prompts: the questions.
        judged: the answers to each; empty where the judge failed.
    """
    keys = question_keys(config, prompts)
    rows = [index for index, draws in enumerate(judged) if draws]
    rewards = np.array([mean_reward(judged[index]) for index in rows])
    pages = [prompts[index].page for index in rows]
    return ReportItems(
        [keys[index] for index in rows], pages, np.ones(len(rows)), {"reward": rewards}
    )
