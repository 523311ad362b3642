"""Fields of messages that templates read, in the ways in which templates in use are written."""

from __future__ import annotations

import pytest

from components.text.chat.house_template import HOUSE_TEMPLATE
from components.text.chat.template_sandbox import ChatTemplate


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize(
    ("source", "fields"),
    [
        (HOUSE_TEMPLATE, {"role", "content", "tool_calls"}),
        ("{% for m in messages %}{{ m.role }}{{ m['content'] }}{% endfor %}", {"role", "content"}),
        (
            "{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}{% endif %}"
            "{% for turn in rest %}{{ turn.get('name', '') }}{% endfor %}",
            {"role", "name"},
        ),
        (
            "{% for message in messages %}{% for tool_call in message.tool_calls %}"
            "{{ tool_call.name }}{% endfor %}{% endfor %}",
            {"tool_calls"},
        ),
        ("{% for tool in tools %}{{ tool.name }}{% endfor %}{{ messages | length }}", set()),
        (
            "{% for m in messages[::-1] %}{% set index = loop.index0 %}"
            "{% if 'thinking' in messages[index] and m.content is string %}x{% endif %}{% endfor %}",
            {"thinking", "content"},
        ),
        (
            "{% macro write(message) %}{{ message.name }}{% endmacro %}"
            "{% for m in messages %}{{ write(m) }}{% endfor %}",
            {"name"},
        ),
        (
            "{% set shown = messages[0] if messages else messages[-1] %}{{ shown.weight }}",
            {"weight"},
        ),
        ("{% for m in messages %}{{ m | tojson }}{% endfor %}", None),
        ("{% for m in messages %}{% for k, v in m.items() %}{{ k }}{% endfor %}{% endfor %}", None),
        ("{{ messages }}", None),
    ],
)
def test_the_fields_that_a_template_reads_are_found(
    source: str, fields: set[str] | None, bounded: bool
) -> None:
    assert ChatTemplate(source, {}, bounded=bounded).message_fields == fields
