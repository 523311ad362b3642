"""Tensor parallelism: heads and hidden units shared out over ranks that see the same rows.

Projections into heads and hidden units are cut by rows (column-parallel), those out of them by
columns (row-parallel), so a layer needs two sums over the ranks (Megatron-LM, arXiv:1909.08053).
Embeddings, head and norms are the same on all of them.
"""

from __future__ import annotations

import dataclasses

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from models.decoder import Attention, Decoder

INTO = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
OUT = ("self_attn.o_proj", "mlp.down_proj")
PARTIAL = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
"""Parameters that all ranks hold but that each uses for its own heads: their gradients add up."""


def split_layers(model: Decoder, mesh: DeviceMesh) -> None:
    """Cut the layers over ``mesh``, in place; the ranks must divide heads and hidden units."""
    ranks = mesh.size()
    for layer in model.layers:
        into = {name: ColwiseParallel() for name in INTO if _has(layer, name)}
        out = {name: RowwiseParallel() for name in OUT if _has(layer, name)}
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
