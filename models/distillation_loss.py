"""Distillation losses: logits softened by a temperature, and hidden states.

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
_PartLoss = Callable[[Tensor, slice], Tensor]


def softened_loss(
    student_nv: Tensor, teacher_nv: Tensor, targets_n: Tensor, temperature: float, weight: float
) -> Tensor:
    """Distillation loss of each position, [n], in float32 at least.

    Args:
        student_nv: logits.
        teacher_nv: logits.
        targets_n: the next token of each.
        temperature: divides both models' logits.
        weight: weight of the teacher's logits; the rest is the plain cross entropy.
    """
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
    """sum(share * loss) over all positions, holding the logits of one chunk at a time.

    Args:
        student: gives logits of its hidden states; its head takes a gradient.
        teacher: gives logits of its own.
        hidden: final hidden states [b, t, c] of student and teacher, each of its own width.
        targets_bt: the next token of each position.
        share_bt: each position's weight in the sum.
        temperature: divides both models' logits.
        weight: weight of the teacher's logits; the rest is the plain cross entropy.
    """
    student_nc, teacher_nc = (states.flatten(0, 1) for states in hidden)
    targets_n, share_n = targets_bt.flatten(), share_bt.flatten()

    def loss_of(part_nc: Tensor, part: slice) -> Tensor:
        with torch.no_grad():
            teacher_nv = teacher.logits(teacher_nc[part])
        losses = softened_loss(
            student.logits(part_nc), teacher_nv, targets_n[part], temperature, weight
        )
        return (losses * share_n[part]).sum()

    head = [parameter for parameter in student.lm_head.parameters() if parameter.requires_grad]
    rows = max(1, CHUNK_LOGITS // student.shape.vocabulary)
    out: Tensor = _Chunked.apply(loss_of, rows, student_nc, *head)  # type: ignore[no-untyped-call]
    return out


class _Chunked(torch.autograd.Function):
    """Sum over rows whose gradient is computed in the forward pass, chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, loss_of: _PartLoss, rows: int, x_nc: Tensor, *head: Tensor) -> Tensor:
        g_x, g_head = torch.empty_like(x_nc), [torch.zeros_like(p) for p in head]
        total = torch.zeros((), dtype=torch.float64, device=x_nc.device)
        for start in range(0, len(x_nc), rows):
            part = slice(start, start + rows)
            with torch.enable_grad():
                leaf = x_nc[part].detach().requires_grad_()
                loss = loss_of(leaf, part)
                gradients = torch.autograd.grad(loss, (leaf, *head))
            g_x[part] = gradients[0]
            torch._foreach_add_(g_head, list(gradients[1:])) if head else None
            total += loss.detach()
        ctx.save_for_backward(g_x, *g_head)
        return total.to(loss.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *((gradient * g).to(gradient.dtype) for gradient in ctx.saved_tensors))


def pair_layers(layers: Sequence[int], student_layers: int, teacher_layers: int) -> dict[int, int]:
    """Pair layers of the student with teacher layers at the same relative depth.

    Args:
        layers: layers of the student, from 0.
        student_layers: number of layers of the student.
        teacher_layers: number of layers of the teacher.

    Returns:
        Student layer -> teacher layer.
    """
    return {
        layer: max(0, round((layer + 1) * teacher_layers / student_layers) - 1) for layer in layers
    }


@contextmanager
def capture_layers(model: Decoder, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Capture the outputs [b, t, c] of layers in the forward passes of the block, by layer."""
    outputs: dict[int, Tensor] = {}

    def noting(layer: int) -> Callable[..., None]:
        def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
            outputs[layer] = output

        return note

    hooks = [model.layers[layer].register_forward_hook(noting(layer)) for layer in layers]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


class Projections(nn.Module):
    """Learnt projections from the student's width to the teacher's, one a pair of layers."""

    def __init__(self, pairs: dict[int, int], student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.pairs = pairs
        self.matrices = nn.ModuleList(Linear(student_width, teacher_width) for _ in pairs)

    def forward(
        self, student_states: dict[int, Tensor], teacher_states: dict[int, Tensor], share_bt: Tensor
    ) -> Tensor:
        """sum(share * mean square error) of the hidden states, averaged over the pairs.

        The teacher's states are scaled to a root mean square of 1, position by position, so that
        every pair and every teacher weighs alike.

        Args:
            student_states: layer -> states, of ``capture_layers``.
            teacher_states: hidden states of the teacher.
            share_bt: each position's weight in the sum.
        """
        total = share_bt.new_zeros(())
        for (layer, other), matrix in zip(self.pairs.items(), self.matrices, strict=True):
            target = teacher_states[other].float()
            target = F.rms_norm(target, target.shape[-1:])
            errors_bt = (matrix(student_states[layer]).float() - target).square().mean(-1)
            total = total + (errors_bt * share_bt).sum()
        return total / max(1, len(self.pairs))
