"""Decoder: RMSNorm, rotary positions, grouped-query attention, and a gated MLP or experts.

Module names are those of ``Qwen3Model`` (``LlamaModel``, ``Qwen3MoeModel``, ``MixtralModel``), so a
state dict loads there under a ``model.`` prefix. Sources stand in the modules of the parts.

Weights are float32; activations take ``Decoder.compute``. In bfloat16 on a CPU, without a
cache, the layers take the passes of ``models/fused_autograd.py``, which compute the same at less
cost.

Shapes in names: b batch, t new positions, s all positions, h heads, k kv heads, d head width,
c model width, v vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from models import fused_autograd
from models.attention import block_masks
from models.attention.attention import Attention, AttentionContext, Cache
from models.attention.attention_masks import (
    VisibleKeys,
    document_mask,
    visible_blocks,
    visible_keys,
)
from models.attention.rotary import rotary_angles
from models.layers import MLP, Linear, RMSNorm, soft_cap
from models.moe import ExpertStack, MoE, Router, Routing
from models.shape import DecoderShape

__all__ = [
    "MLP",
    "Attention",
    "AttentionContext",
    "Cache",
    "Decoder",
    "Layer",
    "Linear",
    "RMSNorm",
    "document_mask",
    "rotary_angles",
]

FUSED_POSITIONS = 1024
"""Sequence length beyond which the attention weights that the fused passes keep cost more than they
save."""


class Layer(nn.Module):
    """Pre-norm attention, then a pre-norm MLP or experts, each added to the residual stream."""

    def __init__(self, shape: DecoderShape, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.width, shape.norm_eps)
        self.self_attn = Attention(shape, layer)
        self.post_attention_layernorm = RMSNorm(shape.width, shape.norm_eps)
        self.mlp: MLP | MoE
        if shape.experts is None:
            self.mlp = MLP(shape.width, shape.hidden, shape.extras.activation)
        else:
            self.mlp = MoE(shape, shape.experts)
        self.attention_out_norm = self.mlp_out_norm = None
        if shape.extras.post_norms:
            self.attention_out_norm = RMSNorm(shape.width, shape.norm_eps)
            self.mlp_out_norm = RMSNorm(shape.width, shape.norm_eps)

    def forward(self, x_btc: Tensor, context: AttentionContext) -> Tensor:
        fast = context.fast
        change = self.self_attn(self.input_layernorm(x_btc, fast), context)
        if self.attention_out_norm is not None:
            change = self.attention_out_norm(change, fast)
        x_btc = x_btc + change
        change = self._mixed(self.post_attention_layernorm(x_btc, fast), context)
        if self.mlp_out_norm is not None:
            change = self.mlp_out_norm(change, fast)
        out: Tensor = x_btc + change
        return out

    def _mixed(self, normed_btc: Tensor, context: AttentionContext) -> Tensor:
        if isinstance(self.mlp, MoE):
            change, routing = self.mlp(normed_btc)
            context.routings.made.append(routing)
        else:
            change = self.mlp(normed_btc)
        out: Tensor = change
        return out


class _Routings(list[Routing]):
    """The routings of the last forward pass; a copy of a model is made without them."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Routings:
        return _Routings()


