"""Parity passes what is equal and catches what an argmax would miss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from components.core.errors import DataError
from components.core.store.artifact import Tokens
from components.core.store.workdir import Workdir
from components.export.parity import (
    Ids,
    Logits,
    Parity,
    ParityCase,
    ParityConfig,
    measure_parity,
    parity_cases,
    read_parity,
    write_parity,
)
from components.export.parity_forms import torch_form
from components.text.token_arrays import save_split
from models.decoder import Decoder

CONFIG = ParityConfig(positions=200, batch=3, steps=4)


@pytest.fixture
def cases(work: Workdir, decoder: Decoder, tokens: Tokens) -> list[ParityCase]:
    return parity_cases(decoder, work.artifact_folder(tokens), CONFIG)


def test_the_same_model_through_its_cache_passes(decoder: Decoder, cases: list[ParityCase]) -> None:
    parity = measure_parity(torch_form(decoder), cases, CONFIG, name="torch", measured_on="itself")
    assert parity.passes
    assert parity.positions >= 200
    assert parity.decoded_positions >= 12
    assert parity.kl_mean is not None
    assert parity.kl_mean < 1e-10


def test_cases_cover_the_whole_context_and_ragged_rows(cases: list[ParityCase]) -> None:
    lengths = {len(row) for case in cases for row in case.rows}
    assert max(lengths) == 48
    assert len(lengths) > 2
    assert all(len(case.rows) == 3 for case in cases[1:])


def test_a_small_noise_fails_on_kl_though_every_argmax_agrees(cases: list[ParityCase]) -> None:
    def noisy(rows: Sequence[Ids], steps: int) -> list[Logits]:
        case = next(case for case in cases if case.rows is rows)
        wave = 1e-3 * np.sin(np.arange(320))
        return [expected + wave for expected in case.expected]

    parity = measure_parity(noisy, cases, CONFIG, name="noisy", measured_on="here")
    assert parity.top1_agreement > 0.99
    assert not parity.passes
    assert "noisy: KL" in str(parity)


def test_logits_that_are_not_finite_fail_and_can_be_written(
    cases: list[ParityCase], tmp_path: Path
) -> None:
    def broken(rows: Sequence[Ids], steps: int) -> list[Logits]:
        return [np.full((len(row), 320), np.nan, dtype=np.float32) for row in rows]

    parity = measure_parity(broken, cases, CONFIG, name="broken", measured_on="here")
    assert not parity.passes
    assert parity.kl_mean is None
    write_parity(tmp_path, parity)
    assert read_parity(tmp_path) == parity
    assert "not finite" in str(parity)


def test_a_record_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "parity.json").write_text('{"form": "onnx"}')
    with pytest.raises(DataError, match="no parity record") as caught:
        read_parity(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_held_out_tokens_is_an_error(work: Workdir, decoder: Decoder, tokens: Tokens) -> None:
    save_split(work.artifact_folder(tokens), "heldout", [], 320)
    with pytest.raises(DataError, match="no held-out tokens"):
        parity_cases(decoder, work.artifact_folder(tokens), CONFIG)


def test_stats_leave_out_what_is_not_finite() -> None:
    parity = Parity(
        form="x",
        measured_on="y",
        max_abs_logit_difference=None,
        kl_mean=None,
        top1_agreement=0.0,
        positions=1,
        decoded_positions=0,
        passes=False,
        bounds={},
    )
    assert parity.stats == {"passes": 0.0, "top1_agreement": 0.0}
