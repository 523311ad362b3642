"""Speeds of a very small model, served as a large one is; verdicts on given rounds."""

from __future__ import annotations

from pathlib import Path

from benchmarks.bench_setting import BenchSetting
from benchmarks.serve.decoding_speed import SpeedSetup, measure_speed, speed_figures
from benchmarks.serve.targets.load_targets import RoundResult
from benchmarks.serve.targets.served_models import BenchModel, untexted_tokens
from components.core.settings import Settings
from models.shape_presets import NANO


def test_prompts_have_the_length_asked_for_and_share_beginnings(model: BenchModel) -> None:
    for tokens in (1, 7, 60):
        text = model.make_prompt(tokens, seed=3)
        assert len(model.tokenizer.encode_text(text)) == tokens
    assert model.make_prompt(7, seed=3) != model.make_prompt(7, seed=4)


def test_no_token_that_ends_an_answer_or_is_half_a_character_can_win(model: BenchModel) -> None:
    import numpy as np

    weights = np.load(model.folder / "weights.npz")["embed_tokens.weight"]
    silent = untexted_tokens(model.tokenizer, NANO.vocabulary)
    assert set(model.tokenizer.stop_ids) <= set(silent)
    assert not weights[silent].any()
    spoken = [token for token in range(NANO.vocabulary) if token not in set(silent)]
    assert weights[spoken].any(axis=1).all()


def test_speeds_are_measured_over_http_and_in_process(tmp_path: Path) -> None:
    """Without peers the figures have values, and no verdict."""
    settings = Settings(home=tmp_path, reference_data=tmp_path)
    setup = SpeedSetup({"3 M": NANO}, streams=(2,), answer_tokens=8, answers_per_stream=1)
    figures = measure_speed(BenchSetting(settings, tmp_path, 1, lambda _: None), setup)
    assert [figure.name for figure in figures[::2]] == [
        "3 M, 2 streams, over HTTP",
        "3 M, 2 streams, temperature 0.7, top-p 0.9, over HTTP",
        "3 M, 2 streams, in process",
        "3 M, 2 streams, temperature 0.7, top-p 0.9, in process",
    ]
    assert all(figure.value for figure in figures[::2])
    assert all(figure.holds is None for figure in figures)


def rounds(*seconds: float) -> list[RoundResult]:
    return [RoundResult(100, taken, 0.01) for taken in seconds]


def test_the_multiple_is_of_the_better_peer_and_of_rounds_side_by_side() -> None:
    results = {
        "Modelmill": rounds(1, 2, 4),
        "slow": rounds(9, 9, 9),
        "quick": rounds(2, 4, 8),  # the machine slowed down; the ratio did not
    }
    speed, multiple = speed_figures("x", results, 1.5, "")
    assert (speed.peer, speed.peer_value, speed.value) == ("quick", 25.0, 50.0)
    assert (multiple.value, multiple.target, multiple.holds) == (2.0, 1.5, True)
    assert "100 µs of processor a token" in speed.note
    assert speed_figures("x", results, 2.5, "")[1].holds is False
