"""Threads: the choice with a clock of its own, its journal, what a resume walks, what pins it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from components.core.errors import ConfigError, DataError
from components.core.process.thread_search import (
    LONGEST_PATIENCE_SECONDS,
    PATIENCE_SECONDS,
    fewest_fast_threads,
    is_worth_changing,
    thread_counts_to_try,
    time_thread_counts,
)
from components.core.process.thread_tuning import (
    STAGE_JOURNAL,
    TRAINING_JOURNAL,
    StageThreadTuner,
    ThreadChoice,
    ThreadTuner,
    sample_decoder_step,
)
from components.core.store.workdir import Workdir

IDLE = {1: 1.4, 2: 1.0}
BESIDE_ONE = {1: 1.5, 2: 3.0}


@dataclass
class Machine:
    """A clock that only steps move, each by what it takes on torch's present threads."""

    seconds: dict[int, float] = field(default_factory=lambda: dict(IDLE))
    now: float = 0.0
    trials: int = 0

    def clock(self) -> float:
        return self.now

    def step(self) -> float:
        taken = self.seconds[torch.get_num_threads()]
        self.now += taken
        return taken

    def trial(self) -> None:
        self.trials += 1
        self.step()


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MODELMILL_THREADS", "measure")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def opened(work: Workdir, machine: Machine, limit: int = 2) -> ThreadTuner:
    return ThreadTuner(work, limit=limit, clock=machine.clock)


def walk(threads: ThreadTuner, machine: Machine, steps: range) -> list[int]:
    """Take steps; the threads that each was taken on."""
    on = []
    for step in steps:
        threads.settle_threads(step, machine.trial)
        on.append(torch.get_num_threads())
        threads.note_step(machine.step())
    return on


def journal(work: Workdir) -> list[list[int]]:
    turns: list[list[int]] = json.loads((work.scratch / TRAINING_JOURNAL).read_bytes())["turns"]
    return turns


def test_what_is_tried() -> None:
    assert thread_counts_to_try(1) == [1]
    assert thread_counts_to_try(2) == [2, 1]
    assert thread_counts_to_try(16) == [16, 15, 8, 1]


def test_fewer_threads_are_not_tried_below_what_is_much_slower() -> None:
    machine, tried = Machine({16: 2.0, 15: 1.1, 8: 1.9, 1: 12.0}), list[int]()

    def use(count: int) -> None:
        tried.append(count)

    def trial() -> None:
        machine.now += machine.seconds[tried[-1]]

    seconds = time_thread_counts(trial, [16, 15, 8, 1], use, machine.clock)
    assert seconds == {16: 2.0, 15: pytest.approx(1.1), 8: pytest.approx(1.9)}
    assert fewest_fast_threads(seconds) == 15


def test_as_few_as_are_as_good() -> None:
    assert fewest_fast_threads({2: 1.0, 1: 1.04}) == 1
    assert fewest_fast_threads({2: 1.0, 1: 1.06}) == 2
    assert not is_worth_changing(2, {2: 1.09, 1: 1.0})
    assert is_worth_changing(2, {2: 1.11, 1: 1.0})
    assert is_worth_changing(1, {4: 1.0, 3: 2.0})  # not tried, since three are much slower already


@pytest.mark.parametrize(("seconds", "chosen"), [(IDLE, 2), (BESIDE_ONE, 1)])
def test_the_quickest_is_journalled_before_the_first_step(
    work: Workdir, seconds: dict[int, float], chosen: int
) -> None:
    machine = Machine(dict(seconds))
    with opened(work, machine) as threads:
        assert threads.settle_threads(0, machine.trial)
        assert journal(work) == [[0, chosen]]
        assert torch.get_num_threads() == chosen
        assert work.threads == chosen
        assert not threads.settle_threads(1, machine.trial)


def test_what_torch_had_comes_back(work: Workdir) -> None:
    torch.set_num_threads(2)
    machine = Machine(dict(BESIDE_ONE))

    def stopped() -> None:
        with opened(work, machine) as threads:
            threads.settle_threads(0, machine.trial)
            assert torch.get_num_threads() == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert torch.get_num_threads() == 2


