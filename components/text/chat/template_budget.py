"""Budget of one rendering of a chat template: loop passes, signs and seconds.

What a template reads and makes is counted before it is made, since a single call of Python cannot
be interrupted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextvars import ContextVar
from functools import wraps
from itertools import islice
from typing import Any

from jinja2.exceptions import SecurityError

MAX_LOOP_PASSES = 500_000
"""Passes of all loops of one rendering: some ten a message, so 50,000 messages."""
MAX_TEXT_CHARS = 20_000_000
"""Signs that one rendering may put together, intermediate texts counted."""
MAX_NUMBER_ARGUMENT = 1000
"""Largest number given to a function: ``'x'.center(10**9)`` asks for a gigabyte."""
_MAX_NUMBERS = {"safe_range": 1_000_000}
"""Other largest numbers, by function; loops are counted by themselves."""
_CONSTANT_TIME = frozenset({"length", "count", "first", "last", "default", "d"})
"""Filters that read nothing of their value, and stand in every pass of a loop over messages."""
_COMPARING = frozenset({"sort", "unique", "max", "min", "groupby", "dictsort", "sum"})
"""Filters and tests that compare values as wholes."""
MAX_SECONDS = 10
"""Time of one rendering; a long conversation takes milliseconds."""
_DIGITS = re.compile(r"\d{1,18}")
"""Widths and precisions in a format; longer rows of digits count in parts."""


class RenderingBudget:
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


current_budget: ContextVar[RenderingBudget] = ContextVar("chat template budget")


class _TimedList(list[Any]):
    """Values of a loop, before each of whose passes the time is looked at."""

    def __iter__(self) -> Iterator[Any]:
        budget = current_budget.get()
        for value in super().__iter__():
            budget.check_time()
            yield value


def bound_loop(values: Any) -> _TimedList:
    """Values of a loop, their number taken from the budget before its first pass."""
    if not isinstance(values, Sized):
        values = list(islice(values, MAX_LOOP_PASSES + 1))
    current_budget.get().take_passes(len(values))
    return _TimedList(values)


def bound_text(parts: Sequence[Any]) -> str:
    """Text of joined parts, as ``~`` writes it."""
    return "".join(str(bound_value(part)) for part in parts)


def bound_value(value: Any) -> Any:
    """A value that is compared or written as a whole, all that is in it taken from the budget.

    Lists in lists may share their items: forty of them hold a billion.
    """
    budget, open_values = current_budget.get(), [value]
    while open_values:
        item = open_values.pop()
        if isinstance(item, str):
            budget.take_chars(len(item))
        elif isinstance(item, list | tuple | set | frozenset):
            budget.take_passes(len(item))
            open_values += item
        elif isinstance(item, Mapping):
            budget.take_passes(len(item))
            open_values += [*item.keys(), *item.values()]
    return value


def check_arguments(name: str, values: Sequence[Any]) -> None:
    """Refuse what makes a long text at once, before it is made.

    Args:
        name: name of a filter or of a method.
        values: the value, or the text whose method it is, and the arguments.
    """
    budget = current_budget.get()
    most = _MAX_NUMBERS.get(name, MAX_NUMBER_ARGUMENT)
    numbers = [abs(value) for value in values if isinstance(value, int)]
    if any(number > most for number in numbers):
        raise SecurityError(f"the chat template calls {name} with {max(numbers)}")
    width = max(numbers, default=0)
    for value in values:
        budget.take_value(value)
    texts = [value for value in values if isinstance(value, str)]
    if name == "replace" and len(texts) > 2:
        budget.take_chars(texts[0].count(texts[1]) * len(texts[2]))
    elif name == "join":
        separator = next((text for text in values[:2] if isinstance(text, str)), "")
        held = next((v for v in values[:2] if not isinstance(v, str)), values[-1])
        bound_value(held)
        budget.take_chars(len(held) * len(separator) if isinstance(held, Sized) else 0)
    elif name in ("indent", "expandtabs") and texts:
        budget.take_chars((texts[0].count("\n") + texts[0].count("\t") + 1) * width)
    elif name in _COMPARING:
        for value in values:
            bound_value(value)
    elif name in ("tojson", "string"):
        for value in values:
            bound_value(value)
            items = len(value) if isinstance(value, Sized) and not isinstance(value, str) else 0
            budget.take_chars(items * width)
    elif name == "format" and texts:
        _check_format(texts[0], [*texts[1:], *values])


def _check_format(pattern: str, values: Sequence[Any]) -> None:
    """Refuse a format whose widths and repeated values come to a long text.

    Args:
        pattern: of ``%`` or of ``format``.
        values: what is formatted; a number may be a width.
    """
    budget = current_budget.get()
    budget.take_chars(
        sum(min(int(n), MAX_TEXT_CHARS) for n in _DIGITS.findall(pattern[:MAX_TEXT_CHARS]))
    )
    fields = pattern.count("{") + pattern.count("%")
    held = [v for v in values if not isinstance(v, int | float)]
    for value in held:
        bound_value(value)
    longest = max((len(str(value)) for value in held), default=0)
    width = max((abs(v) for v in values if isinstance(v, int)), default=0)
    budget.take_chars(fields * (longest + min(width, MAX_TEXT_CHARS)))


def bind_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that takes what it reads and makes from the budget."""

    @wraps(function)  # jinja reads from attributes which first argument it passes
    def bound(*args: Any, **kwargs: Any) -> Any:
        passed = len(args) > 0 and hasattr(function, "jinja_pass_arg")
        # What another filter makes one by one is counted before it is read.
        own = [bound_loop(v) if isinstance(v, Iterator) else v for v in args[passed:]]
        if name not in _CONSTANT_TIME:
            check_arguments(name, [*own, *kwargs.values()])
        result = function(*args[:passed], *own, **kwargs)
        if isinstance(result, str) or name not in _CONSTANT_TIME:
            current_budget.get().take_value(result)
        return result

    return bound


def bind_test(function: Callable[..., Any]) -> Callable[..., Any]:
    """A test that takes what it compares from the budget."""

    @wraps(function)
    def bound(*args: Any) -> Any:
        return function(*map(bound_value, args))

    return bound
