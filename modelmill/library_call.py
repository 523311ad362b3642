"""Frame of every public call: interrupts between imports, and errors in the caller's own words."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from components.core.errors import MillError
from components.core.process.import_interrupts import deliver_between_imports

P = ParamSpec("P")
R = TypeVar("R")


def library_call(function: Callable[P, R]) -> Callable[P, R]:
    """Public call that Ctrl+C leaves repeatable in the same process, with its own words in errors.

    Raises:
        MillError: that of the call.
    """

    @functools.wraps(function)
    def called(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return deliver_between_imports(lambda: function(*arguments, **options))
        except MillError as error:
            from flows.api.caller_words import reword_error

            reword_error(error, options.get("home"))
            raise

    return called
