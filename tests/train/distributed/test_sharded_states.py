"""What four ranks saved, one or two take up, and the other way; a torn state counts for nothing."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from components.core.errors import MillError
from components.core.store.artifact import Tokens
from components.core.store.workdir import Workdir
from components.train.distributed.launch_ranks import train_on_ranks
from components.train.distributed.parallel_config import ParallelConfig
from components.train.distributed.process_group import ProcessGroups, join_ranks
from components.train.distributed.sharded_states import ShardedStates
from components.train.distributed.single_process import SINGLE_PROCESS
from components.train.pretrain import pretrain
from components.train.pretrain_config import PretrainConfig, PretrainInputs
from components.train.pretrain_rank import pretrain_on_rank
from components.train.trainer.training_state import StateFiles, collect_state, restore_state
from components.train.training_config import TrainingSafetyConfig
from models.decoder import Decoder
from models.shape import ExpertsShape
from tests.train.distributed.test_launch_ranks import EXPERTS, MUON, SHAPE, curve, nano

EVERY_STEP = TrainingSafetyConfig(checkpoint_seconds=1e-6, keep=100)


@pytest.fixture
def groups() -> Iterator[ProcessGroups]:
    """Ranks that are one, in this process."""
    yield join_ranks(ParallelConfig(), torch.device("cpu"), rank=0, store=dist.HashStore())
    dist.destroy_process_group()


def trained_a_little(groups: ProcessGroups) -> tuple[nn.ModuleDict, dict[str, torch.Tensor]]:
    """A sharded model after one step, and its state."""
    torch.manual_seed(0)
    modules = nn.ModuleDict({"decoder": groups.shard_model(Decoder(SHAPE))})
    optimiser = groups.make_optimiser(modules, MUON)
    decoder = modules["decoder"]
    assert isinstance(decoder, Decoder)
    ids = torch.arange(16).view(2, 8)
    decoder.loss(decoder.hidden(ids), ids, torch.full((2, 8), 1 / 16)).backward()
    optimiser.clip()
    optimiser.step(1.0)
    return modules, collect_state({"model": modules}, optimiser)


def test_a_state_of_many_is_whole_or_absent(
    groups: ProcessGroups, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    modules, tensors = trained_a_little(groups)
    states = groups.open_states(tmp_path, 2, modules)
    assert isinstance(states, ShardedStates)
    assert states.latest() is None
    whole = {n: t.full_tensor() if isinstance(t, DTensor) else t for n, t in tensors.items()}
    before = {name: tensor.clone() for name, tensor in whole.items()}
    states.save(3, tensors, {"seconds": 1.5})
    with torch.no_grad():  # what is written is what was there when ``save`` was called
        for parameter in modules.parameters():
            parameter.zero_()
    states.save(5, {"model/x": torch.ones(2)}, {})
    states.finish()
    alone = StateFiles(tmp_path, 2)
    (next((tmp_path / "state-00000005").glob("*"))).write_bytes(b"torn")
    (tmp_path / "state-00000009.part").mkdir()
    with caplog.at_level(logging.WARNING):
        saved = alone.latest()
    assert saved is not None
    assert "state of step 5 is broken and passed over" in caplog.text
    assert (saved.step, saved.meta) == (3, {"seconds": 1.5})
    assert saved.tensors.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(saved.tensors[name], tensor), name
    again = states.latest()
    assert again is not None
    assert again.step == 3
    optimiser = groups.make_optimiser(modules, MUON)
    restore_state(again.tensors, {"model": modules}, optimiser)
    for name, tensor in collect_state({"model": modules}, optimiser).items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        assert torch.equal(full, before[name]), name


def test_a_state_of_one_is_cut_and_old_ones_go(groups: ProcessGroups, tmp_path: Path) -> None:
    modules, tensors = trained_a_little(groups)
    whole = {n: t.full_tensor() if isinstance(t, DTensor) else t for n, t in tensors.items()}
    alone = StateFiles(tmp_path, 2)
    alone.save(1, whole, {})
    states = groups.open_states(tmp_path, 2, modules)
    saved = states.latest()
    assert saved is not None
    name = "model/decoder.layers.0.mlp.up_proj.weight"
    assert isinstance(saved.tensors[name], DTensor)
    assert torch.equal(saved.tensors[name].to_local(), whole[name])
    for step in (2, 3):
        states.save(step, tensors, {})
    states.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("state-00000002", "state-00000002.json", "state-00000003", "state-00000003.json")
    ]
    for step in (4, 5):
        alone.save(step, whole, {})
    assert not any(path.is_dir() for path in tmp_path.iterdir())


def test_a_disk_that_fails_is_one_line(groups: ProcessGroups, tmp_path: Path) -> None:
    modules, tensors = trained_a_little(groups)
    states = groups.open_states(tmp_path / "states", 2, modules)
    states.save(1, tensors, {})
    states.finish()
    (tmp_path / "states" / "state-00000002.json.tmp").mkdir()  # nothing can be written there
    states.save(2, tensors, {})
    with pytest.raises(MillError, match="a state could not be written to") as said:
        states.finish()
    assert "\n" not in str(said.value)
    latest = StateFiles(tmp_path / "states").latest()
    assert latest is not None
    assert latest.step == 1


def test_biases_of_experts_are_moved_whole(groups: ProcessGroups) -> None:
    experts = ExpertsShape(count=4, active=1, hidden=16, balance="bias")
    shape = dataclasses.replace(SHAPE, experts=experts, mode="research")
    ids = torch.arange(16).view(2, 8)
    moved = []
    for shard in (lambda model: model, groups.shard_model):
        torch.manual_seed(0)
        decoder = shard(Decoder(shape))
        decoder.loss(decoder.hidden(ids), ids, torch.full((2, 8), 1 / 16)).backward()
        decoder.rebalance()
        moved.append([p for n, p in decoder.named_parameters() if n.endswith("choice_bias")])
    for alone, spread in zip(*moved, strict=True):
        assert torch.equal(alone, spread)
        assert alone.any()


def interrupted(
    tokens: Tokens, store: Path, config: PretrainConfig, at: int
) -> tuple[Workdir, list[float]]:
    """A training as it was after ``at`` steps, and the losses that it went on to."""
    work = Workdir.temporary(store)
    if config.parallel.ranks > 1:
        train_on_ranks(pretrain_on_rank, config, PretrainInputs(tokens=tokens), work)
        losses = curve(work.folder)["loss"]
        (work.scratch / "trained.json").unlink()
    else:
        pretrain_on_rank(config, PretrainInputs(tokens=tokens), work, SINGLE_PROCESS)
        losses = curve(work.folder)["loss"]
    for path in (work.scratch / "states").glob("state-*.json"):
        if int(path.stem[6:]) > at:
            path.unlink()
    return work, losses


def copied(work: Workdir) -> Workdir:
    fresh = Workdir.temporary(work.root)
    shutil.copytree(work.scratch, fresh.scratch, dirs_exist_ok=True)
    return fresh


def goes_on(config: PretrainConfig, tokens: Tokens, work: Workdir, at: int) -> list[float]:
    made = pretrain(config, tokens, work)
    assert work.progress.resumed == f"at step {at}"
    return curve(work.root / made.name)["loss"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ParallelConfig(data=4), (ParallelConfig(), ParallelConfig(data=2))),
        (ParallelConfig(data=2, tensor=2), (ParallelConfig(), ParallelConfig(data=2))),
        (ParallelConfig(), (ParallelConfig(data=2), ParallelConfig(data=2, tensor=2))),
    ],
    ids=["4-to-1-and-2", "2x2-to-1-and-2", "1-to-2-and-2x2"],
)
def test_other_ranks_go_on_with_the_same_losses(
    before: ParallelConfig, after: tuple[ParallelConfig, ...], tokens: Tokens, store: Path
) -> None:
    taken_up(tokens, store, before, after)


@pytest.mark.slow
def test_other_ranks_go_on_with_the_experts(tokens: Tokens, store: Path) -> None:
    before = ParallelConfig(data=4, expert=2)
    after = (ParallelConfig(), ParallelConfig(data=2), ParallelConfig(data=2, expert=2))
    taken_up(tokens, store, before, after, shape=EXPERTS)


def taken_up(
    tokens: Tokens,
    store: Path,
    before: ParallelConfig,
    after: tuple[ParallelConfig, ...],
    **over: object,
) -> None:
    """Losses behind step 3 on other ranks are those of the ranks that wrote its state."""
    begun = nano(safety=EVERY_STEP, parallel=before, **over)
    work, unbroken = interrupted(tokens, store, begun, at=3)
    assert json.loads((work.scratch / "states" / "state-00000003.json").read_bytes())["step"] == 3
    for parallel in after:
        losses = goes_on(nano(parallel=parallel, **over), tokens, copied(work), at=3)
        assert losses[:3] == unbroken[:3]
        assert losses == pytest.approx(unbroken, rel=1e-6)
