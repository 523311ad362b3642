"""Reward model training on a planted preference."""

from __future__ import annotations

import math

import pyarrow.parquet as pq
import pytest

from components.align.reward_agreement import within_prompt_deviation
from components.align.reward_model import RewardModel
from components.align.train_reward import (
    extract_group_features,
    read_answer_groups,
    score_groups,
)
from components.text.chat.chat_tokenizer import open_tokenizer
from tests.align.chain import REWARD


def test_reward_model_learns_the_planted_preference(world, preferences, reward):
    assert reward.stats["within_prompt_correlation"] > 0.5
    assert reward.stats["within_prompt_correlation_low"] > 0.2
    model = RewardModel.load(world.root / reward.name)
    assert model.correlation.value == pytest.approx(
        reward.stats["within_prompt_correlation"], abs=1e-4
    )
    opened = open_tokenizer(world.root / world.tokenizer.name)
    groups = read_answer_groups(world.root / preferences.name, "train", opened, 96)
    features = extract_group_features(REWARD, model.trunk, groups, world.work())
    rewards = score_groups(model.head, features)
    kept, first = (world.root / one.name / "model.safetensors" for one in (reward, world.policy))
    assert kept.read_bytes() == first.read_bytes()
    assert abs(math.fsum(map(math.fsum, rewards))) < 1e-2
    assert within_prompt_deviation(groups, rewards) == pytest.approx(1.0, abs=1e-3)


def test_answers_to_a_prompt_are_read_once_with_their_counts(world, preferences):
    opened = open_tokenizer(world.root / world.tokenizer.name)
    folder = world.root / preferences.name
    groups = read_answer_groups(folder, "train", opened, 96)
    rows = pq.read_table(folder / "answers.parquet").to_pylist()
    first = [row for row in rows if opened.encode_question(row["question"]) == groups[0].prompt]
    given = [row["tokens"] for row in first if row["split"] == "train"]
    assert sorted(given) == sorted(
        tokens
        for tokens, count in zip(groups[0].answers, groups[0].counts, strict=True)
        for _ in range(count)
    )
    assert max(groups[0].counts) > 1
