"""Layout of a parameter's shards, and the exchange of pieces between ranks.

FSDP and tensor parallelism cut a parameter into boxes, one a rank; ranks that hold the same box
hold equal values.
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


def local_box(parameter: DTensor) -> Box:
    """Part of the whole parameter that this rank holds."""
    size, start = compute_local_shape_and_global_offset(
        parameter.shape, parameter.device_mesh, parameter.placements
    )
    return tuple(slice(at, at + length) for at, length in zip(start, size, strict=True))


def gather_boxes(parameters: Mapping[str, DTensor]) -> dict[str, list[Box]]:
    """Parts of each parameter that the ranks hold, by rank; a collective call."""
    own = {name: local_box(parameter) for name, parameter in parameters.items()}
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, own)
    return {name: [boxes[name] for boxes in gathered] for name in own}


def box_shape(box: Box) -> torch.Size:
    """Shape of a box."""
    return torch.Size(part.stop - part.start for part in box)


def as_dtensor(parameter: DTensor, local: Tensor) -> DTensor:
    """Wrap a local shard as a DTensor with the layout of ``parameter``."""
    return DTensor.from_local(
        local,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def exchange_pieces(
    sent: Sequence[Sequence[Tensor]], sizes: Sequence[Sequence[torch.Size]], like: Tensor
) -> list[list[Tensor]]:
    """Exchange pieces between all ranks in one all-to-all; a collective call.

    Args:
        sent: [to rank] -> pieces.
        sizes: [from rank] -> shapes of the pieces that arrive.
        like: a tensor of their dtype and device.

    Returns:
        [from rank] -> pieces.
    """
    flat = [torch.cat([like.new_empty(0), *(piece.flatten() for piece in some)]) for some in sent]
    counts = [[size.numel() for size in some] for some in sizes]
    arrived = like.new_empty(sum(map(sum, counts)))
    incoming, outgoing = [sum(some) for some in counts], [len(part) for part in flat]
    dist.all_to_all_single(arrived, torch.cat(flat), incoming, outgoing)
    return [
        [piece.view(size) for piece, size in zip(torch.split(part, count), some, strict=True)]
        for part, count, some in zip(torch.split(arrived, incoming), counts, sizes, strict=True)
    ]


def gather_whole(parameter: DTensor, boxes: Sequence[Box]) -> Tensor | None:
    """Gather the whole parameter on rank 0, None on the others; a collective call."""
    local = parameter.to_local().detach()
    first = dist.get_rank() == 0
    sent = [[local] if other == 0 else [] for other in range(len(boxes))]
    pieces = exchange_pieces(sent, [[box_shape(box)] if first else [] for box in boxes], local)
    if not first:
        return None
    whole = local.new_empty(parameter.shape)
    for box, (piece,) in zip(boxes, pieces, strict=True):
        whole[box] = piece
    return whole
