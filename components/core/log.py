"""Logging to standard error below one root logger, with secrets masked."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from typing import TextIO

ROOT_LOGGER = "modelmill"
"""Parent of all loggers of the product."""
_SECRET = re.compile(
    r"(?i)(authorization:\s*bearer\s+|(?:api[_-]?key|token|password|secret)[\"']?\s*[=:]\s*[\"']?)"
    r"([^\s\"',;&]+)"
)
_URL_LOGIN = re.compile(r"(://)([^/\s:@]+):([^/\s@]+)@")
_concealed: dict[str, str] = {}
"""Secret read from the environment -> text shown in its place."""


def conceal_secret(secret: str, placeholder: str) -> None:
    """Have ``mask_secrets`` replace ``secret`` by ``placeholder`` from now on."""
    if secret:
        _concealed[secret] = placeholder


def mask_secrets(text: str) -> str:
    """``text`` with bearer tokens, keys, passwords and logins in addresses replaced by ``***``.

    Secrets of the environment are replaced by their names (``conceal_secret``).
    """
    for secret, shown in _concealed.items():
        text = text.replace(secret, shown)
    return _URL_LOGIN.sub(r"\1***@", _SECRET.sub(r"\1***", text))


class MaskingFormatter(logging.Formatter):
    """Formatter that masks secrets in each line."""

    def format(self, record: logging.LogRecord) -> str:
        return mask_secrets(super().format(record))


def get_logger(name: str) -> logging.Logger:
    """Logger of one module, below ``modelmill``."""
    return logging.getLogger(f"{ROOT_LOGGER}.{name.removeprefix('components.')}")


class _StandardErrorHandler(logging.StreamHandler[TextIO]):
    """Handler of the current ``sys.stderr``, which a live display replaces meanwhile."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def configure_logging(verbose: bool = False, verbose_modules: Sequence[str] = ()) -> None:
    """Send log lines to standard error; called once by the command line.

    Args:
        verbose: show all levels instead of warnings and errors.
        verbose_modules: modules whose information is shown as well.
    """
    root = logging.getLogger(ROOT_LOGGER)
    root.handlers.clear()
    handler = _StandardErrorHandler(sys.stderr)
    handler.setFormatter(MaskingFormatter("%(levelname).1s %(name)s: %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbose else logging.WARNING)
    root.propagate = False
    for name in verbose_modules:
        get_logger(name).setLevel(logging.INFO)
