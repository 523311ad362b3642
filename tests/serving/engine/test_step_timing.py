from __future__ import annotations

from serving.engine.step_timing import MIN_CHUNK, StepTimes


def measured(decode: float, token: float, *, most: int = 256) -> StepTimes:
    """Times of steps that decode and read 20 prompt tokens."""
    times = StepTimes(most)
    for _ in range(16):
        times.note_step(20, 20 * token, decode)
    return times


def test_a_chunk_takes_four_tenths_of_a_decoding_step() -> None:
    assert measured(1000, 10).prompt_budget(decoding=True) == 40
    assert measured(50_000, 10).prompt_budget(decoding=True) == 256
    assert measured(100, 10).prompt_budget(decoding=True) == MIN_CHUNK
    assert measured(100, 10, most=5).prompt_budget(decoding=True) == 5


def test_the_whole_budget_goes_to_prompts_while_nothing_is_decoded() -> None:
    assert measured(1e-4, 1e-5).prompt_budget(decoding=False) == 256
    assert StepTimes(99).prompt_budget(decoding=False) == 99


def test_the_first_chunk_beside_streams_is_small() -> None:
    times = StepTimes(256)
    times.note_step(256, 1e-3, None)
    times.note_step(0, 0.0, 1e-3)
    assert times.prompt_budget(decoding=True) == MIN_CHUNK


def test_streams_never_wait_twice_as_long_as_a_chunk_s_fixed_cost_grows_the_budget() -> None:
    decode, fixed, token = 1e-3, 2e-4, 1e-5
    times = StepTimes(256)
    for _ in range(60):
        budget = times.prompt_budget(decoding=True)
        chunk = fixed + budget * token
        assert decode + chunk < 2 * decode
        times.note_step(budget, chunk, decode)
    assert 18 <= budget <= 22  # (0.4 * decode - fixed) / token


def test_short_steps_run_in_the_event_loop_and_long_ones_do_not() -> None:
    times = StepTimes(256)
    assert not times.runs_inline(0, decoding=True)  # nothing is known
    decisions = []
    for seconds in (3e-3, 5e-3, 7e-3, 5e-3, 3e-3):
        for _ in range(16):
            times.note_step(0, 0.0, seconds)
        decisions.append(times.runs_inline(0, decoding=True))
    assert decisions == [True, True, False, False, True]


def test_a_long_chunk_leaves_the_event_loop_alone() -> None:
    times = measured(1e-3, 2e-5)
    times.note_step(256, 15e-3, None)
    assert times.runs_inline(0, decoding=True)
    assert times.runs_inline(50, decoding=True)
    assert not times.runs_inline(300, decoding=True)
    assert not times.runs_inline(256, decoding=False)
    assert times.runs_inline(20, decoding=False)


def test_a_longer_step_yields_more_turns() -> None:
    times = StepTimes(256)
    assert [times.turns_to_yield(s) for s in (1e-4, 1.1e-3, 9.0)] == [1, 3, 13]
