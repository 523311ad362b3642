"""Chat templates of other people, rendered in a sandbox that bounds their time and their text.

A template is a program. Jinja's sandbox keeps it from the interpreter's insides; the bounds here
keep it from the machine's time and memory: passes of loops and signs of text are counted while it
renders, and the counters are part of the compiled template, so no construct goes around them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NoReturn, cast

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from components.core.errors import DataError
from components.text.chat.template_budget import (
    RenderingBudget,
    bind_filter,
    bind_test,
    bound_loop,
    bound_text,
    bound_value,
    check_arguments,
    current_budget,
)
from components.text.chat.template_fields import find_message_fields

MAX_TEMPLATE_CHARS = 200_000
"""Longest template; the longest in use, with tools and reasoning, have some 20,000."""
_UNNEEDED_FILTERS = ("center", "format", "pprint", "urlize", "wordwrap", "xmlattr")
"""Filters that make long texts of short ones, or HTML; no chat template needs them."""
_COMPARING_TESTS = (
    *("eq", "equalto", "==", "ne", "!=", "in", "lt", "<", "lessthan"),
    *("gt", ">", "greaterthan", "ge", ">=", "le", "<="),
)
_FIXED_DATE = datetime(2024, 7, 26, tzinfo=UTC)
"""Date in conversations that are trained on, which must not depend on the day: that of templates
with a date of their own."""


class ChatFormatError(DataError):
    """A conversation that the chat template refuses; its line begins with the place."""


_is_today: ContextVar[bool] = ContextVar("chat template date", default=True)


class _BoundLoops(NodeTransformer):
    """Sends loops, comparisons and the parts of every ``~`` through the budget."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = self._filtered("bound_loop", node.iter)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        node.expr = self._filtered("bound_value", node.expr)
        for operand in node.ops:
            operand.expr = self._filtered("bound_value", operand.expr)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return self._filtered("bound_text", nodes.List(node.nodes, lineno=node.lineno))

    @staticmethod
    def _filtered(name: str, value: nodes.Node) -> nodes.Filter:
        return nodes.Filter(value, name, [], [], None, None, lineno=value.lineno)


class _Generation(Extension):
    """The tags that mark what an assistant said; their content is written as it is."""

    tags = {"generation"}  # noqa: RUF012 - as the base class declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with transformers' settings."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,  # plain text, not HTML
            extensions=[_Generation, loopcontrols],
            **settings,
        )
        self.filters["tojson"] = _write_json
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _format_date}


class _BoundedEnvironment(_TemplateEnvironment):
    """The sandbox of other people's templates, in which all takes from a budget."""

    intercepted_binops = frozenset({"+", "*", "%", "**"})

    def __init__(self) -> None:
        super().__init__(finalize=bound_value)
        for name in _UNNEEDED_FILTERS:
            del self.filters[name]
        del self.globals["lipsum"]
        self.filters = {name: bind_filter(name, f) for name, f in self.filters.items()}
        compared = {name: bind_test(cast(Any, self.tests[name])) for name in _COMPARING_TESTS}
        self.tests |= compared
        self.filters |= {
            "bound_loop": bound_loop,
            "bound_text": bound_text,
            "bound_value": bound_value,
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _BoundLoops().visit(super()._parse(source, name, filename))
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator in ("*", "**") and not _is_small_product(operator, left, right):
            raise SecurityError("the chat template multiplies text or large numbers")
        if operator == "%":
            check_arguments("format", [left, *(right if isinstance(right, tuple) else [right])])
        if operator == "+":
            current_budget.get().take_value(left)
            current_budget.get().take_value(right)
        result = super().call_binop(context, operator, left, right)
        current_budget.get().take_value(result)
        return result

    def call(self, context: Context, called: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(called, LoopContext):
            args = (bound_loop(args[0]),)
        else:
            method = getattr(called, "__wrapped__", called)  # str.format is wrapped by the sandbox
            own = getattr(method, "__self__", None)
            values = [*args, *kwargs.values()]
            for value in (own, *values):  # list.index compares
                bound_value(value)
            texts = [own] if isinstance(own, str) else []
            check_arguments(getattr(method, "__name__", ""), [*texts, *values])
        result = super().call(context, called, *args, **kwargs)
        if isinstance(result, str):
            current_budget.get().take_chars(len(result))
        return result


def _is_small_product(operator: str, left: Any, right: Any) -> bool:
    """True where both are numbers whose product or power stays within a machine word or so."""
    if not (isinstance(left, int | float) and isinstance(right, int | float)):
        return False
    if operator == "*":
        return max(abs(left), abs(right)) <= 1 << 62
    return abs(left) <= 10_000 and abs(right) <= 16


def _raise_exception(message: str) -> NoReturn:
    raise ChatFormatError(" ".join(str(message).split()))


def _write_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers writes it: jinja's own filter escapes for HTML.

    Args:
        value: what is written.
        ensure_ascii: escape all but ASCII.
        indent: blanks of a level; None for one line.
        separators: between items, and between key and value.
        sort_keys: order keys by their names.
    """
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _format_date(pattern: str) -> str:
    date = datetime.now().astimezone() if _is_today.get() else _FIXED_DATE
    return date.strftime(pattern)


class ChatTemplate:
    """A compiled chat template, with the special tokens that it may name.

    Args:
        source: Jinja, as in ``chat_template.jinja``.
        names: variables of the special tokens, ``bos_token`` and others.
        bounded: count what it does; without, three times as fast, for a template of our own.

    Raises:
        DataError: it is too long or no Jinja; one line.
    """

    def __init__(self, source: str, names: Mapping[str, str], *, bounded: bool = True) -> None:
        self.source, self._names = source, dict(names)
        if len(source) > MAX_TEMPLATE_CHARS:
            raise DataError(
                f"the chat template has {len(source):,} signs, {MAX_TEMPLATE_CHARS:,} are read"
            )
        try:
            environment = _BoundedEnvironment() if bounded else _TemplateEnvironment()
            self._render: Callable[..., str] = environment.from_string(source).render
            self._parse: Callable[[str], nodes.Template] = environment.parse
        except (TemplateError, RecursionError) as error:
            raise DataError(f"the chat template is no Jinja: {error}") from error

    @cached_property
    def message_fields(self) -> frozenset[str] | None:
        """Fields of a message that it reads; None where it writes whole messages."""
        return find_message_fields(self._parse(self.source))

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        opens_answer: bool = False,
        today: bool = True,
    ) -> str:
        """Text of a conversation.

        Args:
            messages: OpenAI's messages.
            tools: JSON schemas of functions; None for none.
            opens_answer: end with what begins an assistant's answer.
            today: ``strftime_now`` gives the present date, else a fixed one.

        Raises:
            ChatFormatError: the template refuses the conversation, or runs over its bounds.
        """
        budget, date = current_budget.set(RenderingBudget()), _is_today.set(today)
        try:
            text = self._render(
                messages=messages,
                tools=tools,
                documents=None,
                add_generation_prompt=opens_answer,
                **self._names,
            )
            current_budget.get().take_chars(len(text))
        except ChatFormatError:
            raise
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ChatFormatError(f"messages: the chat template refuses them: {error}") from error
        except (AttributeError, RecursionError, MemoryError) as error:
            raise ChatFormatError(f"messages: the chat template fails: {error!r}") from error
        finally:
            current_budget.reset(budget)
            _is_today.reset(date)
        return text
