"""The engine's threads: chosen by a clock of its own, changed in mid-flight, answers as before."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.export.onnx import decoding_threads
from components.export.onnx.decoding_threads import FIRST_STEPS, DecodingThreads, ThreadTunedBatch
from components.export.onnx.graph_builder import save_graph, weights_of
from components.export.onnx.onnx_session import OnnxModel
from components.export.onnx.ragged_runtime import RaggedBatch
from components.export.onnx.served_graph import served_graph
from models.decoder import Decoder

IDLE = {1: 1.4, 2: 1.0}
CROWDED = {1: 1.6, 2: 3.0}


@dataclass
class Machine:
    """A clock that only decoding moves, by what it takes on the threads of the open session."""

    model: OnnxModel
    threads: dict[int, int] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=lambda: dict(IDLE))
    now: float = 0.0
    opened: list[int] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def step(self) -> None:
        self.now += self.seconds[self.threads[id(self.model.session)]]


@pytest.fixture
def machine(tmp_path: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> Machine:
    path = tmp_path / "model.onnx"
    save_graph(served_graph(weights_of(decoder)), path)
    made = Machine(OnnxModel(path, 1))
    kept: list[Any] = []  # so that no later session takes an id

    def opened(model: OnnxModel, threads: int | None) -> Any:
        assert threads is not None
        session = decoding_open(model, threads)
        kept.append(session)
        made.threads[id(session)] = threads
        made.opened.append(threads)
        return session

    decoding_open = OnnxModel.open
    monkeypatch.setattr(OnnxModel, "open", opened)
    run = RaggedBatch.step

    def stepped(batch: RaggedBatch, tokens: Any) -> Any:
        made.step()
        return run(batch, tokens)

    monkeypatch.setattr(RaggedBatch, "step", stepped)
    return made


def steered(machine: Machine, asked: int | None = None, limit: int = 2) -> DecodingThreads:
    threads = DecodingThreads(machine.model, asked, limit=limit, clock=machine.clock)
    threads.start()
    return threads


@pytest.mark.parametrize(("seconds", "chosen"), [(IDLE, 2), (CROWDED, 1)])
def test_the_quickest_is_taken_at_the_start(
    machine: Machine, seconds: dict[int, float], chosen: int
) -> None:
    machine.seconds = dict(seconds)
    threads = steered(machine)
    assert threads.threads == machine.threads[id(machine.model.session)] == chosen


@pytest.mark.parametrize(("asked", "limit"), [(2, 4), (None, 1)])
def test_nothing_is_measured_where_nothing_is_to_choose(
    machine: Machine, asked: int | None, limit: int
) -> None:
    threads = steered(machine, asked, limit)
    assert machine.opened == [asked or 1]
    batch = ThreadTunedBatch(machine.model, threads, machine.model.context, slots=2)
    batch.prefill([[5, 6]])
    for _ in range(20):
        batch.step([7])
    assert machine.opened == [asked or 1]


def test_served_beside_others_it_goes_on_with_fewer_and_back(machine: Machine) -> None:
    threads = steered(machine)
    batch = ThreadTunedBatch(machine.model, threads, machine.model.context, slots=2)

    def decode(steps: int) -> None:
        for _ in range(steps):
            if not len(batch) or batch.remaining_context(0) < 1:
                if len(batch):
                    batch.leave(0)
                batch.prefill([[5, 6]])
            batch.step([7])

    decode(FIRST_STEPS + 40)
    assert threads.threads == 2
    machine.seconds = dict(CROWDED)
    decode(120)
    assert threads.threads == 1
    machine.seconds = dict(IDLE)
    decode(800)
    assert threads.threads == 2


def test_a_comparison_whose_rows_come_no_more_is_given_up(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding_threads, "FIRST_STEPS", 3)
    monkeypatch.setattr(decoding_threads, "MAX_OTHER_STEPS", 5)
    threads = steered(machine)
    batch = ThreadTunedBatch(machine.model, threads, machine.model.context, slots=2)
    batch.prefill([[5, 6], [7, 8]])
    for _ in range(4):
        batch.step([7, 7])
    assert threads._comparison is not None
    batch.leave(0)
    for _ in range(7):
        batch.step([7])
    assert threads._comparison is None
    assert machine.threads[id(machine.model.session)] == threads.threads == 2


def test_more_cores_are_compared_by_neighbouring_numbers(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding_threads, "FIRST_STEPS", 2)
    machine.seconds = {4: 1.0, 3: 1.2, 2: 1.5, 1: 3.0}
    threads = steered(machine, limit=4)
    assert threads.threads == 4
    machine.opened.clear()
    batch = ThreadTunedBatch(machine.model, threads, machine.model.context, slots=1)
    batch.prefill([[5, 6]])
    for _ in range(3):
        batch.step([7])
    assert machine.opened == [3]


def test_a_change_in_mid_flight_leaves_the_answers(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding_threads, "FIRST_STEPS", 3)
    monkeypatch.setattr(decoding_threads, "ROUND_STEPS", 2)

    def answers(batch: RaggedBatch) -> list[list[int]]:
        logits = batch.prefill([[5, 6, 7], [9, 8]])
        said: list[list[int]] = []
        for _ in range(30):
            said.append([int(token) for token in logits.argmax(1)])
            logits = batch.step(said[-1])
        return said

    machine.model.use(machine.model.open(1))
    alone = answers(RaggedBatch(machine.model, slots=2))
    threads = steered(machine)
    used = {machine.threads[id(machine.model.session)]}
    batch = ThreadTunedBatch(machine.model, threads, machine.model.context, slots=2)
    use = OnnxModel.use

    def noted(model: OnnxModel, session: Any) -> None:
        used.add(machine.threads[id(session)])
        use(model, session)

    monkeypatch.setattr(OnnxModel, "use", noted)
    assert answers(batch) == alone
    assert used == {1, 2}
    assert np.isfinite(batch.step([1, 1])).all()
