"""``config.json`` of a transformers folder, written from a decoder's shape and read as one.

Four classes are known, by what they hold: Qwen3 (dense, QK-norm), Llama (dense), Qwen3Moe (experts,
QK-norm) and Mixtral (experts). What a class has no place for is refused in both directions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.errors import ConfigError, DataError
from models.shape import DecoderShape, ExpertsShape, HfClass, RopeScaling

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


def hf_config(
    shape: DecoderShape, precision: str = "float32", token_ids: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Fields of ``config.json`` for a shape.

    Args:
        shape: the decoder's.
        precision: dtype of the weights in the file.
        token_ids: fields of special tokens, ``eos_token_id`` and others.

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
        **(token_ids or {}),
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
    """Rotary fields in the newer spelling and, beside it, in the one that older programs read."""
    rope = shape.rope
    fields: dict[str, Any] = {"rope_type": "default" if rope.kind == "none" else rope.kind}
    if rope.kind != "none":
        fields["factor"] = rope.factor
    if rope.kind in ("yarn", "llama3"):
        fields["original_max_position_embeddings"] = rope.original
    if rope.kind == "yarn":
        fields.update(beta_fast=rope.fast, beta_slow=rope.slow)
        if rope.attention is not None:
            fields["attention_factor"] = rope.attention
    if rope.kind == "llama3":
        fields.update(low_freq_factor=rope.low, high_freq_factor=rope.high)
    older = {} if rope.kind == "none" else {"rope_scaling": fields}
    return {
        "rope_parameters": {**fields, "rope_theta": shape.rope_base},
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
    fields = {"use_sliding_window": True, "sliding_window": shape.window}
    if name == "Qwen3MoeForCausalLM":
        return fields
    windowed = [shape.windowed(layer) for layer in range(shape.layers)]
    kinds = ["sliding_attention" if near else "full_attention" for near in windowed]
    return {**fields, "layer_types": kinds, "max_window_layers": shape.layers - sum(windowed)}


def _experts(shape: DecoderShape, experts: ExpertsShape) -> dict[str, Any]:
    fields = {
        "num_experts_per_tok": experts.active,
        "output_router_logits": False,
        "router_aux_loss_coef": experts.coefficient if experts.balance == "loss" else 0.0,
    }
    if shape.hf_class == "MixtralForCausalLM":
        return {**fields, "num_local_experts": experts.count, "intermediate_size": experts.hidden}
    return {
        **fields,
        "num_experts": experts.count,
        "moe_intermediate_size": experts.hidden,
        "norm_topk_prob": experts.norm_topk,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def read_hf_config(folder: Path) -> DecoderShape:
    """Read a decoder's shape from a folder's ``config.json``.

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
    """Reader of one ``config.json``; every error names the folder and the field."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        self.name, self.config = name, config

    def shape(self) -> DecoderShape:
        kind = _KINDS.get(str(self.config.get("model_type")))
        if kind is None:
            raise self._field_error("model_type", f"known are {', '.join(_KINDS)}")
        for field, meanings in _PLAIN.items():
            if field in self.config and self.config[field] not in meanings:
                raise self._field_error(field, f"the decoder holds {meanings[0]!r} alone")
        heads, width = self._int_field("num_attention_heads"), self._int_field("hidden_size")
        layers = self._int_field("num_hidden_layers")
        experts = self._experts(kind) if kind in _MIXTURES else None
        window, full = self._window(kind, layers)
        base, rope = self._rope()
        try:
            return DecoderShape(
                vocabulary=self._int_field("vocab_size"),
                width=width,
                layers=layers,
                heads=heads,
                kv_heads=self._int_field("num_key_value_heads", heads),
                head_width=self._int_field("head_dim", width // max(heads, 1)),
                hidden=self._int_field("intermediate_size"),
                context=self._int_field("max_position_embeddings"),
                rope_base=base,
                norm_eps=self._float_field("rms_norm_eps", 1e-6),
                tied=self._bool_field("tie_word_embeddings"),
                qk_norm=kind in ("Qwen3ForCausalLM", "Qwen3MoeForCausalLM"),
                rope=rope,
                window=window,
                full_layers=full,
                experts=experts,
            )
        except ValueError as error:
            raise ConfigError(f"{self.name}: {CONFIG_FILE}: {error}") from error

    def _experts(self, kind: HfClass) -> ExpertsShape:
        mixtral = kind == "MixtralForCausalLM"
        older = mixtral or "num_experts" not in self.config
        coefficient = self._float_field("router_aux_loss_coef", 0.001)
        try:
            return ExpertsShape(
                count=self._int_field("num_local_experts" if older else "num_experts"),
                active=self._int_field("num_experts_per_tok"),
                hidden=self._int_field("intermediate_size" if mixtral else "moe_intermediate_size"),
                norm_topk=mixtral or self._bool_field("norm_topk_prob"),
                coefficient=coefficient,
                balance="loss" if coefficient else "none",
            )
        except ValueError as error:
            raise ConfigError(f"{self.name}: {CONFIG_FILE}: {error}") from error

    def _window(self, kind: HfClass, layers: int) -> tuple[int | None, tuple[int, ...]]:
        """(window, layers without one)."""
        if kind == "LlamaForCausalLM":
            return None, ()
        used = kind == "MixtralForCausalLM" or self._bool_field("use_sliding_window")
        if not used or self.config.get("sliding_window") is None:
            return None, ()
        window = self._int_field("sliding_window")
        if kind != "Qwen3ForCausalLM":
            return window, ()
        kinds = self.config.get("layer_types")
        if kinds is None:
            first = self._int_field("max_window_layers", 28)
            return window, tuple(range(min(first, layers)))
        if not isinstance(kinds, list) or len(kinds) != layers:
            raise self._field_error("layer_types", f"there must be one for each of {layers} layers")
        for layer_type in kinds:
            if layer_type not in ("sliding_attention", "full_attention"):
                raise self._field_error("layer_types", f"{layer_type!r} is not known")
        return window, tuple(
            i for i, layer_type in enumerate(kinds) if layer_type == "full_attention"
        )

    def _rope(self) -> tuple[float, RopeScaling]:
        """(base, scaling), from either spelling."""
        older = self.config.get("rope_scaling") or {}
        fields = self.config.get("rope_parameters") or older
        if not isinstance(fields, Mapping):
            raise self._field_error("rope_parameters", "it must be a mapping")
        nested = _Reader(f"{self.name}: rope_parameters", {**self.config, **fields})
        base = nested._float_field("rope_theta", 10_000.0)
        kind = fields.get("rope_type", fields.get("type", "default"))
        if kind not in ("default", "linear", "yarn", "llama3"):
            raise self._field_error("rope_type", "known are default, linear, yarn, llama3", kind)
        if nested._float_field("partial_rotary_factor", 1.0) != 1.0:
            raise nested._field_error("partial_rotary_factor", "the decoder turns whole heads")
        if kind == "default":
            return base, RopeScaling()
        if kind == "yarn":
            for field in ("mscale", "mscale_all_dim"):
                if fields.get(field):
                    raise nested._field_error(field, "the decoder knows attention_factor alone")
            if fields.get("truncate", True) is not True:
                raise nested._field_error("truncate", "the decoder rounds the ramp's ends")
        return base, nested._scaling(kind)

    def _scaling(self, kind: Any) -> RopeScaling:
        original = self.config.get("original_max_position_embeddings")
        attention = self.config.get("attention_factor")
        try:
            return RopeScaling(
                kind=kind,
                factor=self._float_field("factor"),
                original=0 if kind == "linear" or original is None else self._int_field(_ORIGINAL),
                fast=self._float_field("beta_fast", 32.0),
                slow=self._float_field("beta_slow", 1.0),
                low=self._float_field("low_freq_factor", 1.0),
                high=self._float_field("high_freq_factor", 4.0),
                attention=None if attention is None else self._float_field("attention_factor"),
            )
        except ValueError as error:
            raise ConfigError(f"{self.name}: {error}") from error

    def _int_field(self, field: str, default: int | None = None) -> int:
        value = self.config.get(field)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._field_error(field, "it must be a whole number", value)
        return value

    def _float_field(self, field: str, default: float | None = None) -> float:
        value = self.config.get(field)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._field_error(field, "it must be a number", value)
        return float(value)

    def _bool_field(self, field: str) -> bool:
        value = self.config.get(field, False)
        if not isinstance(value, bool):
            raise self._field_error(field, "it must be true or false")
        return value

    def _field_error(self, field: str, reason: str, value: Any = None) -> ConfigError:
        shown = self.config.get(field) if value is None else value
        return ConfigError(f"{self.name}: {CONFIG_FILE}: {field} is {shown!r}: {reason}")


_MIXTURES = ("Qwen3MoeForCausalLM", "MixtralForCausalLM")
_ORIGINAL = "original_max_position_embeddings"
