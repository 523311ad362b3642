"""Prompts of a team's own in rollouts, and alignment by the reward of its own pairs alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.align.own.own_prompts import mix_prompts, read_own_prompts
from components.align.ppo import ppo
from components.align.train_reward import train_reward
from components.core.store.artifact import Checkpoint, Preferences
from components.text.chat.ask_model import QuestionPrompt, sample_answers
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.decoder_files import load_model, same_weights
from tests.align.chain import PPO, REWARD
from tests.align.conftest import World
from tests.align.test_own_preferences import own_corpus, planted_rows, prefer

ALONE = PPO.model_copy(update={"principles": 0.0, "beside_model": 0.0, "judged": 0})


@pytest.fixture(scope="module")
def own(world: World, tmp_path_factory: pytest.TempPathFactory) -> Preferences:
    path = tmp_path_factory.mktemp("prompts") / "mine.jsonl"
    return prefer(world, own_corpus(world, path, planted_rows(60)))


@pytest.fixture(scope="module")
def own_reward(world: World, own: Preferences) -> Checkpoint:
    return train_reward(REWARD, world.policy, own, world.tokenizer, world.work())


def test_own_prompts_are_those_to_learn_from_with_the_best_answer(world, own):
    prompts = read_own_prompts(world.root / own.name, 96)
    assert len(prompts) == own.stats["own_train_pairs"]
    rows = {row["prompt"]: row for row in planted_rows(60)}
    opened = open_tokenizer(world.root / world.tokenizer.name)
    for prompt in prompts:
        assert prompt.reference == rows[prompt.question]["chosen"]
        assert list(prompt.token_ids) == opened.encode_question(prompt.question)
    longest = min(len(prompt.token_ids) for prompt in prompts)
    assert len(read_own_prompts(world.root / own.name, longest)) < len(prompts)
    assert read_own_prompts(world.root / world.policy.name, 96) == []


def test_prompts_mix_in_an_order_of_the_seed():
    def prompts(kind: str) -> list[QuestionPrompt]:
        return [QuestionPrompt(f"{kind}{n}", kind, "", "?", "", (n,)) for n in range(40)]

    asked, own = prompts("asked"), prompts("own")
    assert mix_prompts(asked, [], 0, 5) == asked
    mixed = mix_prompts(asked, own, 0, 60)
    assert len(mixed) == 60
    assert mixed == mix_prompts(asked[::-1], own[::-1], 0, 60)
    assert mixed != mix_prompts(asked, own, 1, 60)
    assert 10 < sum(prompt.kind == "own" for prompt in mixed[:40]) < 30


def test_a_policy_learns_what_a_team_prefers_without_the_principles(world, own, own_reward):
    inputs = (world.policy, own_reward, world.instructions, world.tokenizer)
    aligned = ppo(ALONE, *inputs, world.work(), preferences=own)
    assert "untrusted" not in aligned.stats
    opened = open_tokenizer(world.root / world.tokenizer.name)
    asked = [p.token_ids for p in read_own_prompts(world.root / own.name, 72)] * 4

    def share_of_bad(model: Checkpoint) -> float:
        decoder = load_model(world.root / model.name)
        said = sample_answers(
            decoder, opened, asked, max_new=24, temperature=1.0, seed=5, batch=128
        )
        return sum("bad" in answer.text for answer in said) / len(said)

    assert share_of_bad(aligned) > share_of_bad(world.policy) + 0.15


def test_a_reward_that_is_not_trusted_leaves_the_policy_as_it_was(world, own, own_reward):
    strict = ALONE.model_copy(update={"min_correlation": 1.0})
    inputs = (world.policy, own_reward, world.instructions, world.tokenizer)
    aligned = ppo(strict, *inputs, world.work(), preferences=own)
    assert aligned.stats["untrusted"] == 1.0
    assert "ppo.min_correlation is 1" in aligned.note
    assert same_weights(world.root / aligned.name, world.root / world.policy.name)


def test_files_without_own_prompts_change_nothing(world, preferences, reward, tmp_path: Path):
    few = PPO.model_copy(update={"iterations": 1})
    inputs = (world.policy, reward, world.instructions, world.tokenizer)
    plain = ppo(few, *inputs, world.work())
    given = ppo(few, *inputs, world.work(), preferences=preferences)
    assert plain.digest == given.digest
    assert json.loads((world.root / plain.name / "model.json").read_text())
