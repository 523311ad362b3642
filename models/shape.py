"""Shapes: frozen dataclasses, free of torch, so that a config can hold one cheaply."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DecoderShape:
    """A dense decoder that ``Qwen3ForCausalLM`` can load (RMSNorm, rotary, GQA, QK-norm, SwiGLU).

    Raises:
        ValueError: the heads do not divide.
    """

    vocabulary: int = 4096
    width: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_width: int = 64
    hidden: int = 768
    context: int = 512
    rope_base: float = 10_000.0
    norm_eps: float = 1e-6
    tied: bool = True

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError(
                f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})"
            )
        if self.head_width % 2:
            raise ValueError(f"head_width ({self.head_width}) must be even for rotary positions")

    @property
    def parameters(self) -> int:
        """Exact number of parameters."""
        attention = 2 * self.width * self.head_width * (self.heads + self.kv_heads)
        layer = attention + 3 * self.width * self.hidden + 2 * self.width + 2 * self.head_width
        embeddings = self.vocabulary * self.width * (1 if self.tied else 2)
        return embeddings + self.layers * layer + self.width
