"""PPO training in a world of seconds: reward, KL, kills, the iteration kept."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from components.align.ppo_config import KLConfig
from components.align.ppo_trainer import PPOTrainer
from components.align.rule_judge import RuleJudge
from components.core.errors import ConfigError
from components.core.progress import Progress
from components.core.store.artifact import Lineage
from components.core.store.workdir import Workdir
from components.text.chat.ask_model import read_questions, sample_answers
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.decoder_files import load_model
from models.decoder import Decoder
from tests.align.chain import PPO, align


def test_ppo_raises_the_reward_and_holds_the_kl(world, reward):
    aligned = align(world, reward, config=PPO.model_copy(update={"judged": 0}))
    assert aligned.stats["reward_last"] > aligned.stats["reward_first"] + 0.5
    curve = pq.read_table(world.root / aligned.name / "curve.parquet").to_pydict()
    assert curve["step"] == list(range(PPO.iterations))
    assert abs(curve["kl"][0]) < 1e-3  # the first rollout is the reference's own
    assert max(curve["kl"]) < 3 * PPO.kl.target
    assert all(0 <= share < 0.3 for share in curve["clip_share"])
    assert share_of_good(world, aligned) > 0.85 > share_of_good(world, world.policy)


def share_of_good(world, policy) -> float:
    """What the reward stands for, seen in the answers themselves."""
    opened = open_tokenizer(world.root / world.tokenizer.name)
    folder = world.root / world.instructions.name
    asked = read_questions(folder, "align", opened, longest=70, limit=8, seed=0)
    answers = sample_answers(
        load_model(world.root / policy.name),
        opened,
        [one.token_ids for one in asked] * 8,
        max_new=24,
        temperature=1.0,
        seed=3,
        batch=64,
    )
    return sum(answer.text.endswith("is good.") for answer in answers) / len(answers)


def test_a_strong_hold_keeps_the_policy_where_it_was(world, reward):
    held = PPO.model_copy(update={"kl": KLConfig(kind="fixed", coefficient=5.0)})
    free = PPO.model_copy(update={"kl": KLConfig(kind="fixed", coefficient=0.0)})
    assert (
        align(world, reward, config=held).stats["kl_last"]
        < align(world, reward, config=free).stats["kl_last"] / 2
    )


CHILD = """
import json, sys, torch
from pathlib import Path
from components.align.ppo import ppo
from components.align.ppo_config import PPOConfig
from components.core.store.artifact import Checkpoint, Instructions, Lineage, Tokenizer
from components.core.store.workdir import Workdir

torch.set_num_threads(1)
given = json.loads(Path(sys.argv[1]).read_text())
work = Workdir(Path(given["root"]), given["key"], Lineage(component="t", code="", config=""))
ppo(
    PPOConfig(**given["config"]),
    Checkpoint(**given["policy"]),
    Checkpoint(**given["reward"]),
    Instructions(**given["instructions"]),
    Tokenizer(**given["tokenizer"]),
    work,
)
"""


def test_killed_and_called_again_gives_the_bytes_of_an_unbroken_run(world, reward, tmp_path):
    unbroken = align(world, reward)
    lineage = Lineage(component="t", code="", config="")
    work = Workdir(world.root, "killed", lineage)
    given = {
        "root": str(world.root),
        "key": "killed",
        "config": PPO.model_dump(),
        "policy": world.policy.model_dump(),
        "reward": reward.model_dump(),
        "instructions": world.instructions.model_dump(),
        "tokenizer": world.tokenizer.model_dump(),
    }
    order = tmp_path / "given.json"
    order.write_text(json.dumps(given))
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    checkout = Path(__file__).parents[2]
    child = subprocess.Popen([sys.executable, str(script), str(order)], cwd=checkout)
    _wait_for_states(work, child)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    left = [int(p.stem.removeprefix("state-")) for p in _states(work)]
    assert 0 < max(left) < PPO.iterations
    assert align(world, reward, work).digest == unbroken.digest


def _states(work: Workdir) -> list[Path]:
    return sorted((work.scratch / "states").glob("state-*.json"))


def _wait_for_states(work: Workdir, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while not _states(work):
        assert child.poll() is None, "the child ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_max_new_beyond_the_context_is_refused(world, reward):
    config = PPO.model_copy(update={"max_new": 96})
    with pytest.raises(ConfigError, match=r"max_new \(96\) must be below the model's context"):
        align(world, reward, config=config)


@pytest.mark.parametrize("best", [0, 1, 3])
def test_the_iteration_judged_best_is_kept(world, reward, monkeypatch, best):
    """0 is the model it came from: a policy that only gets worse is not kept."""
    config = PPO.model_copy(update={"iterations": 3})
    asked: list[torch.Tensor] = []

    def judge_policy(judge: RuleJudge, policy: Decoder) -> tuple[float, ...]:
        asked.append(policy.norm.weight.detach().clone())
        return (float(len(asked) == best + 1), 0.0)

    monkeypatch.setattr(RuleJudge, "judge_policy", judge_policy)
    aligned = align(world, reward, config=config)
    kept = load_model(world.root / aligned.name).norm.weight
    assert aligned.stats["kept_iteration"] == best
    assert [torch.equal(kept, one) for one in asked] == [at == best for at in range(4)]


def test_the_best_policy_outlives_a_kill(world, reward, monkeypatch):
    """Judged before the kill and never as good again, it must come out of the saved state."""

    class Killed(Exception):
        pass

    def listener(progress: Progress) -> None:
        if progress.done == 2:
            raise Killed

    came = iter([(1.0, 0.5)])
    monkeypatch.setattr(RuleJudge, "judge_policy", lambda *_: next(came, (0.0, 0.0)))
    config = PPO.model_copy(update={"iterations": 3})
    work = world.work()
    work.progress.listener = listener
    with pytest.raises(Killed):
        align(world, reward, work, config)
    work.progress.listener = lambda progress: None
    aligned = align(world, reward, work, config)
    assert aligned.stats["kept_iteration"] == aligned.stats["judged_gain"] == 0
    assert aligned.stats["judged"] == 0.75
    kept, first = (load_model(world.root / one.name) for one in (aligned, world.policy))
    assert torch.equal(kept.norm.weight, first.norm.weight)


def test_questions_go_round(world, reward):
    learning = PPOTrainer.__new__(PPOTrainer)
    learning.config = PPO.model_copy(update={"answers": 10, "samples": 3, "kept_samples": 2})
    learning.prompts = list(range(8))  # type: ignore[assignment]
    assert learning._next_prompts(1) == [number for number in (5, 6, 7, 0, 1) for _ in range(3)]
