"""Fields of requests to OpenAI, vLLM and llama.cpp that are not served, by what they do.

A field that would change the answer is refused by name unless it holds a value that asks for
nothing beyond what is served. Fields that change nothing are ignored. A field in none of the
tables is refused as unknown, so that none is ever taken and not obeyed.

Sources: OpenAI's API reference (chat, completions); vLLM's ``ChatCompletionRequest``,
``CompletionRequest`` and ``SamplingParams``; the README of llama.cpp's server.
"""

from __future__ import annotations

from typing import Any

OPENAI_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "modalities": (["text"], []),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "web_search_options": (),
    "moderation": (),
}
VLLM_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "length_penalty": (1,),
    "use_beam_search": (False,),
    "spaces_between_special_tokens": (True, False),
    "truncate_prompt_tokens": (),
    "truncation_side": (),
    "prompt_logprobs": (),
    "logprobs_mode": (),
    "logprob_token_ids": ([],),
    "flat_logprobs": (False,),
    "allowed_token_ids": (),
    "bad_words": ([],),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "add_special_tokens": (False,),
    "documents": ([],),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "chat_template_content_format": ("auto",),
    "mm_processor_kwargs": ({},),
    "media_io_kwargs": ({},),
    "structural_tag": (),
    "guided_decoding_backend": (),
    "guided_whitespace_pattern": (),
    "return_tokens_as_token_ids": (False,),
    "return_token_ids": (False,),
    "return_prompt_text": (False,),
    "kv_transfer_params": (),
    "vllm_xargs": ({},),
    "extra_args": ({},),
    "logits_processors": ([],),
    "include_reasoning": (True, False),
    "thinking_token_budget": (),
    "repetition_detection": (),
    "prompt_embeds": (),
    "image_embeds": (),
}
LLAMA_CPP_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n_predict": (-1,),
    "n_cmpl": (1,),
    "n_indent": (0,),
    "n_keep": (0, -1),
    "n_discard": (0,),
    "dynatemp_range": (0,),
    "dynatemp_exponent": (1,),
    "typical_p": (1,),
    "top_n_sigma": (-1, 0),
    "penalize_nl": (True, False),
    "dry_multiplier": (0,),
    "dry_base": (1.75,),
    "dry_allowed_length": (2,),
    "dry_penalty_last_n": (0, -1),
    "dry_sequence_breakers": (["\n", ":", '"', "*"],),
    "xtc_probability": (0,),
    "xtc_threshold": (0.1, 1),
    "adaptive_target": (-1,),
    "adaptive_decay": (0.9,),
    "mirostat": (0,),
    "mirostat_tau": (5,),
    "mirostat_eta": (0.1,),
    "min_keep": (0,),
    "tfs_z": (1,),
    "samplers": ([],),
    "grammar_type": (),
    "grammar_lazy": (False,),
    "grammar_triggers": ([],),
    "preserved_tokens": ([],),
    "n_probs": (0,),
    "post_sampling_probs": (False,),
    "t_max_predict_ms": (0, -1),
    "t_max_prompt_ms": (0, -1),
    "return_tokens": (False,),
    "response_fields": ([],),
    "lora": ([],),
    "image_data": ([],),
    "multimodal_data": ([],),
    "input_prefix": ("",),
    "input_suffix": ("",),
    "input_extra": ([],),
    "reasoning_format": ("none", "auto"),
    "reasoning_in_content": (False,),
    "reasoning_budget_tokens": (-1,),
    "reasoning_control": (False,),
    "thinking_forced_open": (False,),
    "generation_prompt": ("",),
    "enable_thinking": (),
    "chat_format": (),
    "chat_parser": (),
    "parse_tool_calls": (False, True),
    "echo_prompt": (False,),
}
NEUTRAL_VALUES = {
    name: (None, *values)
    for name, values in {**LLAMA_CPP_NEUTRAL, **VLLM_NEUTRAL, **OPENAI_NEUTRAL}.items()
}
"""Field -> values that ask for nothing beyond what is served."""

NO_EFFECT = frozenset({
    "metadata", "store", "service_tier", "prompt_cache_key",
    "prompt_cache_retention", "prompt_cache_options", "priority",
    "request_id", "cache_salt", "cache_prompt", "n_cache_reuse", "id_slot", "timings_per_token",
    "return_progress", "verbose", "sse_ping_interval", "backend_sampling", "speculative.n_max",
    "speculative.n_min", "speculative.p_min", "speculative.p_split", "speculative.type",
})  # fmt: skip
"""Fields that a server may ignore: records, caches, scheduling, figures beside the answer."""


def is_equal_json(value: Any, other: Any) -> bool:
    """Equality of JSON values: 1 and 1.0 are one number, and ``true`` is none."""
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, dict) and isinstance(other, dict):
        same_keys = value.keys() == other.keys()
        return same_keys and all(is_equal_json(value[key], other[key]) for key in value)
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(is_equal_json, value, other))
    return bool(value == other)


def is_neutral(name: str, value: Any) -> bool:
    """A field that is not served holds a value that asks for nothing."""
    return any(is_equal_json(value, neutral) for neutral in NEUTRAL_VALUES[name])
