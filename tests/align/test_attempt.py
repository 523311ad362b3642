"""Attempts that cannot end well: each seals the model it was given, says why, and raises nothing."""

from __future__ import annotations

import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from components.align.ppo import ppo
from components.align.ppo_config import PPOConfig
from components.align.ppo_trainer import PPOTrainer
from components.align.preferences import (
    ANSWER_SCHEMA,
    PAIR_SCHEMA,
    make_preferences,
)
from components.align.preferences_config import PreferencesConfig
from components.align.reward_agreement import read_correlation
from components.align.train_reward import RewardConfig, train_reward
from components.core.errors import DataError
from components.core.progress import Progress
from components.core.store.artifact import Checkpoint, Instructions, Preferences
from components.core.store.shards import write_shard
from components.text.constitution.principles import Constitution, default_constitution
from components.text.decoder_files import load_model
from components.train.training_config import OptimConfig
from tests.align.conftest import NAMES, World, rows

FEW = PreferencesConfig(
    constitution=Constitution.model_validate(
        {
            "principles": [
                {"name": "faithful", "description": "d", "check": {"kind": "reference"}},
            ]
        }
    ),
    questions=8,
    heldout_questions=4,
    answers=8,
    temperature=1.3,
    max_new=12,
    chunk=4,
)
REWARD = RewardConfig(min_prompts=2, precision="float32")
PPO = PPOConfig(
    constitution=FEW.constitution,
    judged=2,
    judged_draws=1,
    judge_every=1,
    min_prompts=2,
    min_correlation=0,
    iterations=3,
    answers=8,
    samples=4,
    kept_samples=2,
    batch=8,
    epochs=1,
    max_new=12,
    optim=OptimConfig(kind="adamw", adam_lr=1e-3, embedding_lr=1e-3),
    precision="float32",
)


@pytest.fixture(scope="module")
def preferences(world: World) -> Preferences:
    return make_preferences(FEW, world.policy, world.instructions, world.tokenizer, world.work())


@pytest.fixture(scope="module")
def reward(world: World, preferences: Preferences) -> Checkpoint:
    return train_reward(REWARD, world.policy, preferences, world.tokenizer, world.work())


@pytest.fixture
def house_log(caplog: pytest.LogCaptureFixture, monkeypatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("modelmill"), "propagate", True)
    caplog.set_level(logging.INFO, logger="modelmill")
    return caplog


def align(world: World, reward: Checkpoint, config: PPOConfig = PPO, **inputs) -> Checkpoint:
    instructions = inputs.get("instructions", world.instructions)
    work = inputs.get("work") or world.work()
    return ppo(config, world.policy, reward, instructions, world.tokenizer, work)


def weights(world: World, model: Checkpoint) -> bytes:
    return (world.root / model.name / "model.safetensors").read_bytes()


def instructions_of(world: World, names: list[str]) -> Instructions:
    """Held-out prompts as ever, and those for alignment of ``names`` alone."""
    work = world.work()
    schema = pa.Table.from_pylist(rows(NAMES, "align")).schema
    for split, some in (("train", NAMES), ("align", names), ("heldout", NAMES[:4])):
        table = pa.Table.from_pylist(rows(some, split), schema=schema)
        write_shard(work.folder / f"{split}.parquet", table)
    return work.seal(Instructions)


@pytest.mark.parametrize("names", [[], NAMES[:1]], ids=["no question", "one question"])
def test_too_few_prompts_leave_the_policy_as_it_was(world, house_log, names):
    asked = instructions_of(world, names)
    preferences = make_preferences(FEW, world.policy, asked, world.tokenizer, world.work())
    folder = world.root / preferences.name
    answers = pq.read_table(folder / "answers.parquet")
    assert answers.schema.equals(ANSWER_SCHEMA)
    assert preferences.stats["train_questions"] == len(names)
    reward = train_reward(REWARD, world.policy, preferences, world.tokenizer, world.work())
    assert reward.stats["too_few"] == 1
    assert read_correlation(world.root / reward.name).value == 0
    aligned = align(world, reward, instructions=asked)
    assert aligned.stats["too_few"] == 1
    assert weights(world, aligned) == weights(world, reward) == weights(world, world.policy)
    assert f"ppo: {len(names)} alignment prompts, ppo.min_prompts is 2" in house_log.text


def test_answers_that_are_all_alike_give_no_pair_and_no_error(world, house_log):
    greedy = FEW.model_copy(update={"temperature": 1e-4})
    preferences = make_preferences(
        greedy, world.policy, world.instructions, world.tokenizer, world.work()
    )
    pairs = pq.read_table(world.root / preferences.name / "train.parquet")
    assert pairs.num_rows == preferences.stats["train_pairs"] == 0
    assert pairs.schema.equals(PAIR_SCHEMA)
    assert "no two answers to one are judged 0.02 apart" in house_log.text
    reward = train_reward(REWARD, world.policy, preferences, world.tokenizer, world.work())
    assert reward.stats["too_few"] == 1


def test_a_judge_that_fails_ends_the_attempt_and_not_the_run(world, reward, house_log, monkeypatch):
    def score(*_):
        raise ZeroDivisionError("words / 0")

    check = FEW.constitution.principles[0].check
    monkeypatch.setattr(type(check), "score", score)
    preferences = make_preferences(
        FEW, world.policy, world.instructions, world.tokenizer, world.work()
    )
    assert preferences.stats["judge_failed"] == 1
    assert preferences.stats["answers"] == 0
    assert "ZeroDivisionError: words / 0" in house_log.text
    aligned = align(world, reward)
    assert aligned.stats["judge_failed"] == 1
    assert weights(world, aligned) == weights(world, world.policy)


