"""Chat templates of other people, rendered in a sandbox that bounds their time and their text.

A template is a program. Jinja's sandbox keeps it from the interpreter's insides; the bounds here
keep it from the machine's time and memory: passes of loops and signs of text are counted while it
renders, and the counters are part of the compiled template, so no construct goes around them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import wraps
from itertools import islice
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from components.core.errors import DataError

MAX_TEMPLATE_CHARS = 200_000
"""Longest template; the longest in use, with tools and reasoning, have some 20,000."""
MAX_LOOP_PASSES = 500_000
"""Passes of all loops of one rendering: some ten a message, so 50,000 messages."""
MAX_TEXT_CHARS = 20_000_000
"""Signs that one rendering may put together, intermediate texts counted."""
MAX_NUMBER_ARGUMENT = 1_000_000
"""Largest number given to a function: ``'x'.center(10**9)`` asks for a gigabyte."""
MAX_SECONDS = 10
"""Time of one rendering; a long conversation takes milliseconds."""
_UNNEEDED_FILTERS = ("center", "format", "pprint", "urlize", "wordwrap", "xmlattr")
"""Filters that make long texts of short ones, or HTML; no chat template needs them."""
_WIDE = re.compile(r"\d{6}")
"""Width in a format, of a hundred thousand signs or more."""
_FIXED_DATE = datetime(2024, 7, 26, tzinfo=UTC)
"""Date in conversations that are trained on, which must not depend on the day: that of templates
with a date of their own."""


class ChatFormatError(DataError):
    """A conversation that the chat template refuses; its line begins with the place."""


class _Budget:
    """Loop passes, signs and seconds that are left to one rendering."""

    def __init__(self) -> None:
        self._passes, self._chars = MAX_LOOP_PASSES, MAX_TEXT_CHARS
        self._deadline = time.monotonic() + MAX_SECONDS

    def check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise SecurityError(f"the chat template takes more than {MAX_SECONDS} s")

    def take_passes(self, count: int) -> None:
        self.check_time()
        self._passes -= count
        if self._passes < 0:
            raise SecurityError(f"the chat template loops more than {MAX_LOOP_PASSES:,} times")

    def take_chars(self, count: int) -> None:
        self.check_time()
        self._chars -= count
        if self._chars < 0:
            raise SecurityError(f"the chat template writes more than {MAX_TEXT_CHARS:,} signs")

    def take_value(self, value: Any) -> None:
        """Take the size of a value that a filter or a function reads or makes."""
        if isinstance(value, str):
            self.take_chars(len(value))
        elif isinstance(value, Sized):
            self.take_passes(len(value))


_budget: ContextVar[_Budget] = ContextVar("chat template budget")
_is_today: ContextVar[bool] = ContextVar("chat template date", default=True)


class _TimedList(list[Any]):
    """Values of a loop, before each of whose passes the time is looked at."""

    def __iter__(self) -> Iterator[Any]:
        budget = _budget.get()
        for value in super().__iter__():
            budget.check_time()
            yield value


def _bound_loop(values: Any) -> _TimedList:
    """Values of a loop, their number taken from the budget before its first pass."""
    if not isinstance(values, Sized):
        values = list(islice(values, MAX_LOOP_PASSES + 1))
    _budget.get().take_passes(len(values))
    return _TimedList(values)


def _bound_text(parts: Sequence[Any]) -> str:
    """Text of joined parts, as ``~`` writes it."""
    texts = [str(part) for part in parts]
    _budget.get().take_chars(sum(map(len, texts)))
    return "".join(texts)


def _bound_output(value: Any) -> Any:
    """A value that is written, its length taken from the budget: a block may be written twice."""
    if isinstance(value, str):
        _budget.get().take_chars(len(value))
    return value


def _check_arguments(name: str, values: Sequence[Any]) -> None:
    """Refuse what makes a long text at once, before it is made.

    Args:
        name: name of a filter or of a method.
        values: the value, or the text whose method it is, and the arguments.
    """
    budget = _budget.get()
    for value in values:
        budget.take_value(value)
        if isinstance(value, int) and abs(value) > MAX_NUMBER_ARGUMENT:
            raise SecurityError(f"the chat template calls a function with {value}")
    if name == "replace" and len(values) > 2 and all(isinstance(v, str) for v in values[:3]):
        budget.take_chars(values[0].count(values[1]) * len(values[2]))
    if name == "join":
        texts = next((v for v in values[:2] if not isinstance(v, str)), values[-1])
        separator = next((v for v in values[:2] if isinstance(v, str) and v is not texts), "")
        if isinstance(texts, Sized):
            budget.take_chars(len(texts) * len(separator))
        if isinstance(texts, list | tuple):
            budget.take_chars(sum(len(text) for text in texts if isinstance(text, str)))
    if name == "format" and any(_WIDE.search(v) for v in values if isinstance(v, str)):
        raise SecurityError("the chat template formats with a width of millions")


def _bind_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that takes what it reads and makes from the budget."""

    @wraps(function)  # jinja reads from attributes which first argument it passes
    def bound(*args: Any, **kwargs: Any) -> Any:
        passed = len(args) > 0 and hasattr(function, "jinja_pass_arg")
        # What another filter makes one by one is counted before it is read.
        own = [_bound_loop(v) if isinstance(v, Iterator) else v for v in args[passed:]]
        _check_arguments(name, [*own, *kwargs.values()])
        result = function(*args[:passed], *own, **kwargs)
        _budget.get().take_value(result)
        return result

    return bound


