"""Shapes of decoders: frozen dataclasses, free of torch, so that a config can hold one cheaply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

Scaling = Literal["none", "linear", "yarn", "llama3"]
Activation = Literal["swiglu", "geglu", "relu2"]
Balance = Literal["loss", "bias", "none"]
Mode = Literal["exportable", "research"]
HfClass = Literal[
    "Qwen3ForCausalLM", "LlamaForCausalLM", "Qwen3MoeForCausalLM", "MixtralForCausalLM"
]


@dataclass(frozen=True)
class RopeScaling:
    """Scaling of rotary frequencies for a context longer than the one that was trained.

    ``linear`` divides them (arXiv:2306.15595), ``yarn`` divides the slow ones and makes attention
    sharper (arXiv:2309.00071), ``llama3`` divides the slow ones (arXiv:2407.21783).

    Raises:
        ValueError: a factor below 1, or no context to start from.
    """

    kind: Scaling = "none"
    """Method of scaling; none up to the context of pretraining."""
    factor: float = 1.0
    """Context after scaling divided by that before."""
    original: int = 0
    """Context before scaling, in positions; yarn and llama3 need it."""
    fast: float = 32.0
    """yarn: turns within ``original`` from which a frequency stays as it is."""
    slow: float = 1.0
    """yarn: turns within ``original`` up to which a frequency is divided by ``factor``."""
    low: float = 1.0
    """llama3: turns within ``original`` up to which a frequency is divided by ``factor``."""
    high: float = 4.0
    """llama3: turns within ``original`` from which a frequency stays as it is."""
    attention: float | None = None
    """yarn: factor of cos and sin; null is the paper's 0.1 ln(factor) + 1."""

    def __post_init__(self) -> None:
        if self.factor < 1.0:
            raise ValueError(f"rope.factor ({self.factor}) must be at least 1")
        if self.kind in ("yarn", "llama3") and self.original < 1:
            raise ValueError(
                f"rope.original ({self.original}) must say from how many positions "
                f"{self.kind} scales"
            )
        if self.high <= self.low or self.fast <= self.slow:
            raise ValueError(
                f"rope.high ({self.high}) must be above rope.low ({self.low}), and rope.fast "
                f"({self.fast}) above rope.slow ({self.slow})"
            )


@dataclass(frozen=True)
class ExpertsShape:
    """A mixture of experts in place of every layer's MLP.

    Raises:
        ValueError: more experts are active than there are.
    """

    count: int = 8
    """Experts of a layer; more add parameters, but no work for a token."""
    active: int = 2
    """Experts that a token is sent to; work and quality grow with it."""
    hidden: int = 768
    """Hidden channels of one expert."""
    shared: int = 0
    """Hidden channels of an expert that every token passes; 0 is none."""
    norm_topk: bool = True
    """Scaling of the weights of a token's experts to a sum of 1; Mixtral's form needs it."""
    balance: Balance = "loss"
    """Balancing of the experts' loads. loss: Switch's auxiliary loss (arXiv:2101.03961); bias: a
    bias on the choice, moved after each step, without a loss (arXiv:2408.15664)."""
    coefficient: float = 0.01
    """Weight of the auxiliary loss of balance loss; higher where few experts get most tokens."""
    speed: float = 0.001
    """Change of a bias after a step, with balance bias."""
    router_cap: float | None = None
    """Bound of the router's logits, cap * tanh(x / cap), against unstable routing; null is none."""

    def __post_init__(self) -> None:
        if not 1 <= self.active <= self.count:
            raise ValueError(
                f"experts.active ({self.active}) must be within 1 and experts.count ({self.count})"
            )
        if self.hidden < 1 or self.shared < 0:
            raise ValueError(
                f"experts.hidden ({self.hidden}) must be at least 1 and experts.shared "
                f"({self.shared}) at least 0"
            )


@dataclass(frozen=True)
class ShapeExtras:
    """Features that no supported class of transformers has; they need ``mode: research``."""

    activation: Activation = "swiglu"
    """Activation of the MLP. swiglu: SiLU as gate; geglu: GELU as gate; relu2: relu squared without
    a gate (arXiv:2109.08668)."""
    value_embeddings: bool = False
    """A second embedding of each token, added to the values of every layer by a learnt share."""
    post_norms: bool = False
    """A norm behind attention and MLP as well: four a layer."""
    attention_cap: float | None = None
    """Bound of attention's scores, cap * tanh(x / cap) (arXiv:2408.00118); null is none."""
    logit_cap: float | None = None
    """Bound of the logits, cap * tanh(x / cap); null is none."""
    embedding_scale: float = 1.0
    """Factor on the embeddings before the first layer."""
    output_scale: float = 1.0
    """Factor on the hidden states before the output head."""


