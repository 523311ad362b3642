"""Devices, 8-bit floats, compiling and memory: what of it can be seen without a GPU."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from components.core.errors import ConfigError
from components.core.store.artifact import Tokens
from components.core.store.workdir import Workdir
from components.train.budget.peak_flops import measure_peak_flops
from components.train.device import resolve_device
from components.train.pretrain import pretrain
from components.train.trainer.float8 import Float8Linear, check_float8, use_float8
from components.train.trainer.layer_compile import compile_if_quicker, compile_layers, undo_compile
from components.train.trainer.oom_probe import find_fitting_size, is_out_of_memory
from models.decoder import Decoder
from tests.train.conftest import NANO
from tests.train.test_pretrain import losses, nano

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@without_gpu
def test_a_missing_gpu_is_refused_before_anything_is_trained(tokens: Tokens, store: Path) -> None:
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    work = Workdir.temporary(store)
    with pytest.raises(
        ConfigError, match=r"GPU \(cuda\) is asked for, but .* set it to auto or cpu"
    ):
        pretrain(nano(device="cuda"), tokens, work)
    assert not any(work.scratch.iterdir())


@without_gpu
def test_float8_is_refused_where_nothing_multiplies_it(tokens: Tokens, store: Path) -> None:
    with pytest.raises(ConfigError, match="float8: only GPUs"):
        pretrain(nano(float8=True), tokens, Workdir.temporary(store))
    with pytest.raises(ConfigError, match="float8"):
        check_float8(torch.device("cpu"))


def test_layers_in_float8_are_near_those_in_bfloat16() -> None:
    """torch multiplies 8-bit floats on processors as well, slowly: enough to see the arithmetic."""
    torch.manual_seed(0)
    plain = Decoder(NANO)
    plain.compute = torch.bfloat16
    small = copy.deepcopy(plain)
    assert use_float8(small.layers) == 7 * NANO.layers
    assert isinstance(copy.deepcopy(small).layers[0].mlp.up_proj, Float8Linear)
    ids = torch.randint(0, NANO.vocabulary, (4, 32), generator=torch.Generator().manual_seed(1))
    # Gradients so small that 8 bits hold none of them without a scale.
    share = torch.full(ids.shape, 1e-6 / ids.numel())
    grads = []
    for model in (plain, small):
        model.loss(model.hidden(ids), ids.roll(-1, 1), share).backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.layers.parameters()]))
    cosine = torch.nn.functional.cosine_similarity(*grads, dim=0)
    assert 0.98 < cosine < 0.99999  # near, and not the same: it did compute in 8 bits
    assert float(grads[1].norm() / grads[0].norm()) == pytest.approx(1.0, abs=0.1)


def test_compiling_is_kept_only_where_it_is_quicker() -> None:
    model = Decoder(NANO)
    ids = torch.zeros(1, 16, dtype=torch.long)
    before = model(ids)
    seconds = iter(range(1000))
    slow = {"compiled": 0.02, "eager": 0.0}

    def step() -> None:
        import time

        compiled = model.layers[0]._compiled_call_impl is not None
        time.sleep(slow["compiled" if compiled else "eager"] + 0.001)
        next(seconds)

    assert not compile_if_quicker(model.layers, step, backend="eager")
    assert model.layers[0]._compiled_call_impl is None
    slow.update(compiled=0.0, eager=0.02)
    assert compile_if_quicker(model.layers, step, backend="eager")
    assert torch.allclose(model(ids), before, atol=1e-6)
    undo_compile(model.layers)
    assert model.layers[0]._compiled_call_impl is None


def test_a_compiler_that_fails_leaves_the_layers_as_they_were() -> None:
    model = Decoder(NANO)

    def step() -> None:
        if model.layers[0]._compiled_call_impl is not None:
            raise RuntimeError("no C compiler")

    assert not compile_if_quicker(model.layers, step, backend="eager")
    assert model.layers[0]._compiled_call_impl is None


def test_a_compiled_training_follows_the_eager_one(
    tokens: Tokens, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def eagerly(layers: object, backend: str = "") -> None:
        compile_layers(layers, "eager")  # type: ignore[arg-type]

    monkeypatch.setattr("components.train.trainer.pretraining_call.compile_layers", eagerly)
    found = [
        losses(store / pretrain(nano(steps=2, compile=how), tokens, Workdir.temporary(store)).name)
        for how in ("never", "always")
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_torch_says_in_many_ways_that_memory_is_out() -> None:
    with pytest.raises(RuntimeError) as full:
        torch.empty(1 << 60)
    assert is_out_of_memory(full.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_halving_finds_what_fits() -> None:
    def step(tokens: int) -> None:
        if tokens > 300:
            torch.empty(1 << 60)

    assert find_fitting_size(step, 4096, 64) == 256
    assert find_fitting_size(step, 4096, 512) is None
    with pytest.raises(RuntimeError, match="shapes"):
        find_fitting_size(lambda tokens: torch.ones(2, 3) @ torch.ones(2, 3), 64, 8)


def test_a_step_that_does_not_fit_says_which_would(
    tokens: Tokens, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model asks for more than there is when it is given more than two rows."""
    hidden = Decoder.hidden

    def greedy(self: Decoder, ids: torch.Tensor, **given: object) -> torch.Tensor:
        if ids.numel() > 64:
            torch.empty(1 << 60)
        return hidden(self, ids, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(Decoder, "hidden", greedy)
    for budget in ({"steps": 2}, {"steps": None, "minutes": 0.01}):
        with pytest.raises(ConfigError, match=r"at micro_batch 256: 64 tokens at once fit") as told:
            pretrain(nano(micro_batch=4096, **budget), tokens, Workdir.temporary(store))
        assert "\n" not in str(told.value)
    assert (
        pretrain(nano(steps=1, micro_batch=64), tokens, Workdir.temporary(store)).stats["steps"]
        == 1
    )


def test_the_machine_s_rate_is_measured_once_and_no_generator_is_touched(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    peak = measure_peak_flops(tmp_path, torch.float32, torch.device("cpu"))
    assert 1e8 < peak < 1e14
    assert measure_peak_flops(tmp_path, torch.float32, torch.device("cpu")) == peak
    assert torch.equal(torch.get_rng_state(), state)
