"""Mixture of experts (MoE): a router sends each token to its top experts, computed by grouped
matrix products; a shared expert, where there is one, takes every token.

Routing is that of ``Qwen3MoeForCausalLM`` and ``MixtralForCausalLM``: softmax over all experts in
float32, the best k, their weights scaled to 1 where ``norm_topk``. Names are theirs too.

Balance: Switch's loss (arXiv:2101.03961, equation 4), taken over each row of a batch, so that the
sum over a batch does not depend on how it was split; or a bias on the choice (2408.15664), updated
by ``Router.rebalance`` after a step. Capacity is not limited: no token is dropped.

Shapes in names: b batch, t positions, n tokens, a active experts, e experts, c model width,
i inner width, o output width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import MLP, apply_activation, is_gated, soft_cap
from models.shape import Activation, DecoderShape, ExpertsShape

_ALIGNMENT = 8
"""Sixteen bytes of bfloat16: rows that the grouped kernel of a GPU can read."""


@dataclass(frozen=True)
class Routing:
    """Routing decisions of one layer for a batch."""

    router: Router
    odds_bte: Tensor
    """Softmax over the experts, float32."""
    chosen_bta: Tensor
    """Indices of the chosen experts."""

    @property
    def counts_e(self) -> Tensor:
        """Number of tokens of each expert, int64."""
        return _count_experts(self.chosen_bta.flatten(), self.odds_bte.shape[-1])

    def count_real(self, real_bt: Tensor) -> Tensor:
        """Number of tokens of each expert, of the positions in ``real_bt`` alone."""
        return _count_experts(self.chosen_bta[real_bt].flatten(), self.odds_bte.shape[-1])

    def balance_loss(self, share_bt: Tensor) -> Tensor:
        """experts * sum(fraction of tokens * mean odds), 1 where balanced; rows by their share.

        Positions count by ``share_bt``, so that padding does not.
        """
        experts = self.odds_bte.shape[-1]
        row_b = share_bt.sum(1)
        weight_bt1 = (share_bt / row_b.clamp_min(torch.finfo(share_bt.dtype).tiny)[:, None])[
            ..., None
        ]
        sent_bte = F.one_hot(self.chosen_bta, experts).sum(2) / self.chosen_bta.shape[-1]
        fraction_be = (sent_bte * weight_bt1).sum(1)
        odds_be = (self.odds_bte * weight_bt1).sum(1)
        return ((fraction_be * odds_be).sum(-1) * experts * row_b).sum()


class Routings:
    """Routing decisions of one forward pass, layer by layer.

    Not a list: FSDP rebuilds a layer's inputs where they hold tensors, which copies lists, and the
    layers would write into copies.
    """

    def __init__(self) -> None:
        self.made: list[Routing] = []


class Router(nn.Module):
    """Router: scores every expert for a token and picks the top ones."""

    load_e: Tensor

    def __init__(self, width: int, experts: ExpertsShape) -> None:
        super().__init__()
        self.experts = experts
        self.weight = nn.Parameter(torch.empty(experts.count, width))
        self.choice_bias = None
        if experts.balance == "bias":
            self.choice_bias = nn.Parameter(torch.zeros(experts.count), requires_grad=False)
            load = torch.zeros(experts.count, dtype=torch.int64)
            self.register_buffer("load_e", load, persistent=False)

    def forward(self, x_btc: Tensor) -> tuple[Tensor, Routing]:
        """(weights [b, t, a] of the chosen, float32; the routing)."""
        scores = F.linear(x_btc.float(), self.weight.float())
        odds_bte = soft_cap(scores, self.experts.router_cap).softmax(-1)
        ranked = odds_bte if self.choice_bias is None else odds_bte + self.choice_bias
        chosen_bta = ranked.topk(self.experts.active, dim=-1).indices
        weights_bta = odds_bte.gather(-1, chosen_bta)
        if self.experts.norm_topk:
            weights_bta = weights_bta / weights_bta.sum(-1, keepdim=True)
        return weights_bta, Routing(self, odds_bte, chosen_bta)

    @torch.no_grad()
    def add_counts(self, counts_e: Tensor) -> None:
        """Add the token counts of a micro-batch, for ``rebalance``."""
        if self.choice_bias is not None:
            self.load_e += counts_e

    @torch.no_grad()
    def rebalance(self, moved: bool = True) -> None:
        """Raise the bias of experts with too few tokens in the step, lower that of the others.

        Loads are summed over all ranks, so that each updates its bias alike. Where the step did not
        move the weights, they are dropped.
        """
        if self.choice_bias is None:
            return
        if not moved:
            self.load_e.zero_()
            return
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self.load_e)
        load_e = self.load_e.float()
        self.choice_bias.add_((load_e.mean() - load_e).sign(), alpha=self.experts.speed)
        self.load_e.zero_()


class ExpertStack(nn.Module):
    """All experts of a layer, their matrices stacked: gate_up_proj [e, 2i, c], down_proj [e, c, i].

    Without a gate the first is [e, i, c].
    """

    def __init__(self, width: int, experts: ExpertsShape, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        inner = experts.hidden * (2 if is_gated(activation) else 1)
        self.gate_up_proj = nn.Parameter(torch.empty(experts.count, inner, width))
        self.down_proj = nn.Parameter(torch.empty(experts.count, width, experts.hidden))

    def forward(self, x_nc: Tensor, counts_e: Tensor) -> Tensor:
        """[n, c] -> [n, c]; tokens sorted by expert, ``counts_e`` of them for each."""
        return expert_mlp(x_nc, self.gate_up_proj, self.down_proj, counts_e, self.activation)


class MoE(nn.Module):
    """Mixture of experts in place of an MLP."""

    def __init__(self, shape: DecoderShape, experts: ExpertsShape) -> None:
        super().__init__()
        activation = shape.extras.activation
        self.gate = Router(shape.width, experts)
        self.experts = ExpertStack(shape.width, experts, activation)
        self.shared_expert = (
            MLP(shape.width, experts.shared, activation) if experts.shared else None
        )

    def forward(self, x_btc: Tensor) -> tuple[Tensor, Routing]:
        weights_bta, routing = self.gate(x_btc)
        x_nc, active = x_btc.flatten(0, 1), weights_bta.shape[-1]
        chosen = routing.chosen_bta.flatten()
        order = chosen.argsort(stable=True)
        sorted_out = self.experts(x_nc[order // active], routing.counts_e)
        back = torch.empty_like(sorted_out).index_copy(0, order, sorted_out)
        weighted = back.view(*weights_bta.shape, -1) * weights_bta[..., None].to(back.dtype)
        out_btc = weighted.sum(2)
        if self.shared_expert is not None:
            out_btc = out_btc + self.shared_expert(x_btc)
        return out_btc, routing


def expert_mlp(
    x_nc: Tensor, up_eoc: Tensor, down_eci: Tensor, counts_e: Tensor, activation: Activation
) -> Tensor:
    """Apply to each token its expert's MLP: [n, c] -> [n, c].

    Args:
        x_nc: tokens, sorted by expert.
        up_eoc: first matrices, with a gate [e, 2i, c].
        down_eci: second matrices.
        counts_e: tokens of each expert.
        activation: activation of the gate.
    """
    inner = grouped_linear(x_nc, up_eoc.to(x_nc.dtype), counts_e)
    if is_gated(activation):
        gate, up = inner.chunk(2, dim=-1)
        inner = apply_activation(gate, activation) * up
    else:
        inner = apply_activation(inner, activation)
    return grouped_linear(inner, down_eci.to(x_nc.dtype), counts_e)


def grouped_linear(x_nc: Tensor, weight_eoc: Tensor, counts_e: Tensor) -> Tensor:
    """Multiply each row by its expert's matrix: [n, c] -> [n, o].

    One grouped kernel on a GPU in bfloat16; elsewhere segment by segment, with the same numbers.

    Args:
        x_nc: rows, sorted by expert.
        weight_eoc: a matrix for each expert.
        counts_e: rows of each expert.
    """
    _, outputs, inputs = weight_eoc.shape
    aligned = inputs % _ALIGNMENT == 0 and outputs % _ALIGNMENT == 0
    if x_nc.is_cuda and x_nc.dtype == torch.bfloat16 and aligned:
        return F.grouped_mm(x_nc, weight_eoc.mT, offs=counts_e.cumsum(0).to(torch.int32))
    segments = torch.split(x_nc, counts_e.tolist())
    return torch.cat(
        [F.linear(x, weight) for x, weight in zip(segments, weight_eoc.unbind(), strict=True)]
    )


def _count_experts(chosen: Tensor, experts: int) -> Tensor:
    counts = torch.zeros(experts, dtype=torch.int64, device=chosen.device)
    return counts.scatter_add_(0, chosen, torch.ones_like(chosen))
