"""Process groups of a multi-process training, and its collectives.

Weights lie in shards (FSDP2), layers are split over heads and hidden units (tensor parallel,
arXiv:1909.08053), rows over positions (``components/train/distributed/context_parallel.py``),
experts over ranks (``components/train/distributed/expert_parallel.py``). A step's loss is a sum
over all targets of all ranks, so gradients are summed, never averaged, and splitting a step
differently changes rounding alone.

NCCL moves tensors of GPUs and gloo those of processors; control messages go over gloo.
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
from components.train.distributed.context_parallel import split_sequence
from components.train.distributed.expert_parallel import split_experts
from components.train.distributed.parallel_config import ParallelConfig
from components.train.distributed.shard_layout import gather_boxes, gather_whole
from components.train.distributed.sharded_optimizer import ShardedOptimiser
from components.train.distributed.sharded_states import ShardedStates
from components.train.distributed.single_process import Collectives, StateStore
from components.train.distributed.tensor_parallel import split_layers
from components.train.trainer.optimizer import Optimiser
from components.train.training_config import OptimConfig
from models.decoder import Decoder

M = TypeVar("M")
T = TypeVar("T")


def join_ranks(
    parallel: ParallelConfig,
    device: torch.device,
    *,
    rank: int | None = None,
    store: TCPStore | None = None,
) -> ProcessGroups:
    """Initialise the process groups; all ranks call this together.

    Args:
        parallel: the grid of ranks.
        device: device of this rank.
        rank: number of this rank, with ``store``.
        store: where spawned ranks meet; None takes torchrun's environment, or the group that Ray
            Train has made already.

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
    return ProcessGroups(parallel, device)


class ProcessGroups(Collectives):
    """Collectives and process groups of one rank of a multi-process training."""

    def __init__(self, parallel: ParallelConfig, device: torch.device) -> None:
        self.rank, self.world, self.device = dist.get_rank(), dist.get_world_size(), device
        self.parallel = parallel
        grid = torch.arange(self.world).view(parallel.data, parallel.context, parallel.tensor)
        self.data_rank, self.context_rank, _ = (grid == self.rank).nonzero()[0].tolist()
        self.data_world = parallel.data
        # The ranks that share out the experts also hold the other weights in shards, so the mesh
        # of the shards is that of all of them: ``expert`` divides data x context.
        sizes = (parallel.data * parallel.context // parallel.expert, parallel.expert)
        names = ("shard", "expert", "tensor")
        self.mesh = init_device_mesh(device.type, (*sizes, parallel.tensor), mesh_dim_names=names)
        self.shard_mesh = self.mesh["shard"]
        if parallel.expert > 1:
            self.shard_mesh = self.mesh["shard", "expert"]._flatten("shards")
        self.control_group = dist.new_group(backend="gloo")
        """Control messages of the main thread."""
        self.state_group = dist.new_group(backend="gloo")
        """Messages of the background thread that writes states."""
        self.data_group = _subgroup(grid.movedim(0, -1).reshape(-1, parallel.data), "gloo")
        self.targets_group = _subgroup(grid.flatten(0, 1).T.contiguous(), "gloo")
        self.context_group = _subgroup(grid.movedim(1, -1).reshape(-1, parallel.context), None)

    def leave_ranks(self) -> None:
        """Wait for all ranks, then destroy the process groups."""
        dist.barrier(self.control_group)
        dist.destroy_process_group()

    def even_micro_batches(self, micro_batches: Sequence[M]) -> Iterator[tuple[M, bool]]:
        """Pad to the largest number of passes: each gathers weights from all ranks."""
        passes = torch.tensor(len(micro_batches))
        dist.all_reduce(passes, dist.ReduceOp.MAX, self.control_group)
        for index in range(int(passes)):
            counts = index < len(micro_batches)
            yield micro_batches[index if counts else 0], counts

    def sum_targets(self, own: float) -> float:
        return _sum(own, self.data_group)

    def sum_losses(self, own: float) -> float:
        return _sum(own, self.targets_group)

    def broadcast(self, value: T) -> T:
        objects: list[Any] = [value]
        dist.broadcast_object_list(objects, 0, self.control_group)
        agreed: T = objects[0]
        return agreed

    def shard_model(self, model: Decoder) -> Decoder:
        model.to(self.device)
        if self.parallel.tensor > 1:
            split_layers(model, self.mesh["tensor"])
        if self.parallel.expert > 1:
            for stack in split_experts(model, self.mesh["expert"]):
                fully_shard(stack, mesh=self.mesh["shard"], shard_placement_fn=lambda _: Shard(1))
        # Parameters without a gradient, as router biases, are updated by every rank alike.
        without_gradient = {p for p in model.parameters() if not p.requires_grad}
        for layer in model.layers:
            fully_shard(layer, mesh=self.shard_mesh, ignored_params=without_gradient)
        # Embeddings and head stay whole between ``hidden`` and ``loss``, which both need them.
        fully_shard(
            model,
            mesh=self.shard_mesh,
            reshard_after_forward=False,
            ignored_params=without_gradient,
        )
        register_fsdp_forward_method(model, "hidden")
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)  # gloo has no other reduction
        if self.parallel.context > 1:
            split_sequence(model, self.context_group, self.context_rank, self.parallel.context)
        return model

    def copy_model(self, model: Decoder) -> Decoder:
        """A model with initial weights: shards cannot be copied, and a step costs the same."""
        with torch.random.fork_rng(devices=[]):
            copy = Decoder(model.shape)
        copy.compute, copy.activation_checkpointing = model.compute, model.activation_checkpointing
        return self.shard_model(copy)

    def make_optimiser(self, modules: nn.Module, config: OptimConfig) -> Optimiser:
        return ShardedOptimiser(modules, config, self.mesh)

    def open_states(self, folder: Path, keep: int, modules: nn.Module) -> StateStore:
        """Open sharded states in the folder of rank 0.

        Args:
            folder: folder of the states; that of rank 0 counts.
            keep: number of states that stay.
            modules: modules whose parameters the states hold.
        """
        shared = self.broadcast(folder)
        return ShardedStates(shared, keep, modules, self.state_group)

    @torch.no_grad()
    def save_model(self, folder: Path, model: Decoder) -> None:
        """Gather the weights tensor by tensor; rank 0 writes them."""
        with torch.random.fork_rng(devices=[]):
            whole = Decoder(model.shape) if self.rank == 0 else None
        into = dict(whole.named_parameters()) if whole is not None else {}
        parameters = dict(model.named_parameters())
        spread = {n: p for n, p in parameters.items() if isinstance(p, DTensor)}
        boxes = gather_boxes(spread)
        for name, parameter in parameters.items():
            weight = gather_whole(spread[name], boxes[name]) if name in spread else parameter
            if weight is not None and name in into:
                into[name].copy_(weight)
        if whole is not None:
            whole.tokenizer = model.tokenizer
            save_model(folder, whole)


def _subgroup(members: Tensor, backend: str | None) -> dist.ProcessGroup:
    """This rank's group of a partition [groups, members] that every rank makes identically."""
    enumerated: Any = dist.new_subgroups_by_enumeration
    group, _ = enumerated(members.tolist(), backend=backend)
    assert isinstance(group, dist.ProcessGroup)
    return group


def _sum(own: float, group: dist.ProcessGroup) -> float:
    total = torch.tensor(own, dtype=torch.float64)
    dist.all_reduce(total, group=group)
    return float(total)
