"""Where the shards of a parameter lie in the whole, and how ranks hand one another pieces of it.

FSDP and tensor parallelism cut a parameter into boxes, one a rank; ranks that hold the same box
hold equal numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

Box = tuple[slice, ...]


def box_of(parameter: DTensor) -> Box:
    """Which part of the whole this rank holds."""
    size, start = compute_local_shape_and_global_offset(
        parameter.shape, parameter.device_mesh, parameter.placements
    )
    return tuple(slice(at, at + length) for at, length in zip(start, size, strict=True))


def boxes_of(parameters: Mapping[str, DTensor]) -> dict[str, list[Box]]:
    """Which part of each parameter every rank holds; all ranks ask together."""
    own = {name: box_of(parameter) for name, parameter in parameters.items()}
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, own)
    return {name: [boxes[name] for boxes in gathered] for name in own}


def extent(box: Box) -> torch.Size:
    """The shape of a box."""
    return torch.Size(part.stop - part.start for part in box)


def spread_like(parameter: DTensor, local: Tensor) -> DTensor:
    """A local shard as part of a tensor that lies as ``parameter`` does."""
    return DTensor.from_local(
        local,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def swap(
    sent: Sequence[Sequence[Tensor]], sizes: Sequence[Sequence[torch.Size]], like: Tensor
) -> list[list[Tensor]]:
    """[to rank] -> pieces; back come pieces of ``sizes`` [from rank], in the dtype of ``like``."""
    flat = [torch.cat([like.new_empty(0), *(piece.flatten() for piece in some)]) for some in sent]
    counts = [[size.numel() for size in some] for some in sizes]
    arrived = like.new_empty(sum(map(sum, counts)))
    incoming, outgoing = [sum(some) for some in counts], [len(part) for part in flat]
    dist.all_to_all_single(arrived, torch.cat(flat), incoming, outgoing)
    return [
        [piece.view(size) for piece, size in zip(torch.split(part, count), some, strict=True)]
        for part, count, some in zip(torch.split(arrived, incoming), counts, sizes, strict=True)
    ]


def gathered_whole(parameter: DTensor, boxes: Sequence[Box]) -> Tensor | None:
    """The whole on the first rank, None on the others; all ranks call this together."""
    local = parameter.to_local().detach()
    first = dist.get_rank() == 0
    sent = [[local] if other == 0 else [] for other in range(len(boxes))]
    pieces = swap(sent, [[extent(box)] if first else [] for box in boxes], local)
    if not first:
        return None
    whole = local.new_empty(parameter.shape)
    for box, (piece,) in zip(boxes, pieces, strict=True):
        whole[box] = piece
    return whole
