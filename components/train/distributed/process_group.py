"""Many processes that train one model: which rows each takes, what they sum, what they agree on.

Weights lie in shards (FSDP2), layers are split over heads and hidden units (tensor parallel,
arXiv:1909.08053), rows over positions (``components/train/distributed/context_parallel.py``),
experts over ranks (``components/train/distributed/expert_parallel.py``). A step's loss is a sum
over all targets of all ranks, so gradients are summed, never averaged, and cutting a step otherwise
changes rounding alone.

NCCL moves tensors of GPUs and gloo those of processors; what ranks agree on goes over gloo.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import TCPStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Shard

from components.core.errors import ConfigError
from components.text.decoder_files import save_model
from components.train.distributed.context_parallel import split_positions
from components.train.distributed.expert_parallel import split_experts
from components.train.distributed.parallel_config import ParallelConfig
from components.train.distributed.shard_layout import boxes_of, gathered_whole
from components.train.distributed.sharded_optimizer import ShardedOptimiser
from components.train.distributed.sharded_states import ShardedStates
from components.train.distributed.single_process import Ranks, States
from components.train.distributed.tensor_parallel import split_layers
from components.train.trainer.optimizer import Optimiser
from components.train.training_config import OptimConfig
from models.decoder import Decoder

M = TypeVar("M")
T = TypeVar("T")


def join(
    parallel: ParallelConfig,
    device: torch.device,
    *,
    rank: int | None = None,
    store: TCPStore | None = None,
) -> Company:
    """Meet the other ranks, which all call this: at ``store``, else where torchrun says.

    Ray Train has brought them together already.

    Raises:
        ConfigError: as many ranks as ``parallel`` asks for were not started.
    """
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    wait = timedelta(seconds=parallel.timeout)
    if store is None and not dist.is_initialized():
        dist.init_process_group(backend, timeout=wait)
    elif store is not None:
        assert rank is not None
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=parallel.ranks, timeout=wait
        )
    if dist.get_world_size() != parallel.ranks:
        raise ConfigError(
            f"{dist.get_world_size()} ranks were started, but parallel asks for {parallel.ranks} "
            f"(data {parallel.data} x context {parallel.context} x tensor {parallel.tensor})"
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return Company(parallel, device)


class Company(Ranks):
    """The ranks of one training, seen from one of them."""

    def __init__(self, parallel: ParallelConfig, device: torch.device) -> None:
        self.rank, self.world, self.device = dist.get_rank(), dist.get_world_size(), device
        self.parallel = parallel
        grid = torch.arange(self.world).view(parallel.data, parallel.context, parallel.tensor)
        self.data_rank, self.context_rank, _ = (grid == self.rank).nonzero()[0].tolist()
        self.data_world = parallel.data
        # Experts are shared out over ranks that hold other weights in shards, all of them, with
        # their neighbours: ``expert`` divides data x context.
        sizes = (parallel.data * parallel.context // parallel.expert, parallel.expert)
        names = ("shard", "expert", "tensor")
        self.mesh = init_device_mesh(device.type, (*sizes, parallel.tensor), mesh_dim_names=names)
        self.shards = self.mesh["shard"]
        if parallel.expert > 1:
            self.shards = self.mesh["shard", "expert"]._flatten("shards")
        self.everyone = dist.new_group(backend="gloo")
        """Control alone. ``background`` is for what is written beside the training."""
        self.background = dist.new_group(backend="gloo")
        self.rows = _subgroup(grid.movedim(0, -1).reshape(-1, parallel.data), "gloo")
        self.targets_group = _subgroup(grid.flatten(0, 1).T.contiguous(), "gloo")
        self.context = _subgroup(grid.movedim(1, -1).reshape(-1, parallel.context), None)

    def leave(self) -> None:
        """Part from the others, when all have come so far."""
        dist.barrier(self.everyone)
        dist.destroy_process_group()

    def evenly(self, micro_batches: Sequence[M]) -> Iterator[tuple[M, bool]]:
        """Every pass gathers weights from all ranks, so each must make as many of them."""
        most = torch.tensor(len(micro_batches))
        dist.all_reduce(most, dist.ReduceOp.MAX, self.everyone)
        for index in range(int(most)):
            counts = index < len(micro_batches)
            yield micro_batches[index if counts else 0], counts

    def targets(self, own: float) -> float:
        return _sum(own, self.rows)

    def loss(self, own: float) -> float:
        return _sum(own, self.targets_group)

    def agreed(self, value: T) -> T:
        held: list[Any] = [value]
        dist.broadcast_object_list(held, 0, self.everyone)
        agreed: T = held[0]
        return agreed

    def shard(self, model: Decoder) -> Decoder:
        model.to(self.device)
        if self.parallel.tensor > 1:
            split_layers(model, self.mesh["tensor"])
        if self.parallel.expert > 1:
            for stack in split_experts(model, self.mesh["expert"]):
                fully_shard(stack, mesh=self.mesh["shard"], shard_placement_fn=lambda _: Shard(1))
        # What takes no gradient, as the biases of balanced experts, every rank moves alike.
        still = {p for p in model.parameters() if not p.requires_grad}
        for layer in model.layers:
            fully_shard(layer, mesh=self.shards, ignored_params=still)
        # Embeddings and head stay whole between ``hidden`` and ``loss``, which both need them.
        fully_shard(model, mesh=self.shards, reshard_after_forward=False, ignored_params=still)
        register_fsdp_forward_method(model, "hidden")
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)  # gloo can do no other
        if self.parallel.context > 1:
            split_positions(model, self.context, self.context_rank, self.parallel.context)
        return model

    def copied(self, model: Decoder) -> Decoder:
        """One of first weights: shards cannot be copied, and a step costs the same with any."""
        with torch.random.fork_rng(devices=[]):
            made = Decoder(model.shape)
        made.compute, made.recompute = model.compute, model.recompute
        return self.shard(made)

    def optimiser(self, modules: nn.Module, config: OptimConfig) -> Optimiser:
        return ShardedOptimiser(modules, config, self.mesh)

    def states(self, folder: Path, keep: int, modules: nn.Module) -> States:
        shared = self.agreed(folder)
        return ShardedStates(shared, keep, modules, self.background)

    @torch.no_grad()
    def save(self, folder: Path, model: Decoder) -> None:
        """The first rank writes what all bring together, tensor by tensor."""
        with torch.random.fork_rng(devices=[]):
            whole = Decoder(model.shape) if self.rank == 0 else None
        into = dict(whole.named_parameters()) if whole is not None else {}
        parameters = dict(model.named_parameters())
        spread = {n: p for n, p in parameters.items() if isinstance(p, DTensor)}
        boxes = boxes_of(spread)
        for name, parameter in parameters.items():
            found = gathered_whole(spread[name], boxes[name]) if name in spread else parameter
            if found is not None and name in into:
                into[name].copy_(found)
        if whole is not None:
            whole.tokenizer = model.tokenizer
            save_model(folder, whole)


def _subgroup(members: Tensor, backend: str | None) -> dist.ProcessGroup:
    """This rank's group of a partition [groups, members] that every rank makes alike."""
    enumerated: Any = dist.new_subgroups_by_enumeration
    group, _ = enumerated(members.tolist(), backend=backend)
    assert isinstance(group, dist.ProcessGroup)
    return group


def _sum(own: float, group: dist.ProcessGroup) -> float:
    total = torch.tensor(own, dtype=torch.float64)
    dist.all_reduce(total, group=group)
    return float(total)
