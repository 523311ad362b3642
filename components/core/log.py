"""Logging: one logger for the house, on standard error, with secrets masked."""

from __future__ import annotations

import logging
import re
import sys

HOUSE = "modelmill"
"""The logger that all of the house's loggers are below."""
_SECRET = re.compile(
    r"(?i)(authorization:\s*bearer\s+|(?:api[_-]?key|token|password|secret)[\"']?\s*[=:]\s*[\"']?)"
    r"([^\s\"',;&]+)"
)
_URL_LOGIN = re.compile(r"(://)([^/\s:@]+):([^/\s@]+)@")


def mask(text: str) -> str:
    """``text`` with bearer tokens, keys, passwords and logins in addresses replaced by ``***``."""
    return _URL_LOGIN.sub(r"\1***@", _SECRET.sub(r"\1***", text))


class Masked(logging.Formatter):
    """A line with its secrets masked."""

    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


def get_logger(name: str) -> logging.Logger:
    """The logger of one module, below ``modelmill``."""
    return logging.getLogger(f"{HOUSE}.{name.removeprefix('components.')}")


def configure(verbose: bool = False) -> None:
    """Send the house's log lines to standard error; called once by the command line."""
    root = logging.getLogger(HOUSE)
    root.handlers.clear()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Masked("%(levelname).1s %(name)s: %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbose else logging.WARNING)
    root.propagate = False
