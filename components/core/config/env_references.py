"""References to environment variables in a config: ``${NAME}``; ``$${NAME}`` is literal text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from components.core import log
from components.core.environment import environment_variable
from components.core.errors import ConfigError

_REFERENCE = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_NAME = re.compile(
    r"(?i)(^|_)(api)?(keys?|tokens?|secrets?|pass|passwords?|passwd|passphrases?|pwd|pat|dsn|credentials?|login|auth)(_|$)"
)
_MIN_CONCEALED_CHARS = 8


def list_references(text: str) -> Iterator[str]:
    """Names of the variables that ``text`` refers to, in order."""
    return (match[2] for match in _REFERENCE.finditer(text) if not match[1])


def resolve_references(text: str) -> str:
    """``text`` with its references resolved; logs and messages show secret values as ``${NAME}``.

    Raises:
        ConfigError: one is not set.
    """

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        resolved = environment_variable(match[2])
        if resolved is None:
            raise ConfigError(f"{match[0]} is not set in the environment")
        if is_secret(match[2], resolved):
            log.conceal_secret(resolved, match[0])
        return resolved

    return _REFERENCE.sub(value, text)


def resolve_secret(text: str) -> str:
    """``text`` with its references resolved; logs and messages show it as it was written.

    A short value is shown: hidden, it would be so wherever else it stands.

    Raises:
        ConfigError: one is not set.
    """
    resolved = resolve_references(text)
    if resolved != text and len(resolved) >= _MIN_CONCEALED_CHARS:
        log.conceal_secret(resolved, text)
    return resolved


def is_secret(name: str, value: str) -> bool:
    """True if a variable's name marks a secret, or its value is an address with a login."""
    return bool(_SECRET_NAME.search(name)) or log.mask_secrets(value) != value
