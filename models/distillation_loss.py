"""What a student loses to its teacher: logits softened by a temperature, and hidden states.

    (1 - weight) * cross entropy + weight * T^2 * KL(teacher / T || student / T)

Sources: Hinton et al. 2015 (arXiv:1503.02531), whose T^2 keeps the size of the gradient as T
changes; hidden states through a learnt projection as in FitNets (1412.6550), layers paired evenly
as in TinyBERT (1909.10351).

Shapes in names: b batch, t positions, n positions of all rows, c model width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.decoder import Decoder, Linear

CHUNK_LOGITS = 1024 * 1024
"""Logits of each model held at once: 4 MB in float32, with a few tensors of that size beside."""
_Part = Callable[[Tensor, slice], Tensor]


def softened_loss(
    student_nv: Tensor, teacher_nv: Tensor, targets_n: Tensor, temperature: float, weight: float
) -> Tensor:
    """The loss of each position, [n], in float32 at least."""
    wide = torch.promote_types(student_nv.dtype, torch.float32)
    student_nv, teacher_nv = student_nv.to(wide), teacher_nv.to(wide)
    hard_n = F.cross_entropy(student_nv, targets_n, reduction="none")
    log_p = (teacher_nv / temperature).log_softmax(-1)
    log_q = (student_nv / temperature).log_softmax(-1)
    soft_n = (log_p.exp() * (log_p - log_q)).sum(-1) * temperature**2
    return (1.0 - weight) * hard_n + weight * soft_n


def logit_loss(
    student: Decoder,
    teacher: Decoder,
    hidden: tuple[Tensor, Tensor],
    targets_bt: Tensor,
    share_bt: Tensor,
    *,
    temperature: float,
    weight: float,
) -> Tensor:
    """sum(share * loss) over all positions, never holding the logits of more than a chunk.

    Args:
        hidden: final hidden states [b, t, c] of student and teacher, each of its own width.
        share_bt: each position's weight in the sum.
    """
    own_nc, told_nc = (one.flatten(0, 1) for one in hidden)
    targets_n, share_n = targets_bt.flatten(), share_bt.flatten()

    def loss_of(part_nc: Tensor, part: slice) -> Tensor:
        with torch.no_grad():
            teacher_nv = teacher.logits(told_nc[part])
        losses = softened_loss(
            student.logits(part_nc), teacher_nv, targets_n[part], temperature, weight
        )
        return (losses * share_n[part]).sum()

    head = [parameter for parameter in student.lm_head.parameters() if parameter.requires_grad]
    rows = max(1, CHUNK_LOGITS // student.shape.vocabulary)
    out: Tensor = _Chunked.apply(loss_of, rows, own_nc, *head)  # type: ignore[no-untyped-call]
    return out


class _Chunked(torch.autograd.Function):
    """A sum over rows, its gradient made on the way forward, chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, loss_of: _Part, rows: int, x_nc: Tensor, *head: Tensor) -> Tensor:
        g_x, g_head = torch.empty_like(x_nc), [torch.zeros_like(p) for p in head]
        total = torch.zeros((), dtype=torch.float64, device=x_nc.device)
        for start in range(0, len(x_nc), rows):
            part = slice(start, start + rows)
            with torch.enable_grad():
                leaf = x_nc[part].detach().requires_grad_()
                loss = loss_of(leaf, part)
                found = torch.autograd.grad(loss, (leaf, *head))
            g_x[part] = found[0]
            torch._foreach_add_(g_head, list(found[1:])) if head else None
            total += loss.detach()
        ctx.save_for_backward(g_x, *g_head)
        return total.to(loss.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *((one * g).to(one.dtype) for one in ctx.saved_tensors))


def paired_layers(layers: Sequence[int], own: int, others: int) -> dict[int, int]:
    """Layer of a model with ``own`` layers -> the one as deep in a model with ``others``."""
    return {layer: max(0, round((layer + 1) * others / own) - 1) for layer in layers}


@contextmanager
def watching(model: Decoder, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Layer -> what it gives [b, t, c] in the forward passes of the block."""
    seen: dict[int, Tensor] = {}

    def noting(layer: int) -> Callable[..., None]:
        def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
            seen[layer] = output

        return note

    hooks = [model.layers[layer].register_forward_hook(noting(layer)) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


class Projections(nn.Module):
    """A matrix a pair of layers, from the student's width to the teacher's."""

    def __init__(self, pairs: dict[int, int], own: int, others: int) -> None:
        super().__init__()
        self.pairs = pairs
        self.matrices = nn.ModuleList(Linear(own, others) for _ in pairs)

    def forward(
        self, own: dict[int, Tensor], others: dict[int, Tensor], share_bt: Tensor
    ) -> Tensor:
        """sum(share * mean square error) of what ``watching`` saw, a mean over the pairs.

        The teacher's states are brought to a root mean square of 1, position by position, so that
        every pair and every teacher weighs alike.
        """
        total = share_bt.new_zeros(())
        for (layer, other), matrix in zip(self.pairs.items(), self.matrices, strict=True):
            wanted = others[other].float()
            wanted = F.rms_norm(wanted, wanted.shape[-1:])
            errors_bt = (matrix(own[layer]).float() - wanted).square().mean(-1)
            total = total + (errors_bt * share_bt).sum()
        return total / max(1, len(self.pairs))
