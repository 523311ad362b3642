from __future__ import annotations

import math

import pytest
import torch

from components.align.ppo_objective import clipped_policy_loss, clipped_value_loss


def test_clip_takes_the_gradient_of_a_ratio_that_gained_enough() -> None:
    before = torch.zeros(4)
    # ratios 1.5 and 0.5, each with a positive and a negative advantage
    logprobs = torch.tensor([math.log(1.5), math.log(1.5), math.log(0.5), math.log(0.5)])
    logprobs.requires_grad_()
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0])
    loss, share = clipped_policy_loss(logprobs, before, advantages, 0.2)
    loss.backward()
    assert loss.item() == pytest.approx(-(1.2 - 1.5 + 0.5 - 0.8) / 4)
    assert share == 0.5
    assert logprobs.grad is not None
    assert (logprobs.grad != 0).tolist() == [False, True, True, False]


def test_unmoved_policy_has_the_plain_policy_gradient() -> None:
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    loss, share = clipped_policy_loss(logprobs, logprobs.detach(), torch.tensor([2.0, -1.0]), 0.2)
    loss.backward()
    assert share == 0.0
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [-1.0, 0.5]


def test_value_may_not_run_ahead_of_its_clip() -> None:
    before, returns = torch.tensor([0.0]), torch.tensor([1.0])
    far = torch.tensor([0.9], requires_grad=True)
    loss = clipped_value_loss(far, before, returns, clip=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * 0.8**2)
    assert far.grad is not None
    assert far.grad.item() == 0.0
    near = clipped_value_loss(torch.tensor([0.1]), before, returns, clip=0.2)
    assert float(near) == pytest.approx(0.5 * 0.9**2)
