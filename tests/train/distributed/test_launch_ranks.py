"""Many ranks lose what one does, on any grid; a rank that dies ends the run in one line."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from components.core.errors import ConfigError, MillError
from components.core.store.artifact import Tokens
from components.core.store.workdir import Workdir
from components.text.decoder_files import load_model
from components.train.distributed.parallel_config import ParallelConfig
from components.train.pretrain import pretrain
from components.train.pretrain_config import PretrainConfig
from components.train.training_config import OptimConfig, ScheduleConfig, TrainingSafetyConfig
from models.shape import Balance, ExpertsShape
from tests.memory_tracker import MemoryTracker
from tests.train.conftest import NANO
from tests.train.test_pretrain import run_child

SHAPE = dataclasses.replace(NANO, kv_heads=2)
EXPERTS = dataclasses.replace(SHAPE, experts=ExpertsShape(count=4, active=2, hidden=16))
MUON = OptimConfig(muon_lr=0.02, adam_lr=0.01, embedding_lr=0.01, muon_dtype="float32")


def nano(**over: object) -> PretrainConfig:
    given: dict[str, object] = {
        "shape": SHAPE,
        "steps": 6,
        "sequence_length": 32,
        "short_sequence_length": 16,
        "batch": 256,
        "micro_batch": 96,
        "precision": "float32",
        "optim": MUON,
        "schedule": ScheduleConfig(warmup=0.02, decay=0.5),
        **over,
    }
    return PretrainConfig(**given)  # type: ignore[arg-type]


def curve(folder: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = pq.read_table(folder / "curve.parquet").to_pydict()
    return found


def same_as_alone(tokens: Tokens, store: Path, parallel: ParallelConfig, **over: object) -> None:
    """Losses, norms and weights of a training on ranks are those of one process."""
    alone = pretrain(nano(**over), tokens, Workdir.temporary(store))
    made = pretrain(nano(parallel=parallel, **over), tokens, Workdir.temporary(store))
    one, many = curve(store / alone.name), curve(store / made.name)
    assert many["loss"] == pytest.approx(one["loss"], rel=1e-6)
    assert many["grad_norm"][0] == pytest.approx(one["grad_norm"][0], rel=1e-6)
    assert many["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
    assert many["targets"] == one["targets"]
    weights = (dict(load_model(store / a.name).named_parameters()) for a in (alone, made))
    ours, theirs = weights
    for name, parameter in ours.items():
        torch.testing.assert_close(theirs[name], parameter, rtol=1e-3, atol=1e-4)


def test_two_ranks_lose_what_one_does(tokens: Tokens, store: Path) -> None:
    same_as_alone(tokens, store, ParallelConfig(data=2))


@pytest.mark.slow
@pytest.mark.parametrize(
    "parallel",
    [
        ParallelConfig(data=4),
        ParallelConfig(data=2, tensor=2),
        ParallelConfig(data=2, context=2),
        ParallelConfig(context=2, tensor=2),
    ],
    ids=lambda p: f"{p.data}x{p.context}x{p.tensor}",
)
def test_four_ranks_lose_what_one_does(
    parallel: ParallelConfig, tokens: Tokens, store: Path
) -> None:
    same_as_alone(tokens, store, parallel)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_hard_clip_and_decay_are_those_of_the_whole(
    kind: str, tokens: Tokens, store: Path
) -> None:
    optim = MUON.model_copy(update={"kind": kind, "clip": 0.05, "weight_decay": 0.1})
    same_as_alone(tokens, store, ParallelConfig(data=2, tensor=2), optim=optim)


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["loss", "bias"])
def test_experts_and_an_average_over_ranks(balance: Balance, tokens: Tokens, store: Path) -> None:
    experts = ExpertsShape(count=4, active=2, hidden=16, shared=16, balance=balance)
    shape = dataclasses.replace(SHAPE, experts=experts, mode="research")
    same_as_alone(tokens, store, ParallelConfig(data=2), shape=shape, ema=0.9)


def test_two_ranks_share_out_the_experts(tokens: Tokens, store: Path) -> None:
    same_as_alone(tokens, store, ParallelConfig(data=2, expert=2), shape=EXPERTS)


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["loss", "bias"])
@pytest.mark.parametrize("expert", [2, 4])
def test_four_ranks_share_out_the_experts(
    expert: int, balance: Balance, tokens: Tokens, store: Path
) -> None:
    experts = ExpertsShape(count=8, active=2, hidden=16, shared=16, balance=balance)
    shape = dataclasses.replace(SHAPE, experts=experts, mode="research")
    same_as_alone(tokens, store, ParallelConfig(data=4, expert=expert), shape=shape, ema=0.9)


@pytest.mark.slow
def test_an_average_over_several_meshes(tokens: Tokens, store: Path) -> None:
    same_as_alone(tokens, store, ParallelConfig(data=2, tensor=2), ema=0.9)


@pytest.mark.slow
def test_minutes_become_the_same_steps_on_every_rank(tokens: Tokens, store: Path) -> None:
    config = nano(steps=None, minutes=0.1, min_steps=1, parallel=ParallelConfig(data=2))
    made = pretrain(config, tokens, Workdir.temporary(store))
    assert made.stats["steps"] == len(curve(store / made.name)["step"]) > 1


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_and_it_goes_on(tokens: Tokens, store: Path) -> None:
    config = nano(
        steps=60,
        parallel=ParallelConfig(data=2),
        safety=TrainingSafetyConfig(checkpoint_seconds=0.05),
    )
    work = Workdir.temporary(store)
    states = work.scratch / "states"
    killed = threading.Thread(target=kill_a_rank, args=(states,))
    killed.start()
    with pytest.raises(MillError, match=r"rank 1 of 2 was ended by SIGKILL: run the same") as said:
        pretrain(config, tokens, work)
    killed.join()
    assert "\n" not in str(said.value)
    assert not ranks_of_this_process()
    again = Workdir(work.root, work.key, work.lineage)
    made = pretrain(config, tokens, again)
    assert int(again.progress.resumed.removeprefix("at step ")) > 0
    unbroken = pretrain(config, tokens, Workdir.temporary(store))
    assert made.digest == unbroken.digest


def kill_a_rank(states: Path) -> None:
    """-9 for rank 1, once a state behind the first step counts."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if any(int(path.stem[6:]) > 0 for path in states.glob("state-*.json")):
            break
        time.sleep(0.002)
    ranks_of_this_process()[1].send_signal(signal.SIGKILL)