def test_a_loss_that_is_no_number_returns_the_start(world, reward, house_log, monkeypatch):
    monkeypatch.setattr(
        "components.align.ppo_trainer.clipped_policy_loss",
        lambda logprobs, *rest: (logprobs.sum() * float("nan"), 0.0),
    )
    aligned = align(world, reward)
    assert aligned.stats["diverged"] == 1
    assert weights(world, aligned) == weights(world, world.policy)
    assert "iteration 0 broke (policy loss nan" in house_log.text
    assert "the policy it was given goes on" in house_log.text
    assert aligned.note.startswith("the policy as it was: iteration 0 broke")


def test_a_reward_that_is_no_number_returns_the_start(world, reward, monkeypatch):
    monkeypatch.setattr(
        "components.align.rollout.reward_answers",
        lambda config, model, asked, sampled: [float("nan")] * len(asked),
    )
    aligned = align(world, reward)
    assert aligned.stats["diverged"] == 1
    assert weights(world, aligned) == weights(world, world.policy)


def test_a_last_step_into_nowhere_is_seen_without_a_judge(world, reward, monkeypatch):
    """No loss looks at what the last step made."""
    step = PPOTrainer._step_optimisers

    def breaking(learning: PPOTrainer, iteration: int, loss: float, error: float) -> float:
        norm = step(learning, iteration, loss, error)
        if iteration == PPO.iterations - 1:
            with torch.no_grad():
                learning.models.actor.norm.weight.fill_(float("inf"))
        return norm

    monkeypatch.setattr(PPOTrainer, "_step_optimisers", breaking)
    aligned = align(world, reward, PPO.model_copy(update={"judged": 0}))
    assert aligned.stats["diverged"] == 1
    assert weights(world, aligned) == weights(world, world.policy)


def test_a_diverged_attempt_killed_on_the_way_ends_with_the_same_bytes(world, reward, monkeypatch):
    class Killed(Exception):
        pass

    def listener(progress: Progress) -> None:
        if progress.done == 1:
            raise Killed

    step = PPOTrainer._step_optimisers

    def breaking(learning: PPOTrainer, iteration: int, loss: float, error: float) -> float:
        return step(learning, iteration, float("nan") if iteration == 2 else loss, error)

    monkeypatch.setattr(PPOTrainer, "_step_optimisers", breaking)
    unbroken = align(world, reward)
    assert unbroken.stats["diverged"] == 1
    assert pq.read_table(world.root / unbroken.name / "curve.parquet").num_rows == 2
    work = world.work()
    work.progress.listener = listener
    with pytest.raises(Killed):
        align(world, reward, work=work)
    work.progress.listener = None
    assert align(world, reward, work=work).digest == unbroken.digest


def test_a_rate_far_too_high_without_a_judge_is_no_error(world, reward):
    wild = OptimConfig(kind="adamw", adam_lr=1.0, embedding_lr=1.0, clip=1e9)
    aligned = align(world, reward, PPO.model_copy(update={"judged": 0, "optim": wild}))
    made = load_model(world.root / aligned.name)
    assert all(bool(p.isfinite().all()) for p in made.parameters())


def test_a_rate_of_zero_moves_nothing(world, reward):
    still = OptimConfig(kind="adamw", adam_lr=0, embedding_lr=0)
    aligned = align(world, reward, PPO.model_copy(update={"optim": still}))
    assert weights(world, aligned) == weights(world, world.policy)
    assert aligned.stats["judged_gain"] == aligned.stats["kept_iteration"] == 0


@pytest.mark.parametrize("bound", [0.0, 1.0])
def test_the_reward_model_rewards_only_where_it_agrees_with_the_principles(
    world, reward, house_log, monkeypatch, bound
):
    asked: list[int] = []

    def rewards_of(config, model, prompts, sampled):
        asked.append(len(prompts))
        return [0.0] * len(prompts)

    monkeypatch.setattr("components.align.rollout.reward_answers", rewards_of)
    aligned = align(world, reward, PPO.model_copy(update={"min_correlation": bound}))
    assert (not asked) == bool(bound)
    assert ("rewarded by the principles" in aligned.note) == bool(bound)
    assert ("rewarded by the reward model" in aligned.note) == (not bound)
    assert ("the principles reward directly" in house_log.text) == bool(bound)
    assert aligned.stats["detectable"] >= 0
    assert "the least gain that such a comparison sees is" in house_log.text


def test_a_reward_model_that_diverges_is_the_policy_and_rewards_nothing(
    world, preferences, house_log, monkeypatch
):
    monkeypatch.setattr(
        "models.answer_features.best_matches",
        lambda states, prompts, answers: states[:, 0, :2] * float("nan"),
    )
    made = train_reward(REWARD, world.policy, preferences, world.tokenizer, world.work())
    assert made.stats["diverged"] == 1
    assert weights(world, made) == weights(world, world.policy)
    assert read_correlation(world.root / made.name).value == 0
    assert "reward: a weight of the head is no number; it rewards nothing" in house_log.text
    monkeypatch.undo()
    aligned = align(world, made, PPO.model_copy(update={"min_correlation": 0.5}))
    assert "the principles (the reward model's correlation is 0.00)" in aligned.note
    assert aligned.stats["iterations"] == PPO.iterations


def test_a_reward_model_without_its_figure_is_one_line(world):
    with pytest.raises(DataError, match=r"reward\.json does not say how well .* stage reward"):
        read_correlation(world.root / world.policy.name)


def test_the_house_constitution_serves_as_judge(world):
    config = FEW.model_copy(update={"constitution": default_constitution(), "questions": 2})
    made = make_preferences(config, world.policy, world.instructions, world.tokenizer, world.work())
    assert made.stats["answers"] == (2 + 4) * 8
