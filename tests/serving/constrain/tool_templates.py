"""Chat templates that write calls of tools in the ways that models in use know."""

from __future__ import annotations

_TURNS = """{%- for message in messages %}
    {%- if message.role == 'assistant' and message.tool_calls %}
        {{- '<|assistant|>' + (message.content or '') }}CALLS{{- '<|end|>' }}
    {%- elif message.role == 'tool' %}
        {{- '<|user|>result: ' + message.content }}
    {%- else %}
        {{- '<|' + message.role + '|>' + message.content }}
        {%- if message.role == 'assistant' %}{{- '<|end|>' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}
"""
_TOOLS = "{%- if tools %}{{- '<|system|>' + (tools | tojson) }}{%- endif %}\n"
_HERMES = """
{%- for call in message.tool_calls %}
    {%- if (loop.first and message.content) or not loop.first %}{{- '\\n' }}{%- endif %}
    {{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
    {{- call.function.arguments | tojson }}
    {{- '}\\n</tool_call>' }}
{%- endfor %}"""
_LLAMA = """
{%- if message.tool_calls | length != 1 %}{{- raise_exception('one call at a time') }}{%- endif %}
{%- set call = message.tool_calls[0].function %}
{{- '{"name": "' + call.name + '", "parameters": ' }}{{- call.arguments | tojson }}{{- '}' }}"""
_MISTRAL = """
{{- '[TOOL_CALLS][' }}
{%- for call in message.tool_calls %}
    {%- if call.id | length != 9 %}{{- raise_exception('ids have nine signs') }}{%- endif %}
    {{- '{"name": "' + call.function.name + '", "arguments": ' }}
    {{- call.function.arguments | tojson }}{{- ', "id": "' + call.id + '"}' }}
    {%- if not loop.last %}{{- ', ' }}{%- endif %}
{%- endfor %}
{{- ']' }}"""
TEMPLATES = {
    name: _TOOLS + _TURNS.replace("CALLS", calls)
    for name, calls in {"hermes": _HERMES, "llama": _LLAMA, "mistral": _MISTRAL}.items()
}
PLAIN = _TURNS.replace("CALLS", "")
"""A template that leaves tools out without a word."""
