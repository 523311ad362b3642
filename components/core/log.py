"""Logging: one logger for the house, on standard error, with secrets masked."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from typing import TextIO

HOUSE = "modelmill"
"""The logger that all of the house's loggers are below."""
_SECRET = re.compile(
    r"(?i)(authorization:\s*bearer\s+|(?:api[_-]?key|token|password|secret)[\"']?\s*[=:]\s*[\"']?)"
    r"([^\s\"',;&]+)"
)
_URL_LOGIN = re.compile(r"(://)([^/\s:@]+):([^/\s@]+)@")
_concealed: dict[str, str] = {}
"""Secrets that were read from the environment -> what is shown of each."""


def conceal(secret: str, shown: str) -> None:
    """Let ``mask`` show ``shown`` in place of ``secret`` from now on."""
    if secret:
        _concealed[secret] = shown


def mask(text: str) -> str:
    """``text`` with bearer tokens, keys, passwords and logins in addresses replaced by ``***``,
    and secrets of the environment by their names.
    """
    for secret, shown in _concealed.items():
        text = text.replace(secret, shown)
    return _URL_LOGIN.sub(r"\1***@", _SECRET.sub(r"\1***", text))


class Masked(logging.Formatter):
    """A line with its secrets masked."""

    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


def get_logger(name: str) -> logging.Logger:
    """The logger of one module, below ``modelmill``."""
    return logging.getLogger(f"{HOUSE}.{name.removeprefix('components.')}")


class _Errors(logging.StreamHandler[TextIO]):
    """Writes to what standard error is now: a live line puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def configure(verbose: bool = False, told: Sequence[str] = ()) -> None:
    """Send the house's log lines to standard error; called once by the command line.

    Args:
        told: modules whose lines of information are shown as well.
    """
    root = logging.getLogger(HOUSE)
    root.handlers.clear()
    handler = _Errors(sys.stderr)
    handler.setFormatter(Masked("%(levelname).1s %(name)s: %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbose else logging.WARNING)
    root.propagate = False
    for name in told:
        get_logger(name).setLevel(logging.INFO)
