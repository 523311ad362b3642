"""Judging of sampled answers by the principles; a failing judge ends the attempt, not the run."""

from __future__ import annotations

from components.align.attempt import AttemptFailed
from components.text.chat.ask_model import ModelAnswer, QuestionPrompt
from components.text.constitution.principles import (
    Constitution,
    Judgement,
    JudgementFailed,
    judge_answer,
)


def judge_sample(
    constitution: Constitution, prompt: QuestionPrompt, answer: ModelAnswer
) -> Judgement:
    """Judge one answer by every principle.

    Args:
        constitution: the principles.
        prompt: question, with the documentation's answer.
        answer: answer of the policy.

    Raises:
        AttemptFailed: a check raised, or its score is no number.
    """
    try:
        return judge_answer(
            constitution,
            prompt.question,
            prompt.subject,
            answer.text,
            prompt.reference,
            finished=answer.finished,
        )
    except JudgementFailed as error:
        raise AttemptFailed("judge_failed", str(error)) from error