def ranks_of_this_process() -> list[psutil.Process]:
    """Spawned ranks, in the order they were started."""
    children = psutil.Process().children()
    found = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    return sorted(found, key=lambda child: child.create_time())


@pytest.mark.slow
def test_ranks_die_with_the_process_that_started_them(tokens: Tokens, store: Path) -> None:
    """Killed while they look for one another, when nothing else tells them that it is gone."""
    child = run_child(store, "killed", tokens, nano(parallel=ParallelConfig(data=2)))
    parent, ranks = psutil.Process(child.pid), list[psutil.Process]()
    deadline = time.monotonic() + 120
    while len(ranks) < 2 and time.monotonic() < deadline:
        ranks = [p for p in parent.children() if "spawn_main" in str(p.cmdline())]
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert len(ranks) == 2
    _, left = psutil.wait_procs(ranks, timeout=60)
    assert not left


@pytest.mark.slow
def test_torchrun_trains_what_the_stage_then_seals(tokens: Tokens, store: Path) -> None:
    spawned = nano(parallel=ParallelConfig(data=2))
    config = nano(parallel=ParallelConfig(data=2, launcher="torchrun"))
    work = Workdir.temporary(store)
    with pytest.raises(ConfigError, match="torchrun"):
        pretrain(config, tokens, work)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    ranks = ["--nproc-per-node", "2", "-m", "components.train.pretrain_rank"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    subprocess.run([*torchrun, *ranks, str(work.scratch / "job.json")], check=True, env=environment)
    made = pretrain(config, tokens, Workdir(work.root, work.key, work.lineage))
    assert made.digest == pretrain(spawned, tokens, Workdir.temporary(store)).digest


@pytest.mark.slow
def test_figures_of_many_ranks_are_tracked(tokens: Tokens, store: Path) -> None:
    tracker = MemoryTracker()
    work = Workdir.temporary(store)
    work.progress.open_tracker = lambda: tracker
    made = pretrain(nano(parallel=ParallelConfig(data=2)), tokens, work)
    losses = [value for _, value in tracker.metrics["loss"]]
    assert losses == curve(store / made.name)["loss"]
    assert tracker.ended == "FINISHED"
    assert "bits/byte" in work.progress.note


@pytest.mark.slow
def test_what_breaks_on_all_ranks_is_said_once(tokens: Tokens, store: Path) -> None:
    shape = dataclasses.replace(SHAPE, rope_base=0.0)  # angles that are no numbers
    config = nano(shape=shape, parallel=ParallelConfig(data=2))
    with pytest.raises(
        MillError, match=r"^training broke at step 0 .* 4th time; lower the learning rates$"
    ):
        pretrain(config, tokens, Workdir.temporary(store))


def test_torchrun_is_left_to_a_person(tokens: Tokens, store: Path) -> None:
    work = Workdir.temporary(store)
    config = nano(parallel=ParallelConfig(data=2, launcher="torchrun"))
    with pytest.raises(ConfigError, match=r"start 2 ranks with `torchrun .* -m components") as said:
        pretrain(config, tokens, work)
    assert str(work.scratch / "job.json") in str(said.value)
    assert json.loads((work.scratch / "job.json").read_bytes())["config"]["steps"] == 6


def test_ray_is_named_where_it_is_absent(tokens: Tokens, store: Path) -> None:
    if importlib.util.find_spec("ray") is not None:
        pytest.skip("ray is installed")
    config = nano(parallel=ParallelConfig(data=2, launcher="ray"))
    with pytest.raises(ConfigError, match=r"pip install 'ray\[train\]'"):
        pretrain(config, tokens, Workdir.temporary(store))


@pytest.mark.slow
def test_ray_trains_as_spawned_ranks_do(tokens: Tokens, store: Path) -> None:
    pytest.importorskip("ray")
    spawned = pretrain(nano(parallel=ParallelConfig(data=2)), tokens, Workdir.temporary(store))
    config = nano(parallel=ParallelConfig(data=2, launcher="ray"))
    made = pretrain(config, tokens, Workdir.temporary(store))
    assert made.digest == spawned.digest


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"parallel": {"tensor": 4}}, r"tensor \(4\) must divide shape.heads \(2\)"),
        ({"parallel": {"data": 3}}, r"data \(3\) must divide the 8 blocks of a step"),
        ({"parallel": {"context": 3}}, r"context \(3\) must divide sequence_length and"),
        ({"parallel": {"expert": 2}}, r"expert \(2\) is for a shape with experts"),
        (
            {"shape": EXPERTS, "parallel": {"data": 8, "expert": 8}},
            r"expert \(8\) must divide shape.experts.count \(4\)",
        ),
        (
            {"shape": EXPERTS, "parallel": {"data": 2, "expert": 4}},
            r"expert \(4\) must divide parallel.data \(2\)",
        ),
        (
            {
                "shape": dataclasses.replace(EXPERTS, experts=ExpertsShape(count=4, hidden=15)),
                "parallel": {"data": 4, "expert": 2},
            },
            r"parallel.data / parallel.expert \(2\) must divide shape.experts.hidden \(15\)",
        ),
        (
            {"shape": dataclasses.replace(NANO, hidden=63), "parallel": {"tensor": 2}},
            r"tensor \(2\) must divide shape.kv_heads \(1\)",
        ),
        (
            {
                "shape": dataclasses.replace(SHAPE, experts=ExpertsShape()),
                "parallel": {"tensor": 2},
            },
            "tensor is not built for a shape with experts: use parallel.data",
        ),
        (
            {"shape": dataclasses.replace(SHAPE, window=8), "parallel": {"context": 2}},
            "context is not built for a shape with window: use parallel.data",
        ),
    ],
)
def test_ranks_that_do_not_divide_are_refused(over: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        nano(**over)


def test_how_work_is_split_is_no_part_of_the_key() -> None:
    assert nano(parallel={"data": 2}).key_fields() == nano().key_fields()
    assert nano(seed=1).key_fields() != nano().key_fields()
