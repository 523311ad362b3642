from __future__ import annotations

import pytest
import torch

from components.align.advantages import (
    KLController,
    generalised_advantages,
    subtract_leave_one_out_baseline,
    token_rewards,
    whiten_advantages,
)
from components.align.ppo_config import KLConfig

MASK = torch.tensor([[True, True, True], [True, False, False]])


def test_gae_is_what_equation_16_gives_by_hand() -> None:
    rewards = torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 0.0]])
    values = torch.tensor([[0.5, 0.4, 0.2], [1.0, 9.0, 9.0]])
    advantages, returns = generalised_advantages(rewards, values, MASK, discount=0.9, decay=0.5)
    # last: 1 - 0.2 = 0.8; middle: 0.9 * 0.2 - 0.4 + 0.45 * 0.8; first: 0.9 * 0.4 - 0.5 + 0.45 * x
    middle = 0.18 - 0.4 + 0.45 * 0.8
    first = 0.36 - 0.5 + 0.45 * middle
    expected = torch.tensor([[first, middle, 0.8], [1.0, 0.0, 0.0]])
    assert torch.allclose(advantages, expected)
    assert torch.allclose(returns[0], expected[0] + values[0])
    assert returns[1].tolist() == [2.0, 0.0, 0.0]


def test_full_decay_without_discount_returns_the_whole_reward() -> None:
    rewards = torch.tensor([[0.1, -0.2, 1.0]])
    values = torch.rand(1, 3)
    _, returns = generalised_advantages(
        rewards, values, torch.ones(1, 3, dtype=torch.bool), 1.0, 1.0
    )
    assert torch.allclose(returns, torch.tensor([[0.9, 0.8, 1.0]]))


def test_score_lands_on_the_last_token() -> None:
    rewards = token_rewards(torch.tensor([3.0, 4.0]), MASK)
    assert torch.equal(rewards, torch.tensor([[0.0, 0.0, 3.0], [4.0, 0.0, 0.0]]))


def test_a_score_counts_against_the_other_answers_to_its_question() -> None:
    scores = subtract_leave_one_out_baseline(
        torch.tensor([1.0, 5.0, 2.0, 6.0, 9.0]), torch.tensor([0, 1, 0, 0, 2])
    )
    assert scores.tolist() == [-3.0, 0.0, -1.5, 4.5, 0.0]


def test_whitening_leaves_padding_out() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [6.0, 100.0, 100.0]])
    white = whiten_advantages(values, MASK)
    assert white[1, 1:].tolist() == [0.0, 0.0]
    assert white[MASK].mean().abs() < 1e-6
    assert white[MASK].std(correction=0) == pytest.approx(1.0, abs=1e-5)


def test_adaptive_controller_follows_the_target_within_a_fifth() -> None:
    start = KLController(KLConfig(kind="adaptive", coefficient=0.1, target=4.0), 0.1)
    assert start.updated(4.4).coefficient == pytest.approx(0.1 * 1.1)
    assert start.updated(400.0).coefficient == pytest.approx(0.12)
    assert start.updated(-3.0).coefficient == pytest.approx(0.08)
    assert start.updated(4.0).coefficient == 0.1


def test_fixed_controller_stays() -> None:
    start = KLController(KLConfig(kind="fixed", coefficient=0.1), 0.1)
    assert start.updated(400.0) == start
