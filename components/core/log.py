"""Logging: one logger for the house, on standard error, with secrets masked."""

from __future__ import annotations

import logging
import re
import sys

_SECRET = re.compile(
    r"(?i)(authorization:\s*bearer\s+|(?:api[_-]?key|token|password|secret)[\"']?\s*[=:]\s*[\"']?)"
    r"([^\s\"',;&]+)"
)
_URL_LOGIN = re.compile(r"(://)([^/\s:@]+):([^/\s@]+)@")


def mask(text: str) -> str:
    """``text`` with bearer tokens, keys, passwords and logins in addresses replaced by ``***``."""
    return _URL_LOGIN.sub(r"\1***@", _SECRET.sub(r"\1***", text))


class _Masked(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


def get_logger(name: str) -> logging.Logger:
    """The logger of one module, below ``modelmill``."""
    return logging.getLogger(f"modelmill.{name.removeprefix('components.')}")


def configure(verbose: bool = False) -> None:
    """Send the house's log lines to standard error; called once by the command line."""
    root = logging.getLogger("modelmill")
    root.handlers.clear()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Masked("%(levelname).1s %(name)s: %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbose else logging.WARNING)
    root.propagate = False
