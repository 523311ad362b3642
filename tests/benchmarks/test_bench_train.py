"""The parts of the bench of training: exact losses, the peers' programs, the verdicts."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks.bench_setting import BenchSetting
from benchmarks.peer_programs import peer_program
from benchmarks.peers.train import nanogpt_char
from benchmarks.train import (
    batch_splits,
    charlm,
    documentation_loss,
    gpu_utilisation,
    step_growth,
    trainer_speed,
)
from benchmarks.train.bench_train import bench_train
from benchmarks.train.char_corpus import block_loss, pack_letters
from benchmarks.train.step_time import measure_step_seconds, random_tokens
from components.core.errors import ConfigError
from components.core.settings import Settings
from models.decoder import Decoder
from models.shape import DecoderShape

SMALL = DecoderShape(
    vocabulary=12, width=16, layers=1, heads=2, kv_heads=1, head_width=8, hidden=24, context=16
)


def setting(folder: Path) -> BenchSetting:
    return BenchSetting(Settings(folder, folder), folder, 1, lambda line: None)


def test_letters_are_split_nine_to_one_and_the_end_never_occurs(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("abcab" * 20)
    letters = pack_letters(path, tmp_path)
    train, heldout = (np.load(letters.folder / f"{s}.npy") for s in ("train", "heldout"))
    assert (len(train), len(heldout), letters.vocabulary) == (90, 10, 4)
    assert max(train.max(), heldout.max()) == 2


@pytest.mark.parametrize("count", [33, 40])
def test_every_held_out_letter_but_the_first_counts_once(count: int) -> None:
    torch.manual_seed(0)
    model = Decoder(SMALL)
    tokens = np.arange(count) * 5 % 12
    losses = []
    for at in range(1, count):  # each letter from those of its block before it
        start = (at - 1) // 8 * 8
        logits = model(torch.from_numpy(tokens[None, start:at]))[0, -1]
        losses.append(float(F.cross_entropy(logits, torch.tensor(tokens[at])).detach()))
    assert block_loss(model, tokens, 8) == pytest.approx(math.fsum(losses) / len(losses), rel=1e-5)


def test_the_peer_is_read_by_the_same_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nanogpt_char, "BLOCK", 8)
    torch.manual_seed(0)
    model, tokens = nanogpt_char.Model(12), np.arange(525) * 7 % 12  # 65 blocks and a half
    found = nanogpt_char.heldout_loss(model, torch.from_numpy(tokens))
    assert found == pytest.approx(block_loss(model, tokens, 8), rel=1e-5)  # type: ignore[arg-type]


def test_the_peer_is_of_the_published_size_and_rates() -> None:
    model = nanogpt_char.Model(65)
    counted = sum(p.numel() for n, p in model.named_parameters() if n != "places.weight")
    assert round(counted / 1e6, 2) == 0.80
    assert model.head.weight is model.letters.weight
    rates = [nanogpt_char.learning_rate(step, 2000) for step in (0, 99, 100, 1050, 1999)]
    assert rates == pytest.approx([1e-3 / 101, 1e-3 * 100 / 101, 1e-3, 5.5e-4, 1e-4], rel=1e-3)


def test_both_recipes_are_within_their_bounds() -> None:
    quick, free = charlm.quick_recipe(66), charlm.free_recipe(66)
    assert (quick.shape.layers, quick.shape.heads, quick.shape.width) == (4, 4, 128)
    assert (quick.sequence_length, quick.shape.context) == (64, 64)
    assert quick.shape.parameters < 1.005 * sum(
        p.numel() for p in nanogpt_char.Model(65).parameters()
    )
    assert free.shape.parameters < charlm.FREE_PARAMETERS
    assert free.minutes == pytest.approx(70 / 60)


def test_the_peer_program_learns(tmp_path: Path) -> None:
    ids = np.arange(2000) % 5
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for path in paths:
        np.save(path, ids.astype(np.uint16))
    command = [
        sys.executable,
        str(peer_program("nanogpt_char")),
        *map(str, paths),
        "5",
        "0.0",
        "30",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seconds, steps, loss = json.loads(done.stdout)
    assert (seconds > 0, steps) == (True, 30)
    assert loss < 0.5 * math.log(5)


def test_intervals_that_meet_hold_no_promise() -> None:
    apart = documentation_loss.compare_recipes([1.10, 1.11, 1.12], [1.20, 1.21, 1.22])
    assert [figure.holds for figure in apart] == [True, True]
    meeting = documentation_loss.compare_recipes([1.10, 1.11, 1.12], [1.13, 1.14, 1.15])
    assert [figure.holds for figure in meeting] == [True, False]
    assert documentation_loss.time_budget_figure([0.01, -0.03]).holds
    assert not documentation_loss.time_budget_figure([0.01, -0.06]).holds
    low, high = documentation_loss.student_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5))


def test_the_other_recipe_differs_in_recipe_alone() -> None:
    own, other = documentation_loss.own_recipe(), documentation_loss.adamw_recipe()
    assert (other.optim.kind, other.schedule.kind, other.autopilot) == ("adamw", "cosine", False)
    assert (own.minutes, own.seed) == (other.minutes, other.seed)


def test_exponents() -> None:
    assert step_growth.fit_exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2.0)


def test_differences_are_relative_and_of_the_worst_step() -> None:
    assert batch_splits.largest_difference([[2.0, 4.0], [2.0, 4.0], [2.0, 4.4]]) == pytest.approx(
        0.1
    )


@pytest.mark.timeout(300)
def test_losses_do_not_hang_on_the_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_splits, "_PARALLEL_CONFIGS", batch_splits._PARALLEL_CONFIGS[:2])
    figures = batch_splits.measure_splits(setting(tmp_path))
    assert [figure.holds for figure in figures] == [True] * 4


def test_a_step_is_timed_behind_its_warm_ups(tmp_path: Path) -> None:
    config = trainer_speed.timed_recipe().model_copy(
        update={
            "shape": SMALL,
            "sequence_length": 16,
            "short_sequence_length": 16,
            "batch": 32,
            "steps": 4,
            "precision": "float32",
        }
    )
    assert 0 < measure_step_seconds(config, random_tokens(tmp_path, 12), tmp_path, 2) < 5


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="no accelerate")
def test_transformers_trainer_runs(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(400) % 12)
    (tmp_path / "shape.json").write_text(json.dumps(SMALL.__dict__))
    told = [str(tmp_path / "a.npy"), str(tmp_path / "shape.json"), "2", "16", "4", "2"]
    done = subprocess.run(
        [sys.executable, str(peer_program("hf_trainer")), *told], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) > 0


@pytest.mark.parametrize(
    "part",
    [
        charlm.measure_time_to_loss,
        charlm.measure_loss_in_budget,
        documentation_loss.measure_documentation,
    ],
)
def test_without_the_data_nothing_is_demanded(part: object, tmp_path: Path) -> None:
    (figure,) = part(setting(tmp_path))  # type: ignore[operator]
    assert (figure.value, figure.holds) == (None, None)
    assert "no " in figure.note


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_figures_are_absent(tmp_path: Path) -> None:
    figures = gpu_utilisation.measure_gpu(setting(tmp_path))
    assert {figure.note for figure in figures} == {"no GPU"}
    assert len(figures) == 3


def test_a_part_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no part speed; parts: charlm, "):
        bench_train(Settings(tmp_path, tmp_path), ["speed"], 1, lambda line: None)
