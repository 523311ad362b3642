"""The principles as a judge of sampled answers, whose failure ends an attempt and not a run."""

from __future__ import annotations

import math

from components.align.attempt import AttemptFailed
from components.text.answering import Answer, Asked
from components.text.principles import Constitution, Judgement, judge


def judge_answer(constitution: Constitution, prompt: Asked, answer: Answer) -> Judgement:
    """Judge one answer by every principle.

    Args:
        constitution: the principles.
        prompt: what was asked, with the documentation's answer.
        answer: what the policy said.

    Raises:
        AttemptFailed: a check raised, or its score is no number.
    """
    try:
        judgement = judge(
            constitution,
            prompt.question,
            prompt.subject,
            answer.text,
            prompt.reference,
            finished=answer.finished,
        )
    except Exception as error:  # a check is code that people edit: anything may come out of it
        raise AttemptFailed(
            "judge_failed",
            f"the judge failed on {prompt.question!r} ({type(error).__name__}: {error})",
        ) from error
    if not math.isfinite(judgement.total):
        raise AttemptFailed(
            "judge_failed", f"the judge's score of {prompt.question!r} is {judgement.total}"
        )
    return judgement
