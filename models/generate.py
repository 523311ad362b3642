"""Batched sampling with a KV cache. Prompts are padded on the left and masked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.decoder import Cache, Decoder


@dataclass(frozen=True)
class Sampled:
    """One completion: ``tokens`` end with a stop token unless cut at the limit."""

    tokens: list[int]
    logprobs: list[float]
    stopped: bool


def pad_left(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """(ids [b, t], real [b, t] bool): prompts padded on the left with token 0."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    real = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        real[row, longest - len(prompt) :] = True
    return ids, real


@torch.inference_mode()
def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new: int,
    stop: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> list[Sampled]:
    """Sample a completion for each prompt; ``temperature`` 0 is greedy.

    ``logprobs`` are those of the distribution sampled from before the temperature (what PPO
    compares with). Rows that stopped leave the batch at once.
    """
    ids, real = pad_left(prompts)
    start = ids.shape[1]
    cache = Cache(model.shape, len(prompts), start + max_new, model.embed_tokens.weight)
    causal = torch.ones(start, start, dtype=torch.bool).tril()
    # A padding query sees itself, so that its softmax is not empty.
    mask = (causal & real[:, None, None, :]) | torch.eye(start, dtype=torch.bool)
    positions = (real.cumsum(1) - 1).clamp(min=0)
    hidden = model.hidden(ids, positions_bt=positions, mask=mask, cache=cache)[:, -1]
    position = positions[:, -1]
    rows = list(range(len(prompts)))
    tokens: list[list[int]] = [[] for _ in prompts]
    logprobs: list[list[float]] = [[] for _ in prompts]
    for step in range(max_new):
        scores = model.logits(hidden).float().log_softmax(-1)
        drawn = _draw(scores, temperature, generator)
        taken = scores.gather(1, drawn[:, None])[:, 0]
        for row, token, logprob in zip(rows, drawn.tolist(), taken.tolist(), strict=True):
            tokens[row].append(token)
            logprobs[row].append(logprob)
        going = (drawn != stop).nonzero()[:, 0]
        if len(going) == 0 or step + 1 == max_new:
            break
        if len(going) < len(rows):
            cache.keep(going)
            rows = [rows[i] for i in going.tolist()]
            drawn, position, real = drawn[going], position[going], real[going]
        position = position + 1
        real = torch.cat((real, torch.ones(len(rows), 1, dtype=torch.bool)), dim=1)
        hidden = model.hidden(
            drawn[:, None],
            positions_bt=position[:, None],
            mask=real[:, None, None, :],
            cache=cache,
        )[:, -1]
    return [
        Sampled(row, probs, bool(row) and row[-1] == stop)
        for row, probs in zip(tokens, logprobs, strict=True)
    ]


def _draw(scores: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    if temperature <= 0:
        return scores.argmax(-1)
    probabilities = (scores / temperature).softmax(-1)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]
