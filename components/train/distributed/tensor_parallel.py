"""Tensor parallelism: heads and hidden units split over ranks that see the same rows.

Projections into heads and hidden units are column-parallel, those out of them row-parallel, so a
layer needs two sums over the ranks (Megatron-LM, arXiv:1909.08053). Embeddings, head and norms are
replicated.
"""

from __future__ import annotations

import dataclasses

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from models.decoder import Attention, Decoder

COLUMN_PARALLEL = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
)
ROW_PARALLEL = ("self_attn.o_proj", "mlp.down_proj")
PARTIAL_GRADIENTS = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
"""Replicated parameters that each rank uses for its own heads only: their gradients are summed."""


def split_layers(model: Decoder, mesh: DeviceMesh) -> None:
    """Split the layers over ``mesh``, in place; its size must divide heads and hidden units."""
    ranks = mesh.size()
    for layer in model.layers:
        into = {name: ColwiseParallel() for name in COLUMN_PARALLEL if _has(layer, name)}
        out = {name: RowwiseParallel() for name in ROW_PARALLEL if _has(layer, name)}
        parallelize_module(layer, mesh, {**into, **out})
    for module in model.modules():
        if isinstance(module, Attention):
            shape = module.shape
            module.shape = dataclasses.replace(
                shape, heads=shape.heads // ranks, kv_heads=shape.kv_heads // ranks
            )


def _has(layer: object, name: str) -> bool:
    for part in name.split("."):
        layer = getattr(layer, part, None)
    return layer is not None
