"""Expert parallelism: each rank of a group holds some experts of every layer and gets their tokens.

Tokens travel to the ranks that hold their experts and back, in two all-to-all exchanges a layer
(GShard, arXiv:2006.16668). Routers, attention and embeddings see only the rank's own rows, and no
token is dropped, so the result is that of one process.

Shapes in names: n own tokens, m arrived tokens, c model width, e experts, l experts of this rank,
r ranks of the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from models.decoder import Decoder
from models.moe import ExpertStack, expert_mlp


def split_experts(model: Decoder, mesh: DeviceMesh) -> list[ExpertStack]:
    """Keep this rank's experts alone, in place; ``mesh`` must divide their number."""
    stacks = [module for module in model.modules() if isinstance(module, ExpertStack)]
    rank, ranks = mesh.get_local_rank(), mesh.size()
    for stack in stacks:
        for name, parameter in list(stack.named_parameters()):
            own = parameter.detach().chunk(ranks)[rank].clone()
            spread = DTensor.from_local(own, mesh, [Shard(0)], run_check=False)
            stack.register_parameter(name, nn.Parameter(spread))
        stack.forward = _ExpertDispatch(stack, mesh.get_group())  # type: ignore[method-assign]
    return stacks


class _ExpertDispatch:
    """Forward pass of an expert stack of which this rank holds a part."""

    def __init__(self, stack: ExpertStack, group: dist.ProcessGroup) -> None:
        self._stack, self._group = stack, group

    def __call__(self, x_nc: Tensor, counts_e: Tensor) -> Tensor:
        sent_rl = counts_e.view(self._group.size(), -1)
        arrived_rl = torch.empty_like(sent_rl)
        dist.all_to_all_single(arrived_rl, sent_rl.contiguous(), group=self._group)
        sent_counts, arrived_counts = sent_rl.sum(1).tolist(), arrived_rl.sum(1).tolist()
        x_mc = _exchange(x_nc, sent_counts, arrived_counts, self._group)
        # Tokens arrive by rank, and within each by expert: sort them by expert over all ranks.
        experts_l = torch.arange(arrived_rl.shape[1], device=arrived_rl.device)
        order = (
            experts_l.repeat(len(arrived_counts))
            .repeat_interleave(arrived_rl.flatten())
            .argsort(stable=True)
        )
        up, down = _local(self._stack.gate_up_proj), _local(self._stack.down_proj)
        y_mc = expert_mlp(x_mc[order], up, down, arrived_rl.sum(0), self._stack.activation)
        back_mc = torch.empty_like(y_mc).index_copy(0, order, y_mc)
        return _exchange(back_mc, arrived_counts, sent_counts, self._group)


def _local(parameter: Tensor) -> Tensor:
    assert isinstance(parameter, DTensor)
    return parameter.to_local()


def _exchange(
    x_nc: Tensor, sent: Sequence[int], arriving: Sequence[int], group: dist.ProcessGroup
) -> Tensor:
    """Send ``sent`` rows to each rank, receive ``arriving`` from each: [sum(arriving), c]."""
    out: Tensor = _Exchange.apply(x_nc, sent, arriving, group)  # type: ignore[no-untyped-call]
    return out


class _Exchange(torch.autograd.Function):
    """Exchange of rows between ranks; gradients travel back the same way."""

    @staticmethod
    def forward(
        ctx: Any,
        x_nc: Tensor,
        sent: Sequence[int],
        arriving: Sequence[int],
        group: dist.ProcessGroup,
    ) -> Tensor:
        ctx.way = (list(arriving), list(sent), group)
        return _all_to_all_rows(x_nc, list(sent), list(arriving), group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _all_to_all_rows(gradient, *ctx.way), None, None, None


def _all_to_all_rows(
    x_nc: Tensor, sent: list[int], arriving: list[int], group: dist.ProcessGroup
) -> Tensor:
    arrived = x_nc.new_empty(sum(arriving), *x_nc.shape[1:])
    dist.all_to_all_single(arrived, x_nc.contiguous(), arriving, sent, group=group)
    return arrived