def test_a_neighbour_comes_and_goes(work: Workdir) -> None:
    machine = Machine()
    with opened(work, machine) as threads:
        assert set(walk(threads, machine, range(16))) == {2}
        machine.seconds = dict(BESIDE_ONE)
        beside = walk(threads, machine, range(16, 116))
        assert beside[:4] == [2] * 4
        assert beside[30:] == [1] * 70
        machine.seconds = dict(IDLE)
        after = walk(threads, machine, range(116, 400))
    assert after[:1] == [1]
    assert after[-1] == 2
    numbers = [turn.threads for turn in threads.choices]
    assert numbers == [2, 1, 2]
    assert journal(work) == [[turn.from_step, turn.threads] for turn in threads.choices]


def test_measuring_costs_little_where_nothing_changes(work: Workdir) -> None:
    machine = Machine()
    with opened(work, machine) as threads:
        walk(threads, machine, range(2000))
    # Six trials each: at first, after 20, 40 ... 300 s, and every 300 s from then on.
    assert machine.trials * 1.2 < 0.05 * machine.now
    assert journal(work) == [[0, 2]]
    assert threads._watch.patience_seconds == LONGEST_PATIENCE_SECONDS > PATIENCE_SECONDS


def test_a_resume_walks_the_same_changes(work: Workdir) -> None:
    machine = Machine()
    with opened(work, machine) as threads:
        first = walk(threads, machine, range(12))
        machine.seconds = dict(BESIDE_ONE)
        first += walk(threads, machine, range(12, 60))
    written = journal(work)
    assert [threads for _, threads in written] == [2, 1]
    machine.trials = 0
    machine.seconds = dict(IDLE)
    with opened(work, machine) as again:
        second = walk(again, machine, range(8, written[1][0] + 1))
    assert second == first[8 : written[1][0] + 1]
    assert machine.trials == 0
    assert journal(work) == written


def test_a_damaged_journal_is_one_line(work: Workdir) -> None:
    for content in (
        b"{",
        b'{"turns": [[0]]}',
        b'{"turns": [[3, 2], [0, 1]]}',
        b'{"turns": [[0, 0]]}',
    ):
        (work.scratch / TRAINING_JOURNAL).write_bytes(content)
        with pytest.raises(DataError, match=r"threads\.json is damaged .* to measure anew"):
            ThreadTuner(work)


def test_the_user_pins_it_from_the_resumed_step_on(
    work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    with opened(work, machine) as threads:
        walk(threads, machine, range(5))
    monkeypatch.setenv("MODELMILL_THREADS", "1")
    machine.trials = 0
    with opened(work, machine) as threads:
        assert walk(threads, machine, range(3, 6)) == [1, 1, 1]
    assert journal(work) == [[0, 2], [3, 1]]
    assert machine.trials == 0


@pytest.mark.parametrize("asked", ["0", "two", "-1", "1025", "1.5"])
def test_a_number_that_is_none_is_refused(
    work: Workdir, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv("MODELMILL_THREADS", asked)
    with pytest.raises(ConfigError, match=f"MODELMILL_THREADS={asked}: give a number, 1 to 1024"):
        ThreadTuner(work)


def test_on_one_core_nothing_is_measured(work: Workdir) -> None:
    machine = Machine({1: 1.0})
    with opened(work, machine, limit=1) as threads:
        assert set(walk(threads, machine, range(50))) == {1}
    assert machine.trials == 0
    assert journal(work) == [[0, 1]]


def test_a_stage_without_steps_settles_once(work: Workdir) -> None:
    with StageThreadTuner(work) as threads:
        assert torch.get_num_threads() == threads.choices[0].threads
    (turn,) = threads.choices
    assert (work.scratch / STAGE_JOURNAL).is_file()
    (work.scratch / STAGE_JOURNAL).write_text(json.dumps({"turns": [[0, 2]]}))
    with StageThreadTuner(work) as again:
        assert again.choices == [ThreadChoice(0, 2)]
        assert torch.get_num_threads() == 2
    assert turn.from_step == 0


def test_the_sample_leaves_torch_s_generator_alone() -> None:
    before = torch.get_rng_state()
    sample_decoder_step()()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_last_number_is_a_stat(work: Workdir, tmp_path: Path) -> None:
    from components.core.store.artifact import Report

    work.threads = 2
    made = work.seal(Report, stats={"words": 3.0})
    assert list(made.stats) == ["seconds", "words", "threads"]
    assert made.stats["threads"] == 2.0
