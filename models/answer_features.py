"""Features of an answer to a prompt from a frozen decoder, the input of a linear reward head.

Final hidden states describe the answer, likelihoods where the decoder doubts it, and late
interaction (MaxSim, Khattab & Zaharia 2020, arXiv:2004.12832) whether it is about the question: a
name that is copied wrongly hardly moves a mean over an answer, but it matches nothing.

Shapes in names: b answers, t positions, a answer positions, n answer tokens of all rows, c width,
f features.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from models.answer_sequences import AnswerSequences, token_entropies, token_log_probs
from models.decoder import Decoder
from models.shape import DecoderShape

LIKELIHOODS = 6
UNLIKELY = -2.0
"""Log-likelihood in nats, about 14 %, below which a token was one of several candidates."""


def feature_width(shape: DecoderShape) -> int:
    """Number of features f: last and mean hidden state, likelihoods, two matches a layer."""
    return 2 * shape.width + LIKELIHOODS + 2 * (shape.layers + 1)


@torch.no_grad()
def answer_features(model: Decoder, sequences: AnswerSequences) -> Tensor:
    """Features [b, f] of each answer, float32."""
    states: list[Tensor] = [model.embed_tokens(sequences.ids_bt)]
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, out: states.append(out))
        for layer in model.layers
    ]
    try:
        hidden_btc = model.hidden(sequences.ids_bt).float()
    finally:
        for hook in hooks:
            hook.remove()
    at_t = torch.arange(hidden_btc.shape[1])
    prompt_bt = at_t < sequences.prompts_b[:, None]
    answer_bt = ~prompt_bt & (at_t < sequences.lengths_b[:, None])
    rows = torch.arange(len(hidden_btc))
    return torch.cat(
        [
            hidden_btc[rows, sequences.lengths_b - 1],
            mean_over(hidden_btc, answer_bt),
            _likelihoods(model, hidden_btc, sequences),
            *(best_matches(state.float(), prompt_bt, answer_bt) for state in states),
        ],
        dim=1,
    )


def mean_over(values_btx: Tensor, mask_bt: Tensor) -> Tensor:
    """Mean over the positions of a mask, [b, x]."""
    return (values_btx * mask_bt[..., None]).sum(1) / mask_bt.sum(1, keepdim=True)


def best_matches(states_btc: Tensor, prompt_bt: Tensor, answer_bt: Tensor) -> Tensor:
    """Mean cosine of answer positions to their best match in the prompt, and the reverse: [b, 2].

    Args:
        states_btc: hidden states of one layer.
        prompt_bt: True at positions of the prompt.
        answer_bt: True at positions of the answer.
    """
    unit_btc = F.normalize(states_btc, dim=-1)
    cosine_btt = (unit_btc @ unit_btc.transpose(1, 2)).masked_fill(
        ~(answer_bt[:, :, None] & prompt_bt[:, None, :]), -1.0
    )
    of_answer_bt, of_prompt_bt = cosine_btt.amax(2), cosine_btt.amax(1)
    return torch.cat(
        [
            mean_over(of_answer_bt[..., None], answer_bt),
            mean_over(of_prompt_bt[..., None], prompt_bt),
        ],
        dim=1,
    )


def _likelihoods(model: Decoder, hidden_btc: Tensor, sequences: AnswerSequences) -> Tensor:
    """[b, 6]: mean, total and least log-likelihood; length; entropy; share of unlikely tokens."""
    scores_nv = model.logits(hidden_btc[sequences.places]).float().log_softmax(-1)
    mask_ba = sequences.mask_ba
    logprobs_ba = sequences.spread(token_log_probs(scores_nv, sequences.answers_n))
    entropies_ba = sequences.spread(token_entropies(scores_nv))
    lengths_b = mask_ba.sum(1)
    return torch.stack(
        [
            logprobs_ba.sum(1) / lengths_b,
            logprobs_ba.sum(1),
            logprobs_ba.amin(1),
            lengths_b.float(),
            entropies_ba.sum(1) / lengths_b,
            (logprobs_ba < UNLIKELY).sum(1) / lengths_b,
        ],
        dim=1,
    )
