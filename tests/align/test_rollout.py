"""Scores of a rollout's answers."""

from __future__ import annotations

import pytest
import torch

from components.align.reward_model import RewardModel
from components.align.rollout import reward_answers
from components.text.chat.ask_model import read_questions
from components.text.chat.chat_tokenizer import open_tokenizer
from models.generate import SampledAnswer
from tests.align.chain import PPO


def test_the_level_of_a_prompt_clips_none_of_its_answers(world, reward):
    opened = open_tokenizer(world.root / world.tokenizer.name)
    folder = world.root / world.instructions.name
    prompts = read_questions(folder, "align", opened, longest=70, limit=2, seed=0)
    asked = [one for one in prompts for _ in range(3)]
    answers = ["The helper is good.", "It is bad.", "is is is"]
    said = [
        SampledAnswer([*opened.encode_text(text), *opened.answer_end_ids], [], True)
        for _ in prompts
        for text in answers
    ]
    model = RewardModel.load(world.root / reward.name)
    config = PPO.model_copy(update={"samples": 3})
    scores = reward_answers(config, model, asked, said)
    assert sum(scores[:3]) == pytest.approx(0, abs=1e-5)
    assert len({round(score, 4) for score in scores[:3]}) == 3
    with torch.no_grad():
        model.head.out.bias.add_(100.0)
    assert reward_answers(config, model, asked, said) == pytest.approx(scores, abs=1e-3)
