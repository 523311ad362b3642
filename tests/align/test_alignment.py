"""The chain of alignment in a world of seconds: pairs, a reward model, PPO."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from components.align.ppo import ppo
from components.align.ppo_config import KLConfig, PPOConfig
from components.align.ppo_loop import Learning
from components.align.preferences import PreferencesConfig, make_preferences
from components.align.reward_agreement import within_deviation
from components.align.reward_model import (
    RewardConfig,
    features_of_groups,
    read_groups,
    rewards_of_groups,
    train_reward,
)
from components.align.rollout import RewardModel, rewards_of
from components.align.rule_judge import Jury, set_apart
from components.core.errors import ConfigError
from components.core.progress import Progress
from components.core.store.artifact import Checkpoint, Lineage, Preferences
from components.core.store.workdir import Workdir
from components.text.chat.ask_model import answer_all, read_questions
from components.text.chat.chat_template import answer_ids, open_tokenizer, prompt_ids
from components.text.constitution.principles import Constitution
from components.text.decoder_files import load_model
from components.train.training_config import OptimConfig
from models.decoder import Decoder
from models.generate import Sampled

PRINCIPLES = Constitution.model_validate(
    {
        "principles": [
            {
                "name": "faithful",
                "description": "Says what the documentation says.",
                "weight": 3,
                "check": {"kind": "reference", "full": 1.0},
            },
            {"name": "whole", "description": "Ends.", "check": {"kind": "sentence"}},
        ]
    }
)
PAIRS = PreferencesConfig(
    constitution=PRINCIPLES,
    questions=8,
    heldout_questions=4,
    answers=24,
    temperature=1.3,
    max_new=24,
    chunk=4,
    margin=0.15,
)
REWARD = RewardConfig(ridge=0.01, batch=3, min_prompts=4, precision="float32")
PPO = PPOConfig(
    constitution=PRINCIPLES,
    judged=2,
    min_prompts=6,
    judge_every=1,
    iterations=10,
    answers=32,
    batch=16,
    temperature=1.0,
    max_new=24,
    optim=OptimConfig(kind="adamw", adam_lr=1e-3, embedding_lr=1e-3),
    kl=KLConfig(kind="adaptive", coefficient=0.2, target=1.5),
    precision="float32",
)


@pytest.fixture(scope="module")
def preferences(world) -> Preferences:
    return make_preferences(PAIRS, world.policy, world.instructions, world.tokenizer, world.work())


@pytest.fixture(scope="module")
def reward(world, preferences) -> Checkpoint:
    return train_reward(REWARD, world.policy, preferences, world.tokenizer, world.work())


def align(world, reward, work=None, config=PPO) -> Checkpoint:
    work = work or world.work()
    return ppo(config, world.policy, reward, world.instructions, world.tokenizer, work)


def test_pairs_put_the_answer_that_says_what_the_documentation_says_first(world, preferences):
    table = pq.read_table(world.root / preferences.name / "train.parquet").to_pylist()
    assert preferences.stats["train_pairs"] == len(table) > 8
    assert all(row["margin"] >= PAIRS.margin for row in table)
    told = [row for row in table if "good" in row["chosen"] and "bad" in row["rejected"]]
    assert len(told) > len(table) / 2
    votes = {vote["principle"]: vote for vote in told[0]["votes"]}
    assert votes["faithful"]["chosen"] > votes["faithful"]["rejected"]


def test_every_answer_is_kept_with_its_judgement_and_tokens(world, preferences):
    opened = open_tokenizer(world.root / world.tokenizer.name)
    rows = pq.read_table(world.root / preferences.name / "answers.parquet").to_pylist()
    assert len(rows) == (PAIRS.questions + PAIRS.heldout_questions) * PAIRS.answers
    assert {row["page"].rstrip("0123456789") for row in rows if row["split"] == "train"} == {
        "align"
    }
    assert {row["page"].rstrip("0123456789") for row in rows if row["split"] == "heldout"} == {
        "heldout"
    }
    for row in rows:
        assert opened.decode(row["tokens"], skip_special_tokens=True).strip() == row["answer"]
        weighed = sum(
            vote["score"] * (3 if vote["principle"] == "faithful" else 1) for vote in row["votes"]
        )
        assert row["judgement"] == pytest.approx(weighed / 4)


def test_pairs_resume_chunk_by_chunk_with_the_same_bytes(world, preferences):
    class Killed(Exception):
        pass

    def listener(progress: Progress) -> None:
        if progress.done >= PAIRS.chunk:
            raise Killed

    work = world.work()
    work.progress.listener = listener
    with pytest.raises(Killed):
        make_preferences(PAIRS, world.policy, world.instructions, world.tokenizer, work)
    first = work.scratch / "train" / "00000.parquet"
    before = first.stat().st_mtime_ns
    assert not (work.scratch / "train" / "00001.parquet").exists()
    seen: list[float] = []

    def later(progress: Progress) -> None:
        if first.exists():
            seen.append(first.stat().st_mtime_ns)

    work.progress.listener = later
    again = make_preferences(PAIRS, world.policy, world.instructions, world.tokenizer, work)
    assert again.digest == preferences.digest
    assert set(seen) == {before}


def test_reward_model_learns_the_planted_preference(world, preferences, reward):
    assert reward.stats["within_prompt_correlation"] > 0.5
    assert reward.stats["within_prompt_correlation_low"] > 0.2
    model = RewardModel.load(world.root / reward.name)
    assert model.correlation.value == pytest.approx(
        reward.stats["within_prompt_correlation"], abs=1e-4
    )
    opened = open_tokenizer(world.root / world.tokenizer.name)
    groups = read_groups(world.root / preferences.name, "train", opened, 96)
    features = features_of_groups(REWARD, model.trunk, groups, world.work())
    rewards = rewards_of_groups(model.head, features)
    kept, first = (world.root / one.name / "model.safetensors" for one in (reward, world.policy))
    assert kept.read_bytes() == first.read_bytes()
    assert abs(math.fsum(map(math.fsum, rewards))) < 1e-2
    assert within_deviation(groups, rewards) == pytest.approx(1.0, abs=1e-3)


def test_answers_to_a_prompt_are_read_once_with_their_counts(world, preferences):
    opened = open_tokenizer(world.root / world.tokenizer.name)
    folder = world.root / preferences.name
    groups = read_groups(folder, "train", opened, 96)
    rows = pq.read_table(folder / "answers.parquet").to_pylist()
    first = [
        row for row in rows if prompt_ids(opened, [("user", row["question"])]) == groups[0].prompt
    ]
    given = [row["tokens"] for row in first if row["split"] == "train"]
    assert sorted(given) == sorted(
        tokens
        for tokens, count in zip(groups[0].answers, groups[0].counts, strict=True)
        for _ in range(count)
    )
    assert max(groups[0].counts) > 1


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
    answers = answer_all(
        load_model(world.root / policy.name),
        opened,
        [one.prompt for one in asked] * 8,
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

    def judge_policy(jury: Jury, policy: Decoder) -> tuple[float, ...]:
        asked.append(policy.norm.weight.detach().clone())
        return (float(len(asked) == best + 1), 0.0)

    monkeypatch.setattr(Jury, "judge_policy", judge_policy)
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
    monkeypatch.setattr(Jury, "judge_policy", lambda *_: next(came, (0.0, 0.0)))
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


def test_the_level_of_a_prompt_clips_none_of_its_answers(world, reward):
    opened = open_tokenizer(world.root / world.tokenizer.name)
    folder = world.root / world.instructions.name
    prompts = read_questions(folder, "align", opened, longest=70, limit=2, seed=0)
    asked = [one for one in prompts for _ in range(3)]
    answers = ["The helper is good.", "It is bad.", "is is is"]
    said = [Sampled(answer_ids(opened, text), [], True) for _ in prompts for text in answers]
    model = RewardModel.load(world.root / reward.name)
    config = PPO.model_copy(update={"samples": 3})
    scores = rewards_of(config, model, asked, said)
    assert sum(scores[:3]) == pytest.approx(0, abs=1e-5)
    assert len({round(score, 4) for score in scores[:3]}) == 3
    with torch.no_grad():
        model.head.out.bias.add_(100.0)
    assert rewards_of(config, model, asked, said) == pytest.approx(scores, abs=1e-3)


def test_the_jury_asks_what_no_rollout_asks(world):
    opened = open_tokenizer(world.root / world.tokenizer.name)
    folder = world.root / world.instructions.name
    found = read_questions(folder, "align", opened, longest=70, limit=8, seed=0)
    rollouts, apart = set_apart(found, 256)
    assert len({one.page for one in apart}) == 2  # of eight
    assert not {one.page for one in apart} & {one.page for one in rollouts}
    assert sorted([*rollouts, *apart], key=found.index) == found
    assert len(set_apart(found, 1)[1]) == 1
    assert set_apart(found, 0) == (found, [])


def test_of_few_pages_the_jury_takes_prompts_and_their_copies_are_not_rolled_out(world):
    opened = open_tokenizer(world.root / world.tokenizer.name)
    folder = world.root / world.instructions.name
    found = read_questions(folder, "align", opened, longest=70, limit=8, seed=0)
    same = [replace(one, page=f"{at % 3}") for at, one in enumerate(found)]
    rollouts, apart = set_apart([same[-1], *same], 256)
    assert apart == same[-2:]
    assert rollouts == same[:-2]


def test_questions_go_round(world, reward):
    learning = Learning.__new__(Learning)
    learning.config = PPO.model_copy(update={"answers": 10, "samples": 3, "kept": 2})
    learning.asked = list(range(8))  # type: ignore[assignment]
    assert learning._questions(1) == [number for number in (5, 6, 7, 0, 1) for _ in range(3)]
