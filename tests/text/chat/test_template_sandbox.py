"""Chat templates of other people: what they may do, and what is refused in bounded time."""

from __future__ import annotations

import pytest

from components.core.errors import DataError
from components.text.chat import template_budget
from components.text.chat.template_sandbox import ChatFormatError, ChatTemplate

MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "So."}]
GROW = "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.x = EXPRESSION %}{% endfor %}"

NESTED = (
    "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(40) %}"
    "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}"
)
"""Two lists of a million million items, each of forty lists that share theirs."""


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for m in messages %}{{ loop.index0 }}{{ m.role }}{{ loop.last }}{% endfor %}", None),
        ("{{ messages|selectattr('role', 'equalto', 'user')|list|length }}", "1"),
        ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% endfor %}", "So."),
        ("{{ messages[0]['content'] ~ '-' ~ messages[-1].content.split('.')[0] }}", "hi-So"),
        ("{{ {'a': 'é\"', 'b': [1]}|tojson }}", '{"a": "é\\"", "b": [1]}'),
        ("{{ {'a': 1}|tojson(indent=2) }}", '{\n  "a": 1\n}'),
        ("{% generation %}{{ messages[1].content|trim }}{% endgeneration %}", "So."),
        ("{{ bos_token }}{% if tools %}x{% endif %}{{ nope is defined }}", "<s>False"),
        ("{% set ns = namespace(n=0) %}{% for m in messages[::-1] %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "2"),
        ("{% macro turn(m) %}[{{ m.role }}]{% endmacro %}{{ turn(messages[0]) }}", "[user]"),
        ("{{ messages|map(attribute='role')|join(', ') }}", "user, assistant"),
        ("{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}", "role=user;content=hi;"),
        ("{{ {'b': 1, 'a': 2}|tojson(separators=(',', ':'), sort_keys=true) }}", '{"a":2,"b":1}'),
        ("{{ '%02d' % 3 }}{{ 'x' in 'axb' }}{{ (7 * 6) // 4 }}", "03True10"),
    ],
)  # fmt: skip
def test_what_templates_of_the_field_use_works(source: str, text: str | None) -> None:
    written = ChatTemplate(source, {"bos_token": "<s>"}).render(MESSAGES)
    assert written == ("0userFalse1assistantTrue" if text is None else text)


@pytest.mark.parametrize(
    "source",
    [
        "{% set a = range(99999) %}{% for x in a %}{% for y in a %}{% endfor %}{% endfor %}",
        "{% for x in range(90000) recursive %}{{ loop(range(9000)) }}{% endfor %}",
        "{% for x in range(90000) %}{% set y = range(99999)|list|sum %}{% endfor %}",
        "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
        GROW.replace("EXPRESSION", "ns.x ~ ns.x"),
        GROW.replace("EXPRESSION", "ns.x + ns.x"),
        GROW.replace("EXPRESSION", "[ns.x, ns.x]|join"),
        GROW.replace("EXPRESSION", "ns.x.join([ns.x, ns.x])"),
        GROW.replace("EXPRESSION", "ns.x.join(ns.x)"),
        GROW.replace("EXPRESSION", "ns.x|replace('a', ns.x)"),
        GROW.replace("EXPRESSION", "ns.x.replace('a', ns.x)"),
        GROW.replace("{% set ns.x = EXPRESSION %}", "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"),
        "{{ 'a' * 10**9 }}",
        "{{ [1] * 10**9 }}",
        "{{ 9**9**9**9 }}",
        "{{ 'a'.ljust(10**9) }}",
        "{{ 'a'|indent(10**9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:>1000000000}'.format('a') }}",
        "{{ 'a'|center(10**9) }}",
        "{{ (range(1000)|list|join('\n'))|indent(1000000) }}",
        "{{ range(1000)|list|tojson(indent=1000000) }}",
        "{{ (range(1000)|list|join('\t')).expandtabs(1000000) }}",
        "{{ ('" + "{0:99999}" * 10_000 + "').format(1) }}",
        "{{ ('" + "{0:{1}}" * 1_000 + "').format(1, 1000000) }}",
        "{% set x = '" + "%(a)99999s" * 10_000 + "' % {'a': 1} %}",
        NESTED + "{% if ns.x == ns.y %}{% endif %}",
        NESTED + "{% if 3 in ns.x %}{% endif %}",
        NESTED + "{{ ns.x }}",
        NESTED + "{{ ns.x|string }}",
        NESTED + "{{ ns.x|tojson }}",
        NESTED + "{{ ns.x ~ '' }}",
        NESTED + "{{ '%s' % ns.x }}",
        NESTED + "{{ '{}'.format(ns.x) }}",
        NESTED + "{{ [ns.x, ns.y]|sort }}",
        NESTED + "{{ ns.x.index(ns.y) }}",
        NESTED + "{{ ns.x is eq(ns.y) }}",
        "{% set ns = namespace(n=3) %}{% for i in range(40) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    ],
)  # fmt: skip
def test_no_template_takes_the_machine(source: str) -> None:
    with pytest.raises(DataError) as refused:
        ChatTemplate(source, {}).render(MESSAGES)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% include 'secrets' %}",
        "{{ self.__init__.__globals__ }}",
        "{% for x in 1 %}{% endfor %}",
        "{{ nope.x }}",
        "{{ raise_exception('messages.0.role: no\nroles') }}",
    ],
)
def test_what_the_sandbox_forbids_is_one_line(source: str) -> None:
    with pytest.raises(ChatFormatError) as refused:
        ChatTemplate(source, {}).render(MESSAGES)
    assert str(refused.value).startswith("messages")
    assert "\n" not in str(refused.value)


def test_time_is_bounded_where_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_budget, "MAX_SECONDS", 0.2)
    monkeypatch.setattr(template_budget, "MAX_LOOP_PASSES", 10**12)
    slow = "{% set l = range(99999)|list %}{% for x in range(90000) %}{% if -1 in l %}{% endif %}{% endfor %}"
    with pytest.raises(ChatFormatError, match="takes more than"):
        ChatTemplate(slow, {}).render(MESSAGES)


@pytest.mark.parametrize("source", ["{% for %}", "{{", "x" * 200_001, "{% nope %}"])
def test_what_is_no_template_is_refused_when_it_is_read(source: str) -> None:
    with pytest.raises(DataError, match="chat template"):
        ChatTemplate(source, {})


def test_what_is_trained_on_names_no_day() -> None:
    template = ChatTemplate("{{ strftime_now('%d %b %Y') }}", {})
    assert template.render(MESSAGES, today=False) == "26 Jul 2024"
    assert template.render(MESSAGES) != "26 Jul 2024"