class Decoder(nn.Module):
    """A causal language model.

    ``compute`` is the dtype of activations: float32, or bfloat16 for training and sampling.
    ``activation_checkpointing`` keeps only the input of each layer for the gradient and recomputes
    the layer in the backward pass (arXiv:1604.06174): equal numbers, a third more work, far less
    memory. ``flexible`` takes FlexAttention for document and window masks; None: where it pays off.
    ``tokenizer`` is the digest of the tokenizer whose ids it reads; empty where it is not known.
    """

    compute: torch.dtype = torch.float32
    activation_checkpointing: bool = False
    flexible: bool | None = None
    tokenizer: str = ""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape, index) for index in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.norm_eps)
        self.lm_head = Linear(shape.width, shape.vocabulary)
        if shape.tied:
            self.lm_head.weight = self.embed_tokens.weight
        self.value_embeddings = None
        if shape.extras.value_embeddings:
            self.value_embeddings = nn.Embedding(
                shape.vocabulary, shape.kv_heads * shape.head_width
            )
        self._routings = _Routings()
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        """Normal(0, 0.02); layers that write to the residual stream scaled by 1/sqrt(2 layers)."""
        narrow = 0.02 * (2 * self.shape.layers) ** -0.5
        if isinstance(module, nn.Embedding | nn.Linear | Router):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, Attention):
            nn.init.normal_(module.o_proj.weight, std=narrow)
        elif isinstance(module, MLP):
            nn.init.normal_(module.down_proj.weight, std=narrow)
        elif isinstance(module, ExpertStack):
            nn.init.normal_(module.gate_up_proj, std=0.02)
            nn.init.normal_(module.down_proj, std=narrow)

    def hidden(
        self,
        ids_bt: Tensor,
        *,
        positions_bt: Tensor | None = None,
        mask: Tensor | None = None,
        documents_bt: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Final hidden states [b, t, c].

        Args:
            ids_bt: token ids.
            positions_bt: rotary positions; 0, 1, 2 ... behind the cache's length by default.
            mask: bool, [b or 1, 1, t, s], True where a query may look; None is causal. A window
                narrows it.
            documents_bt: numbers of the documents of packed sequences, in place of a mask: a
                query looks back within its own. Not with a cache.
            cache: extended in place by the new positions.

        Raises:
            ValueError: both a mask and documents, or documents with a cache.
        """
        if documents_bt is not None and (mask is not None or cache is not None):
            raise ValueError("documents stand in place of a mask, for whole sequences")
        past = cache.length if cache is not None else 0
        if positions_bt is None:
            steps = torch.arange(past, past + ids_bt.shape[1], device=ids_bt.device)
            positions_bt = steps.expand_as(ids_bt)
        x_btc = self.embed_tokens(ids_bt).to(self.compute)
        if self.shape.extras.embedding_scale != 1.0:
            x_btc = x_btc * self.shape.extras.embedding_scale
        context = self._context(ids_bt, positions_bt, mask, documents_bt, cache, x_btc)
        again = self.activation_checkpointing and torch.is_grad_enabled() and cache is None
        for layer in self.layers:
            if again:
                x_btc = checkpoint(layer, x_btc, context, use_reentrant=False)
            else:
                x_btc = layer(x_btc, context)
        self._keep_routings(context.routings.made[: len(self.layers)])
        if cache is not None:
            cache.length += ids_bt.shape[1]
        out: Tensor = self.norm(x_btc, context.fast)
        return out

    def _context(
        self,
        ids_bt: Tensor,
        positions_bt: Tensor,
        mask: Tensor | None,
        documents_bt: Tensor | None,
        cache: Cache | None,
        like: Tensor,
    ) -> AttentionContext:
        device, shape = ids_bt.device, self.shape
        batch, new = ids_bt.shape
        whole = cache is None
        fast = like.dtype == torch.bfloat16 and whole and device.type == "cpu"
        windows = (None, shape.window)
        flexible = self.flexible
        if flexible is None:
            flexible = whole and block_masks.pays_off(device, like.dtype, new, shape.head_width)
        if whole and mask is None and flexible:
            full, near = (visible_blocks(documents_bt, (batch, new), w, device) for w in windows)
        else:
            if documents_bt is not None:
                mask = document_mask(documents_bt)
            past = cache.length if cache is not None else 0
            full, near = (visible_keys(mask, new, past, w, device) for w in windows)
        if fast and new <= FUSED_POSITIONS and shape.extras.attention_cap is None:
            full, near = (_with_bias(visible, new, like) for visible in (full, near))
        values = None
        if self.value_embeddings is not None:
            table = self.value_embeddings(ids_bt).to(self.compute)
            values = table.view(batch, new, shape.kv_heads, shape.head_width).transpose(1, 2)
        return AttentionContext(rotary_angles(shape, positions_bt), full, near, cache, fast, values)

    def _keep_routings(self, routings: list[Routing]) -> None:
        """Keep the routers' decisions in training, for ``balance_loss``."""
        self._routings.clear()
        if self.training and torch.is_grad_enabled():
            self._routings.extend(routings)

    def loss(
        self, hidden_btc: Tensor, targets_bt: Tensor, share_bt: Tensor, *, sparse: bool = False
    ) -> Tensor:
        """sum(share * -log p(target)), in chunks of logits; ``share`` 0 excludes a target.

        float32 hidden states give the plain, exact cross entropy. In training a mixture of experts
        adds its ``balance_loss``.

        Args:
            hidden_btc: final hidden states.
            targets_bt: the next token of each.
            share_bt: weight of each target.
            sparse: compute no logits where the share is 0: quicker where most shares are.
        """
        balance = self.balance_loss(share_bt) if self._routings else None
        if sparse:
            rows = share_bt.nonzero(as_tuple=True)
            hidden_btc, targets_bt, share_bt = (
                part[rows][None] for part in (hidden_btc, targets_bt, share_bt)
            )
        if hidden_btc.dtype == torch.float32 or self.shape.extras.logit_cap is not None:
            logits = self.logits(hidden_btc).flatten(0, 1).float()
            losses = F.cross_entropy(logits, targets_bt.flatten(), reduction="none")
            total = (losses * share_bt.flatten()).sum()
        else:
            total = fused_autograd.linear_cross_entropy(
                self._scaled(hidden_btc).flatten(0, 1),
                self.lm_head.weight,
                targets_bt.flatten(),
                share_bt.flatten(),
            )
        return total if balance is None else total + balance

    def balance_loss(self, share_bt: Tensor) -> Tensor:
        """Coefficient times the layers' mean auxiliary loss of the last ``hidden`` in training.

        Summed over the rows by their share, so splitting a batch differently changes nothing. With
        ``balance: bias`` it is 0, and the loads of positions with a share are counted for
        ``rebalance``.
        """
        routings, experts = list(self._routings), self.shape.experts
        self._routings.clear()
        if experts is None or not routings:
            return share_bt.new_zeros(())
        if experts.balance == "bias":
            for routing in routings:
                routing.router.add_counts(routing.count_real(share_bt > 0))
            return share_bt.new_zeros(())
        losses = [routing.balance_loss(share_bt) for routing in routings]
        return experts.coefficient * torch.stack(losses).mean()

    def rebalance(self, moved: bool = True) -> None:
        """Update the biases of ``balance: bias`` by the loads of the step; call it after each.

        A step that did not move the weights leaves them, and its loads are dropped. A decoder
        without such biases is left as it is.
        """
        for module in self.modules():
            if isinstance(module, Router):
                module.rebalance(moved)

    def logits(self, hidden_btc: Tensor) -> Tensor:
        """Logits [b, t, v] of hidden states."""
        out: Tensor = self.lm_head(self._scaled(hidden_btc))
        return soft_cap(out, self.shape.extras.logit_cap)

    def _scaled(self, hidden_btc: Tensor) -> Tensor:
        scale = self.shape.extras.output_scale
        return hidden_btc if scale == 1.0 else hidden_btc * scale

    def forward(self, ids_bt: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [b, t, v] of whole sequences, causal."""
        return self.logits(self.hidden(ids_bt, mask=mask))


def _with_bias(visible: VisibleKeys, length: int, like: Tensor) -> VisibleKeys:
    """Additive bias in place of a mask, for the fused passes."""
    if visible.blocks is not None:
        return visible
    return VisibleKeys(bias=fused_autograd.mask_bias(visible.mask, length, like))