@dataclass(frozen=True)
class DecoderShape:
    """A decoder: RMSNorm, rotary, grouped or single key heads, gated MLP or experts.

    In ``exportable`` mode ``hf_class`` of transformers holds all of it; ``research`` allows more.

    Raises:
        ValueError: the heads do not divide, or the mode forbids a field.
    """

    vocabulary: int = 4096
    """Size of the embedding, in tokens; the same as the tokenizer's."""
    width: int = 256
    """Channels of the residual stream; with ``layers`` the size of the model."""
    layers: int = 6
    """Number of layers."""
    heads: int = 4
    """Query heads of a layer."""
    kv_heads: int = 2
    """Key and value heads of a layer, a divisor of ``heads``; fewer make a served model's cache
    smaller (arXiv:2305.13245)."""
    head_width: int = 64
    """Channels of a head, an even number."""
    hidden: int = 768
    """Hidden channels of the dense MLP, commonly about three times ``width``."""
    context: int = 512
    """Longest sequence in tokens, prompt and answer together."""
    rope_base: float = 10_000.0
    """Base of the rotary frequencies (arXiv:2104.09864); higher for a long ``context``."""
    norm_eps: float = 1e-6
    """Constant added to the mean square in RMSNorm; another only to match imported weights."""
    tied: bool = True
    """Weights shared by the embedding and the output head; false for a large model, of which the
    embedding is a small part."""
    qk_norm: bool = True
    """Norm of queries and keys, head by head (arXiv:2010.04245); false gives the form of Llama or
    Mixtral."""
    rope: RopeScaling = RopeScaling()
    """Scaling of rotary frequencies, for a context longer than that of pretraining."""
    window: int | None = None
    """Positions that a query sees, its own among them; null is all before it."""
    full_layers: tuple[int, ...] = ()
    """Layers, from 0, that see all positions in spite of ``window``."""
    experts: ExpertsShape | None = None
    """Mixture of experts in place of the dense MLP; null is none."""
    mode: Mode = "exportable"
    """exportable: only features that a class of transformers holds; research: all features."""
    extras: ShapeExtras = ShapeExtras()
    """Features that no class of transformers holds; they need mode research."""

    def __post_init__(self) -> None:
        for name in ("vocabulary", "width", "layers", "heads", "kv_heads", "head_width", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least 1")
        if self.heads % self.kv_heads:
            raise ValueError(
                f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})"
            )
        if self.head_width % 2:
            raise ValueError(f"head_width ({self.head_width}) must be even for rotary positions")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window ({self.window}) must be at least 1")
        for layer in self.full_layers:
            if not 0 <= layer < self.layers:
                raise ValueError(
                    f"full_layers: {layer} is no layer, there are layers ({self.layers})"
                )
        left = self.unexportable
        if self.mode == "exportable" and left:
            raise ValueError(
                f"mode exportable: {self.hf_class} cannot hold {left[0]}; set mode: research, "
                "or leave it out"
            )

    @property
    def hf_class(self) -> HfClass:
        """The class of transformers that holds a shape of this kind."""
        if self.experts is None:
            return "Qwen3ForCausalLM" if self.qk_norm else "LlamaForCausalLM"
        return "Qwen3MoeForCausalLM" if self.qk_norm else "MixtralForCausalLM"

    @property
    def unexportable(self) -> tuple[str, ...]:
        """Fields with their values that ``hf_class`` has no place for."""
        return tuple(_unexportable_features(self))

    def windowed(self, layer: int) -> bool:
        """True where this layer sees no more than ``window``."""
        return self.window is not None and layer not in self.full_layers

    @property
    def parameters(self) -> int:
        """Exact number of parameters."""
        return self._counted(self.experts.count if self.experts else 0)

    @property
    def active_parameters(self) -> int:
        """Number of parameters that one token uses: of the experts only its own."""
        return self._counted(self.experts.active if self.experts else 0)

    def _counted(self, experts: int) -> int:
        attention = 2 * self.width * self.head_width * (self.heads + self.kv_heads)
        norms = (4 if self.extras.post_norms else 2) * self.width
        layer = attention + norms + self._mlp(experts)
        if self.qk_norm:
            layer += 2 * self.head_width
        total = self.layers * layer + self.width
        total += self.vocabulary * self.width * (1 if self.tied else 2)
        if self.extras.value_embeddings:
            total += self.vocabulary * self.kv_heads * self.head_width + self.layers
        return total

    def _mlp(self, experts: int) -> int:
        matrices = 2 if self.extras.activation == "relu2" else 3
        experts_shape = self.experts
        if experts_shape is None:
            return matrices * self.width * self.hidden
        router = experts_shape.count * (self.width + (experts_shape.balance == "bias"))
        return router + matrices * self.width * (
            experts * experts_shape.hidden + experts_shape.shared
        )


def _unexportable_features(shape: DecoderShape) -> Iterator[str]:
    for field in fields(ShapeExtras):
        value = getattr(shape.extras, field.name)
        if value != field.default:
            yield f"extras.{field.name} {value}"
    experts = shape.experts
    if experts is None:
        yield from _unexportable_dense(shape)
        return
    if experts.shared:
        yield f"experts.shared {experts.shared}"
    if experts.balance == "bias":
        yield "experts.balance bias (a choice that the bias moves)"
    if experts.router_cap is not None:
        yield f"experts.router_cap {experts.router_cap}"
    if not experts.norm_topk and not shape.qk_norm:
        yield "experts.norm_topk False"
    if shape.window is not None and shape.full_layers:
        yield f"full_layers {list(shape.full_layers)}"


def _unexportable_dense(shape: DecoderShape) -> Iterator[str]:
    if shape.qk_norm:
        return
    if shape.window is not None:
        yield f"window {shape.window}"
    if shape.width % shape.heads:
        yield f"width {shape.width}, no multiple of heads {shape.heads}"


def shape_from_json(values: Mapping[str, Any]) -> DecoderShape:
    """Read a shape from the JSON of its ``asdict``; missing fields take their defaults.

    Raises:
        TypeError: an unknown field.
        ValueError: a value that is not allowed.
    """
    fields_given = dict(values)
    nested = {"rope": RopeScaling, "experts": ExpertsShape, "extras": ShapeExtras}
    for name, kind in nested.items():
        if fields_given.get(name) is not None:
            fields_given[name] = kind(**fields_given[name])
    if "full_layers" in fields_given:
        fields_given["full_layers"] = tuple(fields_given["full_layers"])
    return DecoderShape(**fields_given)
