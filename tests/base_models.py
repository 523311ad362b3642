"""Base models of other makers, with random weights: a tokenizer and a chat template of their own.

``qwen3`` has ChatML with tools and reasoning that earlier answers lose, no token in front of a
text, and embeddings padded beyond the vocabulary; ``llama`` has headers, a token that begins every
text, and no room for tools. Both are byte-level BPE, split in several files, in bfloat16 or float32.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CHATML = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- "# Tools\\n<tools>" }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if message.role == "user" and ns.last_query == messages|length - 1 %}
        {%- set ns.last_query = index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{%- set content = message.content %}{%- else %}{%- set content = '' %}{%- endif %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set reasoning = message.reasoning_content if message.reasoning_content is string else '' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last_query and (loop.last or reasoning) %}
            {{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- content.lstrip('\\n') }}
        {%- for call in message.tool_calls or [] %}
            {%- if call.function %}{%- set call = call.function %}{%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' ~ call.name ~ '", "arguments": ' }}
            {%- if call.arguments is string %}{{- call.arguments }}{%- else %}{{- call.arguments | tojson }}{%- endif %}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
"""In the manner of Qwen3's."""
HEADERS = """{{- bos_token }}
{%- for message in messages %}
    {%- if message.role not in ('system', 'user', 'assistant') %}{{- raise_exception('only system, user and assistant speak') }}{%- endif %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""
"""In the manner of Llama 3's."""
TEXT = ["The quick brown fox asks: what does json.dumps do? It serializes an object to text. " * 4,
        "Answers begin here, and end there. Naïve 日本語 🦊 1234 ## heading\n\n```code```"]  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "qwen3": {
        "template": CHATML,
        "special": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        "plain": ["<think>", "</think>", "<tool_call>", "</tool_call>"],
        "tokens": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        "stops": ["<|im_end|>", "<|endoftext|>"],
    },
    "llama": {
        "template": HEADERS,
        "special": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "plain": [],
        "tokens": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        "stops": ["<|eot_id|>", "<|end_of_text|>"],
    },
}  # fmt: skip


def write_tokenizer(folder: Path, kind: str) -> Any:
    """Train and save a tokenizer as transformers saves one; special ids lie at the end."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    described = KINDS[kind]
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=sorted(alphabet), show_progress=False
    )
    words.train_from_iterator(TEXT, trainer)
    words.add_special_tokens(described["special"])
    words.add_tokens([AddedToken(token, special=False) for token in described["plain"]])
    bos = described["tokens"].get("bos_token")
    if bos:
        words.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, words.token_to_id(bos))]
        )
    fast = PreTrainedTokenizerFast(tokenizer_object=words, **described["tokens"])
    fast.chat_template = described["template"]
    fast.save_pretrained(folder)
    return fast


def write_base(
    folder: Path,
    kind: str = "qwen3",
    *,
    seed: int = 0,
    dtype: str = "float32",
    experts: bool = False,
) -> Path:
    """Write a base model's folder.

    Args:
        folder: is made.
        kind: ``qwen3`` or ``llama``.
        seed: of the weights.
        dtype: of the weights.
        experts: Qwen3-MoE or Mixtral in place of the dense class.
    """
    import torch
    from transformers import GenerationConfig

    fast = write_tokenizer(folder, kind)
    torch.manual_seed(seed)
    shape = {
        "vocab_size": -(-len(fast) // 64) * 64,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "tie_word_embeddings": kind == "qwen3",
        "initializer_range": 0.1,
    }
    ids = {f"{name}_id": fast.convert_tokens_to_ids(t) for name, t in KINDS[kind]["tokens"].items()}
    model = _random_model(kind, {**shape, **ids}, experts=experts)
    stops = fast.convert_tokens_to_ids(KINDS[kind]["stops"])
    model.generation_config = GenerationConfig(**{**ids, "eos_token_id": stops})
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size="100KB")
    (folder / "LICENSE").write_text("Apache License\nVersion 2.0, January 2004\n")
    return folder


def _random_model(kind: str, config: dict[str, Any], *, experts: bool) -> Any:
    """A model of random weights of one of the four classes."""
    import transformers as hf

    if kind == "qwen3" and experts:
        moe = {"moe_intermediate_size": 48, "num_experts": 4, "num_experts_per_tok": 2}
        return hf.Qwen3MoeForCausalLM(hf.Qwen3MoeConfig(**config, **moe))
    if kind == "qwen3":
        return hf.Qwen3ForCausalLM(hf.Qwen3Config(**config))
    if experts:
        moe = {"num_local_experts": 4, "num_experts_per_tok": 2}
        return hf.MixtralForCausalLM(hf.MixtralConfig(**config, **moe, sliding_window=None))
    return hf.LlamaForCausalLM(hf.LlamaConfig(**config, rope_theta=500_000.0))


def random_conversation(draw: Any, kind: str) -> list[dict[str, Any]]:
    """A conversation of one to nine messages, tools among them where the template has them."""
    texts = ["Hello there.", " leading and trailing \n", "Größe 日本語 🦊", "", "a\n\nb", "{{ x }}",
             "<b>&amp;</b>", "12 34", "```py\nprint(1)\n```", "\n\nWhat?"]  # fmt: skip

    def text() -> str:
        return "".join(draw.choice(texts) for _ in range(draw.randint(1, 3)))

    messages: list[dict[str, Any]] = []
    if draw.random() < 0.4:
        messages.append({"role": "system", "content": text()})
    for _ in range(draw.randint(1, 4)):
        messages.append({"role": "user", "content": text()})
        if kind == "qwen3" and draw.random() < 0.3:
            arguments = {"city": text(), "days": draw.randint(1, 9)}
            call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}}  # fmt: skip
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": "c1", "content": json.dumps({"t": 3})})
        answer: dict[str, Any] = {"role": "assistant", "content": text()}
        if kind == "qwen3" and draw.random() < 0.2:
            answer["reasoning_content"] = "So and so.\n"
        messages.append(answer)
    return messages
