"""Optimiser over sharded parameters: each rank updates its shards; Muon gathers whole matrices.

AdamW is elementwise, so it takes the local shards as they are. For Muon each matrix has an owner,
to which all ranks send their shards of its momentum; the owner orthogonalises it and sends the
pieces back, so this work is distributed too (as in Dion's and Moonlight's distributed Muon,
arXiv:2502.16982).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from components.train.distributed.shard_layout import (
    as_dtensor,
    box_shape,
    exchange_pieces,
    gather_boxes,
)
from components.train.distributed.tensor_parallel import PARTIAL_GRADIENTS
from components.train.trainer.optimizer import Optimiser
from components.train.training_config import OptimConfig

_EPS = 1e-6
"""As in torch's ``clip_grad_norm_``."""


class ShardedOptimiser(Optimiser):
    """``Optimiser`` for a model whose parameters are DTensors on ``mesh`` (shard, tensor)."""

    def __init__(self, model: nn.Module, config: OptimConfig, mesh: DeviceMesh) -> None:
        self._mesh = mesh
        super().__init__(model, config)
        self._boxes = gather_boxes({n: self._spread[n] for n in self._muon})
        self._owners = {name: at % dist.get_world_size() for at, name in enumerate(self._muon)}

    def _own_parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        self._spread: dict[str, DTensor] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                assert isinstance(parameter, DTensor)
                self._spread[name] = parameter
        return {n: nn.Parameter(p.to_local().detach()) for n, p in self._spread.items()}

    def zero_grad(self) -> None:
        super().zero_grad()
        for parameter in self._spread.values():
            parameter.grad = None

    @torch.no_grad()
    def clip(self) -> float:
        """As ``Optimiser.clip``, over the shards of all ranks; must be called before ``step``."""
        for name, parameter in self._spread.items():
            gradient = parameter.grad
            assert gradient is None or isinstance(gradient, DTensor)
            self._named[name].grad = None if gradient is None else gradient.to_local()
        self._sum_partial_gradients()
        norm = self._norm()
        scale = min(1.0, self.config.clip / (norm + _EPS))
        gradients = [p.grad for p in self._named.values() if p.grad is not None]
        torch._foreach_mul_(gradients, scale)
        return norm

    def _sum_partial_gradients(self) -> None:
        """Sum the gradients that tensor ranks have for their own heads; average other copies."""
        ranks = self._mesh["tensor"].size()
        if ranks == 1:
            return
        group = self._mesh.get_group("tensor")
        for name, parameter in self._named.items():
            if parameter.grad is None or self._is_tensor_split(name):
                continue
            dist.all_reduce(parameter.grad, group=group)
            if not name.endswith(PARTIAL_GRADIENTS):
                parameter.grad /= ranks

    def _is_tensor_split(self, name: str) -> bool:
        """True where tensor ranks hold different parts of the parameter."""
        names = self._spread[name].device_mesh.mesh_dim_names
        return names is not None and "tensor" in names

    def _norm(self) -> float:
        """Norm of the whole gradient, every element counted once."""
        device = self._mesh.device_type
        total = torch.zeros((), dtype=torch.float64, device=device)
        copies = self._mesh["tensor"].size()
        for name, parameter in self._named.items():
            if parameter.grad is not None:
                square = torch.linalg.vector_norm(parameter.grad).double().square()
                total += square / (1 if self._is_tensor_split(name) else copies)
        dist.all_reduce(total)
        return float(total.sqrt())

    def _shape(self, name: str) -> torch.Size:
        return self._spread[name].shape

    def _orthogonal_updates(self, names: list[str], moved: list[Tensor]) -> list[Tensor]:
        """Send momenta to the owners, orthogonalise, and send the pieces back."""
        rank, world = dist.get_rank(), dist.get_world_size()
        mine = [name for name in names if self._owners[name] == rank]
        away = [[n for n in names if self._owners[n] == other] for other in range(world)]
        local = dict(zip(names, moved, strict=True))
        sent = [[local[name] for name in some] for some in away]
        boxes = [[self._boxes[name][source] for name in mine] for source in range(world)]
        arrived = exchange_pieces(
            sent, [[box_shape(box) for box in some] for some in boxes], moved[0]
        )
        whole_nrc = moved[0].new_zeros(len(mine), *self._shape(names[0]))
        for some, pieces in zip(boxes, arrived, strict=True):
            for at, (box, piece) in enumerate(zip(some, pieces, strict=True)):
                whole_nrc[at][box] = piece
        turned_nrc = self._orthogonalise_stack(whole_nrc)
        back = [[turned_nrc[at][box] for at, box in enumerate(some)] for some in boxes]
        sizes = [[local[name].shape for name in some] for some in away]
        returned = exchange_pieces(back, sizes, turned_nrc)
        directions = {
            name: piece.to(moved[0].dtype)
            for some, pieces in zip(away, returned, strict=True)
            for name, piece in zip(some, pieces, strict=True)
        }
        return [directions[name] for name in names]

    def tensors(self) -> dict[str, Tensor]:
        """As ``Optimiser.tensors``; tensors sharded like their parameter are DTensors."""
        return {key: self._as_sharded(key, tensor) for key, tensor in super().tensors().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        local = {k: t.to_local() if isinstance(t, DTensor) else t for k, t in tensors.items()}
        super().load(local)

    def _as_sharded(self, key: str, tensor: Tensor) -> Tensor:
        name = key.partition("/")[2].partition("/")[0]
        parameter = self._spread[name]
        if tensor.shape != parameter.to_local().shape:
            return tensor
        return as_dtensor(parameter, tensor)
