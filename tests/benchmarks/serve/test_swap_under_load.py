"""Verdicts on the requests around a kill."""

from __future__ import annotations

from benchmarks.serve.load_generator import StreamRecord
from benchmarks.serve.swap_under_load import kill_figures


def record(due: float, ended: float, status: int = 200, whole: bool = True) -> StreamRecord:
    return StreamRecord(due, status, ended_at=ended, whole=whole)


def test_new_answers_are_those_to_requests_after_the_kill() -> None:
    records = [
        record(8, 12),  # due before the kill, whole after it: no new answer
        record(9, 10, whole=False),
        record(11, 11, 503, whole=False),
        record(12, 12, 0, whole=False),
        record(13, 14),
        record(14, 14.5),
    ]
    (figure,) = kill_figures(records, killed_at=10)
    assert (figure.value, figure.holds) == (4, True)
    assert figure.note == "1 answers cut, 1 answered 503, 1 broken"
    assert kill_figures(records, killed_at=8.5)[0].value == 5.5


def test_no_new_answer_is_a_failure() -> None:
    (figure,) = kill_figures([record(11, 11, 503, whole=False)], killed_at=10)
    assert (figure.value, figure.holds) == (None, False)
