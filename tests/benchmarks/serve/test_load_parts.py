"""The parts that put load on a server, of a very small model; their verdicts on given times."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from benchmarks.serve.entering_prompts import PromptsSetup, entering_figures, token_gaps
from benchmarks.serve.load_generator import StreamRecord
from benchmarks.serve.open_arrivals import (
    ArrivalSetup,
    first_token_figures,
    overload_figures,
    overload_server,
    recovery_seconds,
)
from benchmarks.serve.request_mix import RequestSizes, Saturation
from benchmarks.serve.shared_prefix import PrefixSetup, prefix_figures
from benchmarks.serve.targets.load_targets import HttpTarget
from benchmarks.serve.targets.peer_servers import check_agreement
from benchmarks.serve.targets.served_models import BenchModel
from components.core.errors import MillError
from models.shape_presets import NANO

ARRIVALS = ArrivalSetup(
    NANO, slots=4, sizes=RequestSizes((2, 8), (4, 8)), saturating=12, seconds=0.5
)


def test_streams_with_a_shared_beginning_are_measured(
    own_server: HttpTarget, model: BenchModel
) -> None:
    setup = PrefixSetup(NANO, streams=2, shared=40, own=4, answer=4, answers_per_stream=1)
    speed, multiple = prefix_figures([own_server], model, setup, 1, "no peer")
    assert speed.value
    assert (multiple.value, multiple.holds, multiple.note) == (None, None, "no peer")


def test_first_tokens_and_an_overload_are_timed(own_server: HttpTarget, model: BenchModel) -> None:
    (figure,) = first_token_figures([own_server], model, ARRIVALS)
    assert figure.value
    assert figure.holds is not None
    records, peak = overload_server(own_server, model, ARRIVALS)
    figures = overload_figures(records, peak, ARRIVALS.seconds)
    assert [f.value is not None for f in figures] == [True] * len(figures)
    assert figures[1].name.endswith("broken answers")
    assert figures[1].value == 0


def test_tokens_of_running_streams_are_timed(own_server: HttpTarget, model: BenchModel) -> None:
    setup = PromptsSetup(NANO, running=2, answer=40, prompt=30, prompts=2, gap=0.02)
    (figure,) = entering_figures([own_server], model, setup, repeats=1)
    assert figure.value is not None
    assert figure.value >= 1


def test_a_peer_that_computes_something_else_is_refused(
    own_server: HttpTarget, model: BenchModel
) -> None:
    assert check_agreement(model, own_server, [own_server]) == {"Modelmill": 1.0}

    class OtherText(HttpTarget):
        """The same server, asked for other texts."""

        def first_texts(self, prompts: Sequence[str]) -> list[str]:
            return super().first_texts([prompt[::-1] for prompt in prompts])

    with pytest.raises(MillError, match="Modelmill computes something else"):
        check_agreement(model, own_server, [OtherText(own_server.server)])


def answered(
    due: float, first: float, ended: float, tokens: int = 10, label: str = ""
) -> StreamRecord:
    return StreamRecord(
        due, 200, first, [first], ended, completion_tokens=tokens, whole=True, label=label
    )


def refused(due: float, at: float) -> StreamRecord:
    return StreamRecord(due, 429, at, ended_at=at)


def test_the_figures_of_an_overload() -> None:
    """Ten seconds, of which the first two do not count; a peak of 10 tokens a second."""
    load = [
        answered(0, 0.1, 1.0),  # within the first fifth
        *(answered(at, at + 0.1, at + 0.5) for at in range(2, 9)),  # 7 answers, 70 tokens in 8 s
        answered(9, 9.5, 12.0),  # ends after the overload
        refused(5, 5.02),
        refused(6, 6.08),
        StreamRecord(7, 0, ended_at=8),  # reset
    ]
    probes = [
        answered(10, 11.5, 11.6, label="probe"),
        answered(11, 11.02, 11.1, label="probe"),
        answered(12, 12.5, 12.6, label="probe"),
        answered(13, 13.02, 13.1, label="probe"),
    ]
    goodput, broken, refusal, recovery = overload_figures(
        [*probes, *load], Saturation(1, 10), seconds=10
    )
    assert goodput.value == pytest.approx(70 / 8 / 10)
    assert (goodput.holds, broken.value, broken.holds) == (False, 1, False)
    assert refusal.value == pytest.approx(79.4)  # of 20 and 80 ms
    assert (refusal.holds, recovery.value, recovery.holds) == (False, 3, False)
    assert recovery_seconds(probes[:3]) == math.inf


def test_tokens_that_come_together_share_their_time() -> None:
    record = StreamRecord(0, event_times=[1.0, 1.5, 2.5, 2.5])
    assert token_gaps([record]) == [0.5, 0.5, 0.5]
