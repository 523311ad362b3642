"""Batched sampling with a KV cache. Prompts are left-padded and masked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.decoder import Cache, Decoder


@dataclass(frozen=True)
class SampledAnswer:
    """Sampled completion; ``tokens`` end with the stop token unless cut at the limit."""

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


COMPACT_BELOW = 7 / 8
"""Share of running rows below which stopped rows are dropped from the batch.

That copies the cache; a smaller share copies less often and computes more rows in vain.
"""


@torch.inference_mode()
def generate_answers(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new: int,
    stop_ids: Sequence[int],
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> list[SampledAnswer]:
    """Sample a completion for each prompt.

    ``logprobs`` are those of the distribution before the temperature. Every row draws from random
    numbers of its own, so it does not depend on when the others stop, and two models given equal
    generators see equal numbers.

    Args:
        model: samples in its ``compute`` dtype.
        prompts: token ids.
        max_new: tokens a completion, at most.
        stop_ids: tokens that end a completion.
        temperature: temperature of the sampling; 0 is greedy.
        generator: random number generator on the CPU; None takes torch's own.
    """
    device = model.embed_tokens.weight.device
    ids, real = (tensor.to(device) for tensor in pad_left(prompts))
    start = ids.shape[1]
    like = model.embed_tokens.weight.new_empty(0, dtype=model.compute)
    cache = Cache(model.shape, len(prompts), start + max_new, like)
    chance = None
    if temperature > 0:  # drawn on the CPU, so that seeds mean the same on any device
        chance = torch.rand(len(prompts), max_new, generator=generator).to(device)
    stops = torch.tensor(list(stop_ids), device=device)
    hidden, position = _prefill(model, ids, real, cache)
    rows = torch.arange(len(prompts), device=device)
    going = torch.ones(len(prompts), dtype=torch.bool, device=device)
    tokens = torch.full((len(prompts), max_new), stop_ids[0], device=device)
    logprobs = torch.zeros(len(prompts), max_new, device=device)
    lengths = torch.full((len(prompts),), max_new, device=device)
    for step in range(max_new):
        scores = model.logits(hidden).float().log_softmax(-1)
        drawn = _sample_tokens(scores, temperature, None if chance is None else chance[rows, step])
        tokens[rows[going], step] = drawn[going]
        logprobs[rows[going], step] = scores.gather(1, drawn[:, None])[going, 0]
        stopped = torch.isin(drawn, stops)
        lengths[rows[going & stopped]] = step + 1
        going = going & ~stopped
        if not going.any() or step + 1 == max_new:
            break
        if going.sum() < COMPACT_BELOW * len(rows):
            cache.keep(going)
            rows, drawn, position, real = rows[going], drawn[going], position[going], real[going]
            going = going[going]
        position = position + 1
        real = torch.cat((real, real.new_ones(len(rows), 1)), dim=1)
        mask = real[:, None, None, :]
        ids, positions = drawn[:, None], position[:, None]
        hidden = model.hidden(ids, positions_bt=positions, mask=mask, cache=cache)[:, -1]
    return _split_answers(tokens, logprobs, lengths, frozenset(stop_ids))


def _split_answers(
    tokens: Tensor, logprobs: Tensor, lengths: Tensor, stop_ids: frozenset[int]
) -> list[SampledAnswer]:
    """Completions of the rows [b, t], each of its first ``lengths`` [b] tokens."""
    rows = zip(tokens.tolist(), logprobs.tolist(), lengths.tolist(), strict=True)
    return [
        SampledAnswer(row[:length], probs[:length], bool(length) and row[length - 1] in stop_ids)
        for row, probs, length in rows
    ]


def _prefill(model: Decoder, ids: Tensor, real: Tensor, cache: Cache) -> tuple[Tensor, Tensor]:
    """(hidden state [b, c], position [b]) of each prompt's last token."""
    start = ids.shape[1]
    causal = real.new_ones(start, start).tril()
    # A padding query sees itself, so that its softmax is not over nothing.
    mask = (causal & real[:, None, None, :]) | real.new_ones(start).diag()
    positions = (real.cumsum(1) - 1).clamp(min=0)
    hidden = model.hidden(ids, positions_bt=positions, mask=mask, cache=cache)
    return hidden[:, -1], positions[:, -1]


def _sample_tokens(scores: Tensor, temperature: float, chance: Tensor | None) -> Tensor:
    """One token a row by inverse transform sampling with ``chance`` [b] in [0, 1); None: argmax."""
    if chance is None:
        return scores.argmax(-1)
    cumulative = (scores / temperature).softmax(-1).cumsum(-1)
    at = torch.searchsorted(cumulative, chance[:, None] * cumulative[:, -1:], right=True)[:, 0]
    return at.clamp(max=scores.shape[-1] - 1)
