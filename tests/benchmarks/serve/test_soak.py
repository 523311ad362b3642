"""A soak of seconds on a very small model, and its verdicts on given records."""

from __future__ import annotations

from benchmarks.serve.load_generator import StreamRecord
from benchmarks.serve.soak import SoakSetup, soak_figures, soak_server
from benchmarks.serve.targets.load_targets import HttpTarget
from benchmarks.serve.targets.served_models import BenchModel
from models.shape_presets import NANO

EVENT = b'data: {"choices":[{"text":"%s"}]}\n\n'


def test_seconds_of_mixed_requests_leave_all_slots_and_answers(
    own_server: HttpTarget, model: BenchModel
) -> None:
    setup = SoakSetup(NANO, slots=4, streams=6, kinds=4, prompt=(2, 40), answer=(4, 12))
    broken, different, growth, lost = soak_server(own_server, model, 3, setup)
    assert (broken.value, different.value, lost.value) == (0, 0, 0)
    assert growth.value is not None
    assert different.note != "of 0"


def greedy(text: bytes, label: str) -> StreamRecord:
    return StreamRecord(0, 200, whole=True, body=EVENT % text, label=label)


def test_a_soak_tells_broken_and_other_answers_and_growth() -> None:
    records = [
        greedy(b"a", "0"),
        greedy(b"b", "1"),  # alone it was c
        StreamRecord(0, 500),
        StreamRecord(0, 200, cancelled=True, label="cancelled"),
    ]
    # 50 at the start is warm-up; then it grows from 100 to 110.
    memory = [(0.0, 50), *((0.2 + step * 0.01, 100 + step // 7) for step in range(71)), (1.0, 110)]
    broken, different, growth = soak_figures(records, {"0": "a", "1": "c"}, memory, 0.2)
    assert (broken.value, broken.holds) == (1, False)
    assert (different.value, different.holds, different.note) == (1, False, "of 2")
    assert growth.value is not None
    assert 0.08 < growth.value < 0.11
    assert growth.holds is False
    flat = soak_figures([], {}, [(at / 10, 100) for at in range(11)], 0.2)
    assert [figure.holds for figure in flat] == [True, True, True]
