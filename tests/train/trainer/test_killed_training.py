"""kill -9 at random moments, again and again: the same bytes as a run that nobody disturbed."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.core.errors import DataError
from components.core.store.artifact import Tokens
from components.core.store.workdir import Workdir
from components.train.pretrain import pretrain
from components.train.pretrain_config import PretrainConfig
from components.train.training_config import TrainingSafetyConfig
from tests.train.conftest import NANO
from tests.train.test_pretrain import nano

KILLS = 6

NURSERY = '''
"""Imports once, then forks trainings: one that is left alone, and one killed again and again."""
import json, os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)  # no thread of torch's may live before a fork
import torch._dynamo  # what a first step would import
from components.core.store.artifact import Lineage, Tokens
from components.core.store.workdir import Workdir
from components.train.budget import peak_flops
from components.train.trainer import training_loop
from components.train.pretrain import PretrainConfig, pretrain

root, tokens, config, kills = sys.argv[1:]
draw = random.Random(7)

def start(key):
    child = os.fork()
    if child:
        return child
    work = Workdir(Path(root), key, Lineage(component="t", code="", config=""))
    made = pretrain(
        PretrainConfig.model_validate_json(config), Tokens.model_validate_json(tokens), work
    )
    (Path(root) / f"{key}.digest").write_text(made.digest)
    os._exit(0)

os.waitpid(start("unbroken"), 0)
done, ended = 0, Path(root) / "killed.digest"
states = Path(root) / "partial" / "killed" / "scratch" / "states"
while not ended.exists():
    before, child, alive = sorted(states.glob("*.json")), start("killed"), True
    # From the first new state on, so that it comes to its end in the end.
    while alive and sorted(states.glob("*.json")) == before:
        alive = os.waitpid(child, os.WNOHANG) == (0, 0)
        time.sleep(0.001)
    if alive and done < int(kills):
        time.sleep(draw.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
    if alive:
        done += os.waitpid(child, 0)[1] == signal.SIGKILL
digests = [(Path(root) / f"{key}.digest").read_text() for key in ("unbroken", "killed")]
print(json.dumps({"digests": digests, "kills": done}))
'''


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bytes(tokens: Tokens, store: Path) -> None:
    careful = TrainingSafetyConfig(
        checkpoint_seconds=0.03, spike=3, spike_window=16, spike_span=2, spikes=500
    )
    config = nano(steps=60, packing="best-fit", ema=0.9, safety=careful)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    arguments = [str(store), tokens.model_dump_json(), config.model_dump_json(), str(KILLS)]
    run = subprocess.run(
        [sys.executable, "-c", NURSERY, *arguments],
        capture_output=True, text=True, env=environment, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout.splitlines()[-1])
    assert told["kills"] >= 3, told
    assert told["digests"][0] == told["digests"][1]


@pytest.mark.parametrize("harm", ["cut", "garbage", "half written", "of another format", "empty"])
def test_a_harmed_newest_state_is_passed_over_and_the_end_is_the_same(
    tokens: Tokens, store: Path, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = nano(steps=8, safety=TrainingSafetyConfig(checkpoint_seconds=1e-6))
    unbroken = pretrain(config, tokens, Workdir.temporary(store))
    work = Workdir.temporary(store)
    stop_before(monkeypatch, 6)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, tokens, work)
    monkeypatch.undo()
    states = work.scratch / "states"
    weights, record = sorted(states.glob("*00006.*"), key=lambda path: path.suffix, reverse=True)
    content = weights.read_bytes()
    if harm == "cut":
        weights.write_bytes(content[: len(content) // 2])
    elif harm == "garbage":
        weights.write_bytes(os.urandom(len(content)))
    elif harm == "half written":
        weights.rename(weights.with_suffix(".safetensors.tmp"))
    elif harm == "of another format":
        record.write_text(record.read_text().replace("state/1", "state/0"))
    else:
        record.write_bytes(b"")
    assert pretrain(config, tokens, work).digest == unbroken.digest
    assert work.progress.resumed == "at step 5"


def stop_before(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    from components.train.trainer import training_loop

    run_step, seen = training_loop.run_step, [0]

    def counted(*given: object) -> tuple[float, float, float]:
        if seen[0] == step:
            raise KeyboardInterrupt
        seen[0] += 1
        return run_step(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(training_loop, "run_step", counted)


def test_another_model_s_state_is_refused_in_one_line(
    tokens: Tokens, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: PretrainConfig = nano(steps=4, safety=TrainingSafetyConfig(checkpoint_seconds=1e-6))
    work = Workdir.temporary(store)
    stop_before(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, tokens, work)
    monkeypatch.undo()
    wider = config.model_copy(update={"shape": dataclasses.replace(NANO, hidden=96)})
    with pytest.raises(DataError, match="the saved state is of another model") as refused:
        pretrain(wider, tokens, work)
    assert "\n" not in str(refused.value)
