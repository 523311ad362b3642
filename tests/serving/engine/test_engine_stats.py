"""Figures of an engine over steps with a clock of the test's own."""

from __future__ import annotations

from serving.engine.engine_stats import EngineStats
from serving.engine.generation import AnswerOptions, Generation
from serving.engine.sampling import SamplingParams


def start_answer(limit: int, submitted: float) -> Generation:
    answer = Generation([1, 2, 3], SamplingParams(), limit, frozenset({0}), AnswerOptions())
    answer.submitted = submitted
    return answer


def test_times_are_of_the_first_token_and_between_the_others() -> None:
    now = 10.0
    stats = EngineStats(clock=lambda: now)
    answer, given_up = start_answer(3, 9.8), start_answer(3, 9.0)
    for now in (10.0, 10.2, 10.4):
        answer.accept_token(7)
        stats.note_step(2, 3 if now == 10.0 else 0, [answer, given_up] if now == 10.0 else [answer])
    assert answer.finish_reason == "length"
    assert (stats.steps, stats.prompt_tokens_read) == (3, 3)
    assert stats.step_rows.cumulative()[:2] == [("1", 0), ("2", 3)]
    first = dict(stats.first_token.cumulative())
    assert (first["0.1"], first["0.25"], first["1"], first["+Inf"]) == (0, 1, 2, 2)
    between = dict(stats.token_seconds.cumulative())
    assert (between["0.1"], between["0.25"], between["+Inf"]) == (0, 1, 1)
    assert abs(stats.token_seconds.total - 0.2) < 1e-9
