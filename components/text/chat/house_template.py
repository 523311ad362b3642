"""Chat template and special tokens of the tokenizers that are trained here.

``<|user|>What does json.dumps do?<|assistant|>Serialize obj to a JSON formatted str.<|end|>``
"""

from __future__ import annotations

TEXT_SEPARATOR = "<|endoftext|>"
"""Stands between two texts."""
ANSWER_END = "<|end|>"
HOUSE_TOKENS = (TEXT_SEPARATOR, "<|user|>", "<|assistant|>", "<|system|>", ANSWER_END)
"""Special tokens, in the order of their ids in a tokenizer trained here."""

GUARD = "\ufdd0"
"""Stands inside a special token's spelling that is ordinary text: ``<|`` guard ``user|>``. The
tokenizer drops it, yet reads no special token. Unicode keeps it for such uses: no text has it."""


def guard_token(token: str) -> str:
    """Spelling of a special token as ordinary text: with a guard behind its first signs."""
    cut = min(2, len(token) - 1)
    return f"{token[:cut]}{GUARD}{token[cut:]}"


_GUARDED = {GUARD: "", **{token: guard_token(token) for token in HOUSE_TOKENS}}
_GUARD_FILTERS = "".join(f"|replace('{old}', '{new}')" for old, new in _GUARDED.items())

HOUSE_TEMPLATE = (
    "{% if tools %}{{ raise_exception('tools: this model was trained without them') }}{% endif %}"
    "{% for message in messages %}"
    "{% set place = 'messages.' ~ loop.index0 %}"
    "{% set role = 'system' if message['role'] == 'developer' else message['role'] %}"
    "{% if role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception(place ~ \".role: must be 'user', 'assistant', 'system' or 'developer', \""
    " ~ 'the roles this model was trained on, is ' ~ ((role|string)[:40]|tojson)) }}"
    "{% endif %}"
    "{% if message['tool_calls'] %}"
    "{{ raise_exception(place ~ '.tool_calls: this model was trained without them') }}"
    "{% endif %}"
    "{% set content = message['content'] %}"
    "{% set turn = namespace(text='') %}"
    "{% if content is string %}"
    "{% set turn.text = content %}"
    "{% elif content is defined and content is not none %}"
    "{% if content is mapping or content is not iterable %}"
    "{{ raise_exception(place ~ '.content: must be text, a list of text parts or null') }}"
    "{% endif %}"
    "{% for part in content %}"
    "{% if part is not mapping or part['type'] != 'text' or part['text'] is not string %}"
    "{{ raise_exception(place ~ '.content.' ~ loop.index0 ~ ': must be a text part, '"
    ' ~ \'{"type": "text", "text": "..."}\') }}'
    "{% endif %}"
    "{% set turn.text = turn.text ~ part['text'] %}"
    "{% endfor %}"
    "{% endif %}"
    "{% set text = turn.text" + _GUARD_FILTERS + " %}"
    "{{ '<|' ~ role ~ '|>' }}"
    "{% if role == 'assistant' %}"
    "{% generation %}{{ text ~ '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ text }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""The chat template, rendered here and by programs that read a transformers folder.

``developer`` is ``system``, text parts are joined, null is empty text, special tokens spelled in a
text stay text; roles, parts and tools that the model never saw are refused by name. ``generation``
holds what is learnt from: answers and their end tokens.
"""
