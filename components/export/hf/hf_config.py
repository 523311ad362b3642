"""``config.json`` of a transformers folder: a shape written as one, and one read as a shape.

Four classes are known, by what they hold: Qwen3 (dense, QK-norm), Llama (dense), Qwen3Moe (experts,
QK-norm) and Mixtral (experts). What a class has no place for is refused in both directions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.errors import ConfigError, DataError
from components.text.chat.chat_template import END_ID, EOS_ID
from models.shape import DecoderShape, Experts, HfClass, RopeScaling

CONFIG_FILE = "config.json"
_KINDS: dict[str, HfClass] = {
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "mixtral": "MixtralForCausalLM",
}
_TYPES = {name: kind for kind, name in _KINDS.items()}
_PLAIN = {
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "hidden_act": ("silu", "swish"),
    "decoder_sparse_step": (1, None),
    "mlp_only_layers": ([], None),
    "quantization_config": (None,),
}
"""Fields of which the decoder knows one meaning."""


def hf_config(shape: DecoderShape, precision: str = "float32") -> dict[str, Any]:
    """What transformers needs to know.

    Raises:
        ConfigError: no class holds the shape; names each field that would be dropped.
    """
    if shape.unexportable:
        raise ConfigError(
            f"export_hf: transformers' {shape.hf_class} has no place for "
            f"{', '.join(shape.unexportable)}; nothing is dropped, so nothing is written"
        )
    return {
        "architectures": [shape.hf_class],
        "model_type": _TYPES[shape.hf_class],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": EOS_ID,
        "eos_token_id": END_ID,
        "pad_token_id": EOS_ID,
        "dtype": precision,
        "head_dim": shape.head_width,
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "initializer_range": 0.02,
        "intermediate_size": shape.hidden,
        "max_position_embeddings": shape.context,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": shape.norm_eps,
        "tie_word_embeddings": shape.tied,
        "use_cache": True,
        "vocab_size": shape.vocabulary,
        **_rope(shape),
        **_window(shape),
        **(_experts(shape, shape.experts) if shape.experts else {}),
    }


def _rope(shape: DecoderShape) -> dict[str, Any]:
    """The newer spelling and, beside it, the one that older programs read."""
    rope = shape.rope
    told: dict[str, Any] = {"rope_type": "default" if rope.kind == "none" else rope.kind}
    if rope.kind != "none":
        told["factor"] = rope.factor
    if rope.kind in ("yarn", "llama3"):
        told["original_max_position_embeddings"] = rope.original
    if rope.kind == "yarn":
        told.update(beta_fast=rope.fast, beta_slow=rope.slow)
        if rope.attention is not None:
            told["attention_factor"] = rope.attention
    if rope.kind == "llama3":
        told.update(low_freq_factor=rope.low, high_freq_factor=rope.high)
    older = {} if rope.kind == "none" else {"rope_scaling": told}
    return {
        "rope_parameters": {**told, "rope_theta": shape.rope_base},
        "rope_theta": shape.rope_base,
        **older,
    }


def _window(shape: DecoderShape) -> dict[str, Any]:
    name = shape.hf_class
    if name == "MixtralForCausalLM":
        return {"sliding_window": shape.window}
    if name == "LlamaForCausalLM":
        return {}
    if shape.window is None:
        return {"use_sliding_window": False}
    told = {"use_sliding_window": True, "sliding_window": shape.window}
    if name == "Qwen3MoeForCausalLM":
        return told
    windowed = [shape.windowed(layer) for layer in range(shape.layers)]
    kinds = ["sliding_attention" if near else "full_attention" for near in windowed]
    return {**told, "layer_types": kinds, "max_window_layers": shape.layers - sum(windowed)}


def _experts(shape: DecoderShape, experts: Experts) -> dict[str, Any]:
    told = {
        "num_experts_per_tok": experts.active,
        "output_router_logits": False,
        "router_aux_loss_coef": experts.coefficient if experts.balance == "loss" else 0.0,
    }
    if shape.hf_class == "MixtralForCausalLM":
        return {**told, "num_local_experts": experts.count, "intermediate_size": experts.hidden}
    return {
        **told,
        "num_experts": experts.count,
        "moe_intermediate_size": experts.hidden,
        "norm_topk_prob": experts.norm_topk,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def read_hf_config(folder: Path) -> DecoderShape:
    """The shape that a folder's ``config.json`` speaks of.

    Raises:
        ConfigError: it is of a class or has a field that the decoder cannot hold; names it.
        DataError: it is missing or damaged.
    """
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder.name}: {CONFIG_FILE} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise DataError(f"{folder.name}: {CONFIG_FILE} is no mapping of fields")
    return _Reader(folder.name, config).shape()


class _Reader:
    """Reads one ``config.json``; every mistake names the folder and the field."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        self.name, self.config = name, config

    def shape(self) -> DecoderShape:
        kind = _KINDS.get(str(self.config.get("model_type")))
        if kind is None:
            raise self._refused("model_type", f"known are {', '.join(_KINDS)}")
        for field, meanings in _PLAIN.items():
            if field in self.config and self.config[field] not in meanings:
                raise self._refused(field, f"the decoder holds {meanings[0]!r} alone")
        heads, width = self._whole("num_attention_heads"), self._whole("hidden_size")
        layers = self._whole("num_hidden_layers")
        experts = self._experts(kind) if kind in _MIXTURES else None
        window, full = self._window(kind, layers)
        base, rope = self._rope()
        try:
            return DecoderShape(
                vocabulary=self._whole("vocab_size"),
                width=width,
                layers=layers,
                heads=heads,
                kv_heads=self._whole("num_key_value_heads", heads),
                head_width=self._whole("head_dim", width // max(heads, 1)),
                hidden=self._whole("intermediate_size"),
                context=self._whole("max_position_embeddings"),
                rope_base=base,
                norm_eps=self._number("rms_norm_eps", 1e-6),
                tied=self._truth("tie_word_embeddings"),
                qk_norm=kind in ("Qwen3ForCausalLM", "Qwen3MoeForCausalLM"),
                rope=rope,
                window=window,
                full_layers=full,
                experts=experts,
            )
        except ValueError as error:
            raise ConfigError(f"{self.name}: {CONFIG_FILE}: {error}") from error

    def _experts(self, kind: HfClass) -> Experts:
        mixtral = kind == "MixtralForCausalLM"
        older = mixtral or "num_experts" not in self.config
        coefficient = self._number("router_aux_loss_coef", 0.001)
        try:
            return Experts(
                count=self._whole("num_local_experts" if older else "num_experts"),
                active=self._whole("num_experts_per_tok"),
                hidden=self._whole("intermediate_size" if mixtral else "moe_intermediate_size"),
                norm_topk=mixtral or self._truth("norm_topk_prob"),
                coefficient=coefficient,
                balance="loss" if coefficient else "none",
            )
        except ValueError as error:
            raise ConfigError(f"{self.name}: {CONFIG_FILE}: {error}") from error

    def _window(self, kind: HfClass, layers: int) -> tuple[int | None, tuple[int, ...]]:
        """(window, layers without one)."""
        if kind == "LlamaForCausalLM":
            return None, ()
        used = kind == "MixtralForCausalLM" or self._truth("use_sliding_window")
        if not used or self.config.get("sliding_window") is None:
            return None, ()
        window = self._whole("sliding_window")
        if kind != "Qwen3ForCausalLM":
            return window, ()
        kinds = self.config.get("layer_types")
        if kinds is None:
            first = self._whole("max_window_layers", 28)
            return window, tuple(range(min(first, layers)))
        if not isinstance(kinds, list) or len(kinds) != layers:
            raise self._refused("layer_types", f"there must be one for each of {layers} layers")
        for given in kinds:
            if given not in ("sliding_attention", "full_attention"):
                raise self._refused("layer_types", f"{given!r} is not known")
        return window, tuple(i for i, given in enumerate(kinds) if given == "full_attention")

    def _rope(self) -> tuple[float, RopeScaling]:
        """(base, scaling), from either spelling."""
        older = self.config.get("rope_scaling") or {}
        told = self.config.get("rope_parameters") or older
        if not isinstance(told, Mapping):
            raise self._refused("rope_parameters", "it must be a mapping")
        given = _Reader(f"{self.name}: rope_parameters", {**self.config, **told})
        base = given._number("rope_theta", 10_000.0)
        kind = told.get("rope_type", told.get("type", "default"))
        if kind not in ("default", "linear", "yarn", "llama3"):
            raise self._refused("rope_type", "known are default, linear, yarn, llama3", kind)
        if given._number("partial_rotary_factor", 1.0) != 1.0:
            raise given._refused("partial_rotary_factor", "the decoder turns whole heads")
        if kind == "default":
            return base, RopeScaling()
        if kind == "yarn":
            for field in ("mscale", "mscale_all_dim"):
                if told.get(field):
                    raise given._refused(field, "the decoder knows attention_factor alone")
            if told.get("truncate", True) is not True:
                raise given._refused("truncate", "the decoder rounds the ramp's ends")
        return base, given._scaling(kind)

    def _scaling(self, kind: Any) -> RopeScaling:
        original = self.config.get("original_max_position_embeddings")
        attention = self.config.get("attention_factor")
        try:
            return RopeScaling(
                kind=kind,
                factor=self._number("factor"),
                original=0 if kind == "linear" or original is None else self._whole(_ORIGINAL),
                fast=self._number("beta_fast", 32.0),
                slow=self._number("beta_slow", 1.0),
                low=self._number("low_freq_factor", 1.0),
                high=self._number("high_freq_factor", 4.0),
                attention=None if attention is None else self._number("attention_factor"),
            )
        except ValueError as error:
            raise ConfigError(f"{self.name}: {error}") from error

    def _whole(self, field: str, default: int | None = None) -> int:
        value = self.config.get(field)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._refused(field, "it must be a whole number", value)
        return value

    def _number(self, field: str, default: float | None = None) -> float:
        value = self.config.get(field)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refused(field, "it must be a number", value)
        return float(value)

    def _truth(self, field: str) -> bool:
        value = self.config.get(field, False)
        if not isinstance(value, bool):
            raise self._refused(field, "it must be true or false")
        return value

    def _refused(self, field: str, why: str, value: Any = None) -> ConfigError:
        shown = self.config.get(field) if value is None else value
        return ConfigError(f"{self.name}: {CONFIG_FILE}: {field} is {shown!r}: {why}")


_MIXTURES = ("Qwen3MoeForCausalLM", "MixtralForCausalLM")
_ORIGINAL = "original_max_position_embeddings"
