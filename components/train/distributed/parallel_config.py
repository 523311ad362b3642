"""How many processes train one model, and what they share among them. Free of torch.

Ranks stand in a grid of data x context x tensor, the tensor ranks side by side (they talk most).
Data and context ranks together hold the weights in shards (FSDP2, arXiv:2304.11277).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from components.core.config.stage_config import StageConfig
from models.shape import DecoderShape


class ParallelConfig(StageConfig):
    """Ranks that train together. How work is split moves only the last bits of what comes out."""

    data: int = Field(
        default=1, ge=1, le=1 << 14, description="ranks that share out the rows of a step"
    )
    context: int = Field(
        default=1, ge=1, le=1 << 10, description="ranks that share out the positions of a row"
    )
    tensor: int = Field(
        default=1, ge=1, le=64, description="ranks that share out heads and hidden units"
    )
    expert: int = Field(
        default=1,
        ge=1,
        le=1 << 10,
        description="ranks, of those of data, that share out the experts of a layer",
    )
    launcher: Literal["spawn", "torchrun", "ray"] = Field(
        default="spawn", description="who starts the ranks: this process, a person, or Ray Train"
    )
    timeout: float = Field(
        default=600.0, gt=0, le=86_400, description="seconds that ranks wait for one another"
    )

    @property
    def ranks(self) -> int:
        """Number of processes."""
        return self.data * self.context * self.tensor

    def misfits(self, shape: DecoderShape, rows: int, positions: tuple[int, ...]) -> Iterator[str]:
        """Why a model of ``shape`` cannot be trained so, on ``rows`` blocks of such lengths."""
        yield from self._unbuilt(shape)
        yield from self._misfit_experts(shape)
        for name, size in (("heads", shape.heads), ("kv_heads", shape.kv_heads)):
            if size % self.tensor:
                yield f"parallel.tensor ({self.tensor}) must divide shape.{name} ({size})"
        if shape.hidden % self.tensor:
            yield f"parallel.tensor ({self.tensor}) must divide shape.hidden ({shape.hidden})"
        if rows % self.data:
            yield (
                f"parallel.data ({self.data}) must divide the {rows} blocks of a step "
                "(batch / positions)"
            )
        shortest = math.gcd(*positions)
        if shortest % self.context:
            yield (
                f"parallel.context ({self.context}) must divide positions and short_positions "
                f"({', '.join(map(str, positions))})"
            )

    def _misfit_experts(self, shape: DecoderShape) -> Iterator[str]:
        if self.expert == 1:
            return
        experts = shape.experts
        if experts is None:
            yield f"parallel.expert ({self.expert}) is for a shape with experts"
            return
        if experts.count % self.expert:
            yield (
                f"parallel.expert ({self.expert}) must divide shape.experts.count ({experts.count})"
            )
        if self.data % self.expert:
            yield f"parallel.expert ({self.expert}) must divide parallel.data ({self.data})"
            return
        shards = self.data // self.expert  # of an expert's matrices, by their rows
        for name, size in (("experts.hidden", experts.hidden), ("width", shape.width)):
            if size % shards:
                yield (
                    f"parallel.data / parallel.expert ({shards}) must divide shape.{name} ({size})"
                )

    def _unbuilt(self, shape: DecoderShape) -> Iterator[str]:
        experts = shape.experts
        special = {
            "experts": experts is not None,
            "window": shape.window is not None,
            "value_embeddings": shape.extras.value_embeddings,
        }
        refused = {"tensor": ("experts", "value_embeddings"), "context": ("experts", "window")}
        for way, fields in refused.items():
            for name in fields:
                if getattr(self, way) > 1 and special[name]:
                    yield f"parallel.{way} is not built for a shape with {name}: use parallel.data"