class _BoundLoops(NodeTransformer):
    """Sends the values of every loop and the parts of every ``~`` through the budget."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = self._filtered("bound_loop", node.iter)
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
        super().__init__(finalize=_bound_output)
        for name in _UNNEEDED_FILTERS:
            del self.filters[name]
        del self.globals["lipsum"]
        self.filters = {name: _bind_filter(name, f) for name, f in self.filters.items()}
        self.filters |= {"bound_loop": _bound_loop, "bound_text": _bound_text}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _BoundLoops().visit(super()._parse(source, name, filename))
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator in ("*", "**") and not _is_small_product(operator, left, right):
            raise SecurityError("the chat template multiplies text or large numbers")
        if operator == "%":
            _check_arguments("format", [left])
        if operator == "+":
            _budget.get().take_value(left)
            _budget.get().take_value(right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, called: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(called, LoopContext):
            args = (_bound_loop(args[0]),)
        else:
            own = getattr(called, "__self__", None)
            texts = [own] if isinstance(own, str) else []
            name = getattr(called, "__name__", "")
            _check_arguments(name, [*texts, *args, *kwargs.values()])
        result = super().call(context, called, *args, **kwargs)
        if isinstance(result, str):
            _budget.get().take_chars(len(result))
        return result


def _is_small_product(operator: str, left: Any, right: Any) -> bool:
    """True where both are numbers whose product or power stays within a machine word or so."""
    if not (isinstance(left, int | float) and isinstance(right, int | float)):
        return False
    return operator == "*" or (abs(left) <= 10_000 and abs(right) <= 16)


def _raise_exception(message: str) -> NoReturn:
    raise ChatFormatError(" ".join(str(message).split()))


def _write_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    """JSON as transformers writes it: jinja's own filter escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


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
        except (TemplateError, RecursionError) as error:
            raise DataError(f"the chat template is no Jinja: {error}") from error

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
        budget, date = _budget.set(_Budget()), _is_today.set(today)
        try:
            text = self._render(
                messages=messages,
                tools=tools,
                documents=None,
                add_generation_prompt=opens_answer,
                **self._names,
            )
            _budget.get().take_chars(len(text))
        except ChatFormatError:
            raise
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ChatFormatError(f"messages: the chat template refuses them: {error}") from error
        except (AttributeError, RecursionError, MemoryError) as error:
            raise ChatFormatError(f"messages: the chat template fails: {error!r}") from error
        finally:
            _budget.reset(budget)
            _is_today.reset(date)
        return text
