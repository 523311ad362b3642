"""Configuration of multi-process training: data, context, tensor and expert parallelism.

Ranks stand in a grid of data x context x tensor, the tensor ranks next to each other, since they
communicate most. Data and context ranks together hold the weights in shards (FSDP2,
arXiv:2304.11277). Free of torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from components.core.config.stage_config import StageConfig
from models.shape import DecoderShape


class ParallelConfig(StageConfig):
    """Ranks that train together. How the work is split changes only the last bits of the result."""

    data: int = Field(
        default=1, ge=1, le=1 << 14, description="ranks that share out the sequences of a step"
    )
    context: int = Field(
        default=1, ge=1, le=1 << 10, description="ranks that share out the tokens of a sequence"
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
        default="spawn",
        description=(
            "starter of the ranks: spawn, this process; torchrun, a person; ray, Ray Train"
        ),
    )
    timeout: float = Field(
        default=600.0, gt=0, le=86_400, description="seconds that ranks wait for each other"
    )

    @property
    def ranks(self) -> int:
        """Number of processes."""
        return self.data * self.context * self.tensor

    def find_conflicts(
        self, shape: DecoderShape, rows: int, sequence_lengths: tuple[int, ...]
    ) -> Iterator[str]:
        """Reasons why a training cannot be split like this, each with the fields to change.

        Args:
            shape: shape of the model.
            rows: sequences of a step.
            sequence_lengths: sequence lengths of the phases.
        """
        yield from self._unsupported_features(shape)
        yield from self._expert_conflicts(shape)
        for name, size in (("heads", shape.heads), ("kv_heads", shape.kv_heads)):
            if size % self.tensor:
                yield f"parallel.tensor ({self.tensor}) must divide shape.{name} ({size})"
        if shape.hidden % self.tensor:
            yield f"parallel.tensor ({self.tensor}) must divide shape.hidden ({shape.hidden})"
        if rows % self.data:
            yield (
                f"parallel.data ({self.data}) must divide the {rows} blocks of a step "
                "(batch / sequence_length)"
            )
        shortest = math.gcd(*sequence_lengths)
        if shortest % self.context:
            yield (
                f"parallel.context ({self.context}) must divide sequence_length and "
                f"short_sequence_length ({', '.join(map(str, sequence_lengths))})"
            )

    def _expert_conflicts(self, shape: DecoderShape) -> Iterator[str]:
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

    def _unsupported_features(self, shape: DecoderShape) -> Iterator[str]:
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
